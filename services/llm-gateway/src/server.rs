//! The gRPC adapter: convert, call, convert back.

mod patterns;

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use caching::Sizing;
use clock::Clock;
use contracts::llm::{
    self as wire, cache_admin_service_server as cache_server, llm_gateway_service_server as gateway_server,
    pattern_service_server as pattern_server,
};
use embedding::Embedder;
use futures::{Stream, StreamExt as _};
use rpc::{BreakerOptions, Caller, Role, limit::Bounds};
use telemetry::Telemetry;
use tonic::{Request, Response, Status};

use crate::{
    cache::{
        Room,
        bands::{self, Tolerances},
        semantic::Decision,
    },
    config::Config,
    convert, dialect,
    error::Error,
    gateway::{Gateway, Parts},
    price::Price,
    provider::{Dialect, Endpoint, Options, Telling},
    route::{Any, Bounding, Built, Models, OPENAI, Routes, Upstream},
    semantic,
    tenant::Tenants,
};

/// The name under which health tells whether the upstream answers, where there is one; its own name follows where it comes from
/// `llm_routes`.
const UPSTREAM: &str = "athena.llm.v1.LlmGatewayService/upstream";

/// A gateway that listens and serves nothing yet.
#[derive(Debug)]
pub struct Bound {
    host: rpc::Host,
    local_addr: SocketAddr,
    gateway: Arc<Gateway>,
}

#[derive(Clone, Debug)]
struct Service {
    gateway: Arc<Gateway>,
    max_observations: usize,
    /// How far answers may be off where a request does not say.
    bands: Tolerances,
}

type Pieces = Pin<Box<dyn Stream<Item = Result<wire::GenerateStreamResponse, Status>> + Send>>;

/// Opens the listener of a gateway and puts it together; nothing is served before [`Bound::run`].
///
/// # Errors
/// [`Error`] if the port is taken, the pattern templates are wrong or the upstream's settings are.
pub async fn bind(config: Config, telemetry: Telemetry, clock: Clock) -> Result<Bound, Error> {
    let (gateway, upstreams) = gateway(&config, &telemetry, &clock).await?;
    let service = Service {
        gateway: Arc::new(gateway),
        max_observations: config.llm_max_observations,
        bands: config.bands(),
    };
    let host = rpc::Host::bind(&config.host, config.llm_port, telemetry, clock)?;
    let local_addr = host.local_addr();
    let gateway = service.gateway.clone();
    let mut host = host
        .api(dialect::API, dialect::routes(gateway.clone()))
        .add(gateway_server::LlmGatewayServiceServer::new(service.clone()))
        .add_admin(cache_server::CacheAdminServiceServer::new(service.clone()))
        .add_admin(pattern_server::PatternServiceServer::new(service));
    for (part, upstream) in upstreams {
        host = host.part(&part, rpc::outcomes(upstream.answers()));
    }
    Ok(Bound { host, local_addr, gateway })
}

/// Puts a gateway together that is called directly and serves nobody.
///
/// # Errors
/// [`Error`] if the pattern templates are wrong or the upstream's settings are.
pub async fn assemble(config: &Config, telemetry: &Telemetry, clock: &Clock) -> Result<Gateway, Error> {
    Ok(gateway(config, telemetry, clock).await?.0)
}

impl Bound {
    /// Returns the address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` completes, then drains.
    ///
    /// # Errors
    /// [`Error::Serve`] if the server fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        self.host.health().serving();
        let served = tokio::select! {
            served = self.host.run(shutdown) => served,
            never = patterns::keep_up(Arc::clone(&self.gateway)) => match never {},
        };
        self.gateway.patterns.close().await;
        Ok(served?)
    }
}

/// Upstreams with the names of their health.
type Parted = Vec<(String, Arc<Upstream>)>;

/// Makes the upstream of the settings, which takes every model that no route names.
fn any(
    config: &Config,
    bounding: Bounding,
    telling: &Telling,
    telemetry: &Telemetry,
) -> Result<Option<Any>, Error> {
    let Some(url) = config.llm_upstream_url.clone() else { return Ok(None) };
    let options = Options {
        dialect: Dialect::OpenAi,
        url,
        key: config.llm_api_key.clone(),
        timeout: config.llm_timeout,
        // Chat completions demand none.
        max_output_tokens: u32::MAX,
    };
    let endpoint = Endpoint::new(OPENAI, &options, telling, telemetry)?;
    let price = Price {
        input_per_mtok: config.llm_price_input_per_mtok,
        cached_input_per_mtok: config
            .llm_price_cached_input_per_mtok
            .unwrap_or(config.llm_price_input_per_mtok),
        output_per_mtok: config.llm_price_output_per_mtok,
    };
    let upstream = Upstream::new(OPENAI, endpoint, bounding, telemetry);
    Ok(Some(Any { upstream, price, retries: config.llm_max_retries }))
}

