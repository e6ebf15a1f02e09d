//! The orchestrator over real gRPC, with fakes for the other four services.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod disk;
mod fakes;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clock::Clock;
use contracts::agent::{
    Completeness, Cycle, GetCycleRequest, ListCyclesRequest, RunCycleRequest, Stage, StageReport,
    WatchCyclesRequest, orchestrator_service_client::OrchestratorServiceClient,
};
use futures::StreamExt as _;
use orchestrator::{Config, Sources, bind_with_source, source::replay};
use rpc::{Channel, ChannelOptions, Client as _, Code};
use telemetry::Telemetry;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::Status;

use crate::fakes::World;

type Client = OrchestratorServiceClient<Channel>;

/// An orchestrator in a folder of its own.
struct Agent {
    client: Client,
    telemetry: Telemetry,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), orchestrator::Error>>,
    folder: TempDir,
}

impl Agent {
    async fn start(world: &Arc<World>, sources: Sources) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), world, sources, |_| {}).await
    }

    async fn start_in(
        folder: TempDir,
        world: &Arc<World>,
        sources: Sources,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(folder.path(), &format!("http://{}", world.serve()));
        change(&mut config);
        let telemetry = Telemetry::silent("orchestrator");
        let bound = bind_with_source(config, sources, telemetry.clone(), Clock::system()).await.unwrap();
        let url = format!("http://{}", bound.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = telemetry.spawn(bound.run(async { drop(stopped.await) }));
        let options = ChannelOptions { retries: 0, ..ChannelOptions::default() };
        let channel = Channel::lazy(&url, options, Telemetry::silent("test")).unwrap();
        let agent = Self { client: Client::over(channel), telemetry, stop, ended, folder };
        agent.serving().await;
        agent
    }

    /// Waits until calls are answered.
    async fn serving(&self) {
        while let Err(status) = self.client.clone().list_cycles(ListCyclesRequest::default()).await {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            tokio::task::yield_now().await;
        }
    }

    async fn run(&self) -> Result<Cycle, Status> {
        self.run_as("").await
    }

    async fn run_as(&self, agent: &str) -> Result<Cycle, Status> {
        let request = RunCycleRequest { agent_id: agent.into(), deadline: None };
        Ok(self.client.clone().run_cycle(request).await?.into_inner().cycle.unwrap())
    }

    async fn run_within(&self, deadline: Duration) -> Result<Cycle, Status> {
        let deadline = Some(rpc::time::duration_to_proto(deadline));
        let request = RunCycleRequest { agent_id: String::new(), deadline };
        Ok(self.client.clone().run_cycle(request).await?.into_inner().cycle.unwrap())
    }

    async fn listed(&self) -> Vec<u64> {
        let answer = self.client.clone().list_cycles(ListCyclesRequest::default()).await.unwrap();
        answer.into_inner().cycles.iter().map(|cycle| cycle.number).collect()
    }

    async fn end(self) -> TempDir {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
        self.folder
    }
}

fn config(folder: &Path, url: &str) -> Config {
    Config {
        agent_port: 0,
        agent_dir: folder.into(),
        agent_llm_url: url.into(),
        agent_memory_url: url.into(),
        agent_storage_url: url.into(),
        agent_monitor_url: url.into(),
        ..Config::defaults()
    }
}

/// Makes a recording of `days` with `pools` pools of the given APR, and gas.
fn recording(days: u32, pools: u32, apr: impl Fn(u32, u32) -> f64) -> Sources {
    let mut csv = "timestamp,pool,protocol_slug,chain,symbol,tvl_usd,apy\n".to_owned();
    let mut gas = "Timestamp,GasPrice\n".to_owned();
    for day in 1..=days {
        for pool in 0..pools {
            let apr = apr(day, pool);
            csv.push_str(&format!("2025-08-{day:02},p{pool:03},aero,Base,S{pool},{}e6,{apr}\n", pool + 1));
        }
        gas.push_str(&format!("2025-08-{day:02} 00:00:00,{}.5\n", day % 3));
    }
    replay::from_csv(csv.as_bytes(), gas.as_bytes(), 0, 1).unwrap()
}

