//! A service that is not there costs its part of a cycle, and the cycle says which part.

use std::time::Duration;

use athena::{Service, data};
use contracts::agent::{
    Completeness, Cycle, RunCycleRequest, Stage, orchestrator_service_client::OrchestratorServiceClient,
};
use orchestrator::source::replay;
use rpc::{Channel, ChannelOptions, Client as _, Serving};
use telemetry::Telemetry;
use tests::House;
use tokio::sync::oneshot;

/// Runs a cycle of another orchestrator beside the house's own, which knows `dead` at an address where nobody listens.
async fn cycle_without(house: &House, dead: Service) -> Cycle {
    let nobody = testkit::port_nobody_listens_on();
    let url = |service| if service == dead { nobody.url() } else { house.mesh.url(service) };
    let config = orchestrator::Config {
        agent_port: 0,
        agent_dir: house.folder().join(format!("without-{dead}")),
        agent_llm_url: url(Service::LlmGateway),
        agent_memory_url: url(Service::MemoryService),
        agent_storage_url: url(Service::StorageBatcher),
        agent_monitor_url: url(Service::Monitor),
        ..orchestrator::Config::defaults()
    };
    let pools = data::pools().unwrap();
    let source = replay::from_csv(&pools, data::gas(), data::HISTORY_DAYS, data::LEAST_POOLS);
    let telemetry = Telemetry::silent("orchestrator");
    let clock = house.clock.clone();
    let bound =
        orchestrator::bind_with_source(config, source.unwrap(), telemetry.clone(), clock).await.unwrap();
    let url = format!("http://{}", bound.local_addr());
    let channel = Channel::lazy(&url, ChannelOptions::default(), telemetry.clone()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = telemetry.spawn(bound.run(async { drop(stopped.await) }));
    tests::until_serving(channel.clone(), Service::Orchestrator).await.unwrap();
    only_lost(&channel, dead).await;
    let response = OrchestratorServiceClient::over(channel).run_cycle(RunCycleRequest::default()).await;
    drop(stop);
    running.await.unwrap().unwrap();
    response.unwrap().into_inner().cycle.unwrap()
}

/// Waits until health tells the one peer that is lost, and that the orchestrator serves all the same.
async fn only_lost(channel: &Channel, dead: Service) {
    let name = Service::Orchestrator.health_name();
    let peers = Service::ALL.into_iter().filter(|service| *service != Service::Orchestrator);
    let expected: Vec<_> = peers
        .map(|peer| (format!("{name}/{peer}"), if peer == dead { Serving::No } else { Serving::Yes }))
        .collect();
    let told = async {
        loop {
            let states = rpc::states(channel).await.unwrap();
            assert_eq!((states[""], states[name]), (Serving::Yes, Serving::Yes), "without {dead}");
            if expected.iter().all(|(part, state)| states.get(part) == Some(state)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_costs_its_own_stages_and_they_say_so() {
    let house = House::open().await.unwrap();
    let lost = [
        (Service::MemoryService, vec![Stage::Recall, Stage::Learn]),
        (Service::LlmGateway, vec![Stage::Analyse]),
        (Service::StorageBatcher, vec![Stage::Store]),
    ];
    for (dead, stages) in lost {
        let cycle = cycle_without(&house, dead).await;
        assert_eq!(cycle.completeness(), Completeness::Partial, "without {dead}: {:#?}", cycle.stages);
        assert!(cycle.pools >= 100 && !cycle.decisions.is_empty(), "without {dead}");
        for report in cycle.stages.iter().filter(|report| stages.contains(&report.stage())) {
            assert_eq!(report.completeness(), Completeness::Failed, "without {dead}: {report:#?}");
            let failures = &report.failures;
            assert!(!failures.is_empty(), "without {dead}: {report:#?}");
            assert!(failures.iter().all(|failure| failure.code == "UNAVAILABLE"), "{failures:#?}");
            assert!(failures.iter().all(|failure| !failure.branch.is_empty()), "{failures:#?}");
        }
        let others = cycle.stages.iter().filter(|report| !stages.contains(&report.stage()));
        let failed = others.filter(|report| !report.failures.is_empty()).count();
        assert_eq!(failed, 0, "without {dead}: {:#?}", cycle.stages);
    }
    house.close().await.unwrap();
}