/// Returns what holds calls to an upstream back where `llm_routes` says nothing of it.
fn bounding(config: &Config) -> Bounding {
    let bounds = Bounds {
        running: config.llm_max_concurrent_calls,
        queued: config.llm_max_queued_calls,
        wait: config.llm_max_queue_wait,
    };
    let breaker = BreakerOptions { failures: config.llm_breaker_failures, ..BreakerOptions::default() };
    Bounding { bounds, retry_percent: config.llm_retry_percent, breaker }
}

fn room(config: &Config) -> Room {
    let size = config.llm_cache_size;
    Room {
        size,
        sizing: Sizing {
            least: config.llm_cache_min_size.min(size),
            most: config.llm_cache_max_size.max(size),
            auto: config.llm_cache_auto_resize,
        },
        max_bytes: config.llm_cache_max_bytes.bytes(),
        ttl: config.llm_cache_ttl,
    }
}

fn band_limits(config: &Config) -> bands::Limits {
    bands::Limits {
        // An entity without a stored answer is of no use, so no more of them than there may be answers.
        entities: config.llm_cache_max_size.max(config.llm_cache_size),
        answers: config.llm_band_answers,
        max_bytes: config.llm_band_max_bytes.bytes(),
        ttl: config.llm_cache_ttl,
    }
}

fn semantic(config: &Config, embedder: &dyn Embedder) -> semantic::Options {
    let decision = Decision::shipped(embedder.name(), embedder.dimensions());
    semantic::Options {
        mode: config.llm_semantic,
        decision: match config.llm_semantic_threshold {
            Some(threshold) => decision.with_threshold(threshold as f32),
            None => decision,
        },
        limits: semantic::Limits {
            questions: config.llm_semantic_questions,
            per_partition: config.llm_semantic_partition,
            bytes: config.llm_semantic_max_bytes.bytes().try_into().unwrap_or(usize::MAX),
        },
        verifier: config.llm_semantic_verifier.clone().unwrap_or_default(),
    }
}

async fn embedder(config: &Config) -> Result<Arc<dyn Embedder>, Error> {
    let choice: embedding::Choice = config.llm_embedder.parse().map_err(Error::EmbedderSetting)?;
    Ok(choice.embedder(&config.embedder, None).await?)
}

async fn gateway(config: &Config, telemetry: &Telemetry, clock: &Clock) -> Result<(Gateway, Parted), Error> {
    let routes = match &config.llm_routes {
        None => Routes::default(),
        Some(path) => Routes::load(path).await?,
    };
    let embedder = embedder(config).await?;
    let bounding = bounding(config);
    let telling =
        Telling::new(telemetry, usize::try_from(config.llm_told_bytes.bytes()).unwrap_or(usize::MAX));
    let any = any(config, bounding.clone(), &telling, telemetry)?;
    let Built { upstreams, models } = routes.build(config.llm_max_retries, &bounding, &telling, telemetry)?;
    let is_budgeted = routes.tenants.iter().any(|tenant| tenant.usd_per_day.is_some());
    if is_budgeted && any.as_ref().is_some_and(|any| any.price == Price::default()) {
        return Err(Error::Unpriced);
    }
    let models = Models::new(&config.llm_model, models, any.clone())?;
    if let Some(verifier) = &config.llm_semantic_verifier
        && models.resolve(verifier).map_or(true, |model| model.is_free())
    {
        return Err(Error::Verifier(verifier.clone()));
    }
    let named = upstreams.into_iter().map(|upstream| (format!("{UPSTREAM}/{}", upstream.name()), upstream));
    let simple = any.iter().map(|any| (UPSTREAM.to_owned(), any.upstream.clone()));
    let parts = simple.chain(named).collect();
    let gateway = Gateway::new(Parts {
        models,
        tenants: Tenants::new(routes.tenants, clock.clone(), telemetry),
        patterns: patterns::open(config, telemetry, clock).await?,
        merging: config.merging(),
        cache: room(config),
        bands: band_limits(config),
        semantic: semantic(config, &*embedder),
        embedder,
        embedding_cache_size: config.llm_embedding_cache_size,
        clock: clock.clone(),
        telemetry: telemetry.clone(),
    });
    Ok((gateway, parts))
}