fn high(days: u32, pools: u32) -> Sources {
    recording(days, pools, |day, pool| f64::from(30 + day + pool))
}

fn stage(cycle: &Cycle, stage: Stage) -> &StageReport {
    cycle.stages.iter().find(|it| it.stage() == stage).unwrap()
}

#[tokio::test]
async fn a_cycle_reaches_every_service_and_comes_back_complete() {
    let world = World::new();
    let agent = Agent::start(&world, high(2, 3)).await;
    let cycle = agent.run().await.unwrap();
    assert_eq!(cycle.completeness(), Completeness::Complete, "{:?}", cycle.stages);
    assert_eq!((cycle.number, cycle.pools, cycle.interesting, cycle.recalls), (1, 3, 3, 7));
    assert_eq!(cycle.recorded_date, "2025-08-01");
    assert_eq!(cycle.agent_id, "agent");
    assert_eq!(cycle.trace_id.len(), 32);
    assert_eq!((cycle.served["merged"], cycle.upstream_calls), (4, 1));
    assert_eq!((cycle.model.as_str(), cycle.cost_usd), ("builtin/statistics", 0.25));
    assert_eq!(cycle.missed_targets, ["cache_hit_rate"]);
    assert_eq!(cycle.decisions.len(), 4);
    let analyses = world.analyses.lock();
    assert_eq!(analyses.len(), 1, "one call for all observations");
    let gas = analyses[0].observations.iter().find(|it| it.r#type == "gas").unwrap();
    assert_eq!((gas.subject.as_str(), gas.values["gas_price"]), ("Ethereum", 1.5));
    let samples = world.samples.lock();
    let recorded: Vec<_> = samples.iter().map(|it| (it.collection.as_str(), it.samples.len())).collect();
    assert!(
        recorded.contains(&("pool_metrics", 3)) && recorded.contains(&("gas_metrics", 1)),
        "{recorded:?}"
    );
    assert_eq!(world.writes.lock()[0].writes.len(), 2);
    assert_eq!(world.memories.lock().len(), 5, "market, gas and three pools");
}

#[tokio::test]
async fn what_was_learned_is_recalled_in_the_next_cycle() {
    let world = World::new();
    let agent = Agent::start(&world, high(2, 1)).await;
    agent.run().await.unwrap();
    let second = agent.run().await.unwrap();
    let label = &world.analyses.lock()[1].observations[0].labels["remembered"];
    assert_eq!(label, "candidate on 1 of the last 7 days; like patterns known");
    assert!(second.decisions[1].action.contains("seen on 1 of the last 7 days"), "{:?}", second.decisions);
}

#[tokio::test]
async fn answers_about_close_figures_are_asked_for_where_a_setting_says_so() {
    let world = World::new();
    let usual = Agent::start(&world, high(1, 1)).await;
    usual.run().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let banded =
        Agent::start_in(folder, &world, high(1, 1), |config| config.agent_band_tolerance = 0.1).await;
    banded.run().await.unwrap();
    let analyses = world.analyses.lock();
    assert_eq!(analyses[0].bands, None);
    let bands = analyses[1].bands.as_ref().unwrap();
    assert_eq!((bands.tolerance, bands.fields.len()), (Some(0.1), 0));
    assert_eq!(bands.ignored, ["remembered", "pool_age_days"]);
}

#[tokio::test]
async fn forty_one_recalls_are_under_way_at_once() {
    let world = World::new();
    // No recall is answered before all have arrived.
    world.gate.forget_permits(usize::MAX);
    let agent = Agent::start(&world, high(1, 25)).await;
    let released = {
        let world = Arc::clone(&world);
        agent.telemetry.spawn(async move {
            while world.recalls.load(Ordering::SeqCst) < 41 {
                tokio::task::yield_now().await;
            }
            world.gate.add_permits(41);
        })
    };
    let cycle = agent.run().await.unwrap();
    released.await.unwrap();
    assert_eq!((cycle.recalls, cycle.interesting), (41, 20));
    assert_eq!(world.most_recalls.load(Ordering::SeqCst), 41);
    assert_eq!(stage(&cycle, Stage::Recall).completeness(), Completeness::Complete);
    let cut = cycle.input_warnings.iter().find(|it| it.kind == "cut").unwrap();
    assert_eq!((cut.affected, cut.readings), (5, 25));
}

#[tokio::test]
async fn a_silent_recall_is_labelled_and_the_cycle_keeps_its_deadline() {
    let world = World::new();
    *world.silent_pool.lock() = Some("p001".into());
    let agent = Agent::start(&world, high(1, 2)).await;
    let cycle = agent.run_within(Duration::from_secs(2)).await.unwrap();
    assert_eq!(cycle.completeness(), Completeness::Partial);
    let recall = stage(&cycle, Stage::Recall);
    let failed: Vec<_> = recall.failures.iter().map(|it| (it.branch.as_str(), it.code.as_str())).collect();
    assert_eq!(failed, [("recall pool S1 (aero)", "DEADLINE_EXCEEDED")]);
    let duration = rpc::time::duration_from_proto(&cycle.duration.unwrap(), "duration").unwrap();
    assert!(duration < Duration::from_secs(2), "{duration:?}");
    let inputs: Vec<_> =
        cycle.decisions[1..].iter().map(|it| (it.subject_id.as_str(), it.inputs())).collect();
    assert!(
        inputs.contains(&("p001", Completeness::Partial))
            && inputs.contains(&("p000", Completeness::Complete))
    );
    let timeouts = world.timeouts.lock();
    assert!(timeouts.iter().all(|it| it.is_some_and(|left| left < Duration::from_secs(2))), "{timeouts:?}");
}

#[tokio::test]
async fn a_gateway_that_gave_up_on_its_upstream_is_not_asked_again() {
    let world = World::new();
    *world.llm_down.lock() = true;
    let agent = Agent::start(&world, high(1, 2)).await;
    let cycle = agent.run().await.unwrap();
    assert_eq!(stage(&cycle, Stage::Analyse).failures[0].code, "UNAVAILABLE");
    assert_eq!(world.analyses.lock().len(), 1);
}

#[tokio::test]
async fn dead_services_leave_a_partial_cycle() {
    let world = World::new();
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start_in(folder, &world, high(1, 2), |config| {
        config.agent_llm_url = nobody.clone();
        config.agent_monitor_url = nobody;
    })
    .await;
    *world.storage_down.lock() = true;
    let cycle = agent.run().await.unwrap();
    assert_eq!(cycle.completeness(), Completeness::Partial);
    let analyse = stage(&cycle, Stage::Analyse);
    assert_eq!(analyse.completeness(), Completeness::Failed);
    assert_eq!(analyse.failures[0].code, "UNAVAILABLE");
    assert_eq!(stage(&cycle, Stage::Recall).failures[0].branch, "targets");
    let store = stage(&cycle, Stage::Store);
    assert_eq!(store.completeness(), Completeness::Partial);
    assert_eq!(store.failures[0].code, "RESOURCE_EXHAUSTED");
    assert_eq!(store.failures[0].message, "the journal is full");
    assert!(cycle.decisions.iter().all(|it| it.inputs() == Completeness::Partial));
}

#[tokio::test]
async fn an_apr_of_zero_everywhere_is_reported_and_counted() {
    let agent = Agent::start(&World::new(), recording(1, 3, |_, _| 0.0)).await;
    let cycle = agent.run().await.unwrap();
    let warning = &cycle.input_warnings[0];
    assert_eq!((warning.kind.as_str(), warning.field.as_str(), warning.affected), ("all_zero", "apr", 3));
    assert!(cycle.decisions.iter().any(|it| it.rule == "distrust_input"));
    let text = agent.telemetry.prometheus_text();
    let counted = text.lines().find(|line| line.contains("degenerate_input") && line.contains("all_zero"));
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{text}");
    assert!(text.contains("athena_agent_cycle_duration_seconds_count{completeness=\"complete\""), "{text}");
}

#[tokio::test]
async fn a_second_cycle_of_an_agent_is_refused_while_one_runs() {
    let world = World::new();
    world.gate.forget_permits(usize::MAX);
    let agent = Agent::start(&world, high(3, 1)).await;
    let mut client = agent.client.clone();
    let first = agent.telemetry.spawn(async move { client.run_cycle(RunCycleRequest::default()).await });
    while world.recalls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.run().await.unwrap_err().code(), Code::Aborted);
    world.gate.add_permits(1000);
    assert_eq!(agent.run_as("another").await.unwrap().number, 1, "another agent does not wait");
    assert_eq!(first.await.unwrap().unwrap().into_inner().cycle.unwrap().number, 1);
    assert_eq!(agent.run().await.unwrap().number, 2);
}

