//! The adapter of the templates, and their upkeep while the gateway serves.

use std::{convert::Infallible, sync::Arc, time::Duration};

use clock::Clock;
use contracts::llm::{self as wire, pattern_service_server::PatternService};
use rpc::{Caller, Code, Fault, Role};
use telemetry::Telemetry;
use tonic::{Request, Response, Status};

use super::Service;
use crate::{
    config::Config,
    convert,
    error::Error,
    gateway::Gateway,
    pattern::{Limits, Options, Patterns, Source, Store},
};

/// Time between two looks at the file, and between two writes of what changed.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the templates and what an earlier process learned about them.
pub(super) async fn open(config: &Config, telemetry: &Telemetry, clock: &Clock) -> Result<Patterns, Error> {
    let bytes = |size: config::ByteSize| usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    let options = Options {
        history: Limits {
            subjects: config.llm_history_subjects,
            points: config.llm_history_points,
            bytes: bytes(config.llm_history_bytes),
        },
        matches: config.llm_pattern_matches,
        verify: config.llm_pattern_verify,
        publish_by_hand: false,
    };
    let (folder, source) = (config.llm_dir.clone(), Source::new(config.llm_patterns.clone()));
    let journal = config.journal.options(config.llm_journal_cache);
    let (telemetry, clock) = (telemetry.clone(), clock.clone());
    let task = telemetry.clone().spawn_blocking(move || {
        let store = folder.map(|folder| Store::open(&folder, &journal)).transpose()?;
        Ok(Patterns::new(source, options, store, clock, &telemetry)?)
    });
    task.await.map_err(Error::Task)?
}

/// Looks at the template file and writes what changed, over and over.
pub(super) async fn keep_up(gateway: Arc<Gateway>) -> Infallible {
    let mut is_broken = false;
    loop {
        tokio::time::sleep(LOOK).await;
        look(&gateway).await;
        let failed = gateway.patterns.flush().await.err();
        match &failed {
            Some(error) if !is_broken => {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "what patterns learned is not written"
                );
            }
            None if is_broken => tracing::info!("what patterns learned is written again"),
            _ => {}
        }
        is_broken = failed.is_some();
    }
}

/// Takes the templates of the file as it is now.
async fn look(gateway: &Arc<Gateway>) {
    let looking = Arc::clone(gateway);
    let task = gateway.telemetry.spawn_blocking(move || looking.patterns.look());
    if let Err(error) = task.await {
        tracing::error!(error = &error as &dyn std::error::Error, "the pattern file was not looked at");
    }
}

#[tonic::async_trait]
impl PatternService for Service {
    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        // Whoever has just replaced the file sees what came of it.
        look(&self.gateway).await;
        let patterns = &self.gateway.patterns;
        Ok(Response::new(convert::patterns(
            patterns.list(&tenant),
            patterns.status(),
            patterns.remembered(&tenant),
        )))
    }

    async fn evaluate(
        &self,
        request: Request<wire::EvaluateRequest>,
    ) -> Result<Response<wire::EvaluateResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let observation = convert::observation_of(request.into_inner())?;
        Ok(Response::new(convert::tried(self.gateway.patterns.evaluate(&tenant, &observation))))
    }

    async fn report_outcome(
        &self,
        request: Request<wire::ReportOutcomeRequest>,
    ) -> Result<Response<wire::ReportOutcomeResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let (named, came_true) = convert::outcome(request.into_inner())?;
        let patterns = &self.gateway.patterns;
        let unknown = || {
            Fault::new(Code::NotFound, "there is no such match, or it is forgotten").reason("MATCH_UNKNOWN")
        };
        let id = named.id_by(|name| patterns.id_of(&tenant, &name)).ok_or_else(unknown)?;
        let told =
            patterns.report(&tenant, id, came_true).await.map_err(Error::Learned)?.ok_or_else(unknown)?;
        Ok(Response::new(convert::told(told, id)))
    }

    async fn reinstate(
        &self,
        request: Request<wire::ReinstateRequest>,
    ) -> Result<Response<wire::ReinstateResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Admin)?;
        let pattern = convert::reinstated(request.into_inner())?;
        if !self.gateway.patterns.reinstate(&caller.tenant, &pattern).await.map_err(Error::Learned)? {
            return Err(Fault::new(Code::NotFound, "no template has this name")
                .reason("PATTERN_UNKNOWN")
                .into());
        }
        Ok(Response::new(wire::ReinstateResponse {}))
    }
}