#[tonic::async_trait]
impl gateway_server::LlmGatewayService for Service {
    async fn generate(
        &self,
        request: Request<wire::GenerateRequest>,
    ) -> Result<Response<wire::GenerateResponse>, Status> {
        let (terms, conversation) = convert::generate(Caller::of(&request), request.into_inner())?;
        let generated = self.gateway.generate(&terms, &conversation).await?;
        Ok(Response::new(convert::generated(generated)))
    }

    type GenerateStreamStream = Pieces;

    async fn generate_stream(
        &self,
        request: Request<wire::GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let (terms, conversation) = convert::generate_stream(Caller::of(&request), request.into_inner())?;
        let mut pieces = self.gateway.generate_stream(terms, conversation)?;
        let stream = futures::stream::poll_fn(move |context| pieces.poll_recv(context));
        let stream = stream.filter_map(|part| async {
            part.map_err(Into::<Status>::into).map(convert::stream_part).transpose()
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn analyze(
        &self,
        request: Request<wire::AnalyzeRequest>,
    ) -> Result<Response<wire::AnalyzeResponse>, Status> {
        let caller = Caller::of(&request);
        let (terms, inquiry) =
            convert::analyze(caller, request.into_inner(), self.max_observations, &self.bands)?;
        let report = self.gateway.analyze(&terms, &inquiry).await?;
        let doubtful = self.gateway.doubtful(&inquiry, &report);
        let ids = inquiry.observations.into_iter().map(|seen| seen.id).collect();
        if let Some(doubtful) = doubtful {
            let gateway = Arc::clone(&self.gateway);
            let telemetry = gateway.telemetry.clone();
            // Apart: its span must not wait for it, nor tell of it.
            drop(telemetry.spawn_apart(async move { gateway.verify(terms, doubtful).await }));
        }
        Ok(Response::new(convert::report(report, ids)))
    }
}

#[tonic::async_trait]
impl cache_server::CacheAdminService for Service {
    async fn get_stats(
        &self,
        request: Request<wire::GetStatsRequest>,
    ) -> Result<Response<wire::GetStatsResponse>, Status> {
        Caller::of(&request).require(Role::Admin)?;
        let cache = &self.gateway.cache;
        let totals = self.gateway.meter.totals();
        let tenants = self.gateway.tenants.usage();
        let semantic = convert::compared(&self.gateway.semantic, self.gateway.embedder.name());
        Ok(Response::new(convert::stats(cache, totals, tenants, semantic)))
    }

    async fn calibrate(
        &self,
        request: Request<wire::CalibrateRequest>,
    ) -> Result<Response<wire::CalibrateResponse>, Status> {
        Caller::of(&request).require(Role::Admin)?;
        let (pairs, most) = convert::pairs(request.into_inner())?;
        let calibration = self.gateway.calibrate(&pairs, most).await?;
        Ok(Response::new(convert::calibrated(calibration, self.gateway.embedder.name())))
    }

    async fn invalidate(
        &self,
        request: Request<wire::InvalidateRequest>,
    ) -> Result<Response<wire::InvalidateResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Admin)?;
        let removed = match convert::condemned(request.into_inner())? {
            convert::Condemned::Model(model) => {
                let model = self.gateway.models.stored_name(&model);
                let removed = self.gateway.cache.invalidate(&caller.tenant, &model);
                self.gateway.bands.invalidate(&caller.tenant, &model);
                removed
            }
            convert::Condemned::Answer(id) => self.gateway.cache.invalidate_answer(&caller.tenant, &id),
        };
        self.gateway.semantic.forget(|answer| self.gateway.cache.is_gone(answer));
        Ok(Response::new(wire::InvalidateResponse { removed }))
    }

    async fn resize(
        &self,
        request: Request<wire::ResizeRequest>,
    ) -> Result<Response<wire::ResizeResponse>, Status> {
        Caller::of(&request).require(Role::Admin)?;
        let capacity = convert::capacity(request.into_inner())?;
        let previous = self.gateway.cache.resize(capacity);
        Ok(Response::new(convert::resized(previous, capacity)))
    }
}