#[tokio::test]
async fn a_cycle_is_finished_and_recorded_when_its_caller_leaves() {
    let world = World::new();
    world.gate.forget_permits(usize::MAX);
    let agent = Agent::start(&world, high(3, 1)).await;
    let mut client = agent.client.clone();
    let call = agent.telemetry.spawn(async move { client.run_cycle(RunCycleRequest::default()).await });
    while world.recalls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    call.abort();
    world.gate.add_permits(1000);
    while agent.listed().await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.listed().await, [1]);
}

#[tokio::test]
async fn a_recording_ends_out_of_range() {
    let agent = Agent::start(&World::new(), high(1, 1)).await;
    agent.run().await.unwrap();
    assert_eq!(agent.run().await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(agent.listed().await, [1]);
}

#[tokio::test]
async fn a_restart_keeps_cycles_and_goes_on_where_it_was() {
    let world = World::new();
    let agent = Agent::start(&world, high(3, 1)).await;
    let first = agent.run().await.unwrap();
    let folder = agent.end().await;
    let agent = Agent::start_in(folder, &world, high(3, 1), |_| {}).await;
    let request = GetCycleRequest { cycle_id: first.cycle_id.clone() };
    let kept = agent.client.clone().get_cycle(request).await.unwrap().into_inner().cycle.unwrap();
    assert_eq!(kept, first);
    let second = agent.run().await.unwrap();
    assert_eq!((second.number, second.recorded_date.as_str()), (2, "2025-08-02"));
    assert!(second.cycle_id > first.cycle_id);
    assert_eq!(agent.listed().await, [2, 1]);
}

#[tokio::test]
async fn a_bad_request_names_its_field() {
    let agent = Agent::start(&World::new(), high(1, 1)).await;
    let refused = agent.run_as(&"x".repeat(129)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("agent_id"), "{refused:?}");
    let missing = GetCycleRequest { cycle_id: "none".into() };
    assert_eq!(agent.client.clone().get_cycle(missing).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_watcher_sees_cycles_of_its_agent_until_the_drain() {
    let agent = Agent::start(&World::new(), high(3, 1)).await;
    let request = WatchCyclesRequest { agent_id: "one".into() };
    let mut watch = agent.client.clone().watch_cycles(request).await.unwrap().into_inner();
    agent.run_as("two").await.unwrap();
    let ran = agent.run_as("one").await.unwrap();
    let seen = watch.next().await.unwrap().unwrap();
    assert_eq!((seen.cycle.unwrap().cycle_id, seen.missed), (ran.cycle_id, 0));
    agent.end().await;
    assert!(watch.next().await.is_none_or(|end| end.is_err()));
}

#[tokio::test]
async fn an_interval_on_the_agent_clock_runs_cycles_by_itself() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = Clock::manual(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let config = Config {
        agent_interval: Duration::from_secs(300),
        ..config(folder.path(), &format!("http://{}", world.serve()))
    };
    let telemetry = Telemetry::silent("orchestrator");
    let bound = bind_with_source(config, high(3, 1), telemetry.clone(), clock).await.unwrap();
    let url = format!("http://{}", bound.local_addr());
    telemetry.spawn(bound.run(std::future::pending()));
    let channel = Channel::lazy(&url, ChannelOptions::default(), Telemetry::silent("test")).unwrap();
    let mut client = Client::over(channel);
    for cycles in 1..=2 {
        loop {
            let listed = client.list_cycles(ListCyclesRequest::default()).await;
            let listed = listed.map(|it| it.into_inner().cycles.len()).unwrap_or_default();
            assert!(listed <= cycles, "a cycle before its time");
            if listed == cycles {
                break;
            }
            tokio::task::yield_now().await;
        }
        hand.advance(Duration::from_secs(300));
    }
}
