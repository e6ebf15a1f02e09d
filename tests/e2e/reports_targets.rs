//! The monitor judges the six targets over a run, or says why it does not.

use std::{collections::BTreeMap, time::Duration};

use athena::Service;
use contracts::monitor::{
    Direction, GetTargetsRequest, TargetState, monitor_service_client::MonitorServiceClient,
};
use tests::House;

#[tokio::test(flavor = "multi_thread")]
async fn six_targets_have_a_state_and_those_of_the_run_have_samples() {
    let house = House::open().await.unwrap();
    for _ in 0..3 {
        let cycle = house.cycle().await.unwrap();
        house.trace(&cycle.trace_id).await.unwrap();
        house.hand.advance(Duration::from_secs(5 * 60));
    }
    house.mesh.flush_telemetry().await;
    let mut monitor: MonitorServiceClient<_> = house.client(Service::Monitor).unwrap();
    let window = Some(rpc::time::duration_to_proto(Duration::from_secs(15 * 60)));
    let answer = monitor.get_targets(GetTargetsRequest { window }).await.unwrap().into_inner();
    let targets: BTreeMap<&str, _> = answer.targets.iter().map(|one| (one.name.as_str(), one)).collect();
    let names = [
        "agent_cycle",
        "api_response_p95",
        "cache_hit_rate",
        "firestore_writes",
        "llm_response",
        "memory_query_p95",
    ];
    assert_eq!(targets.keys().copied().collect::<Vec<_>>(), names);
    for target in targets.values() {
        assert_ne!(target.state(), TargetState::Unspecified, "{target:#?}");
        assert_ne!(target.direction(), Direction::Unspecified, "{target:#?}");
        assert!(target.least_samples > 0 && !target.unit.is_empty(), "{target:#?}");
    }
    assert_eq!(targets["agent_cycle"].samples, 3);
    for name in ["memory_query_p95", "api_response_p95", "llm_response", "cache_hit_rate"] {
        assert!(targets[name].samples > 0, "{:#?}", targets[name]);
    }
    house.close().await.unwrap();
}
