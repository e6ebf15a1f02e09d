//! The tenant of a token goes through the whole mesh: what one tenant's cycle leaves behind, another does not see.

use athena::Service;
use contracts::{
    agent::{ListCyclesRequest, RunCycleRequest, orchestrator_service_client::OrchestratorServiceClient},
    memory::{GetStatsRequest, memory_service_client::MemoryServiceClient},
    storage::{GetCostsRequest, storage_batcher_service_client::StorageBatcherServiceClient},
};
use rpc::{Channel, ChannelOptions, Client, Code};
use telemetry::Telemetry;
use tests::House;

fn client<C: Client>(house: &House, service: Service, token: &str) -> C {
    let token = Some(config::Value::parse(token).unwrap());
    let options = ChannelOptions { token, ..ChannelOptions::default() };
    C::over(Channel::lazy(&house.mesh.url(service), options, Telemetry::silent("test")).unwrap())
}

/// Returns the cycles, memories and documents that the owner of a token sees.
async fn seen(house: &House, token: &str) -> [u64; 3] {
    let mut agent: OrchestratorServiceClient<_> = client(house, Service::Orchestrator, token);
    let mut memory: MemoryServiceClient<_> = client(house, Service::MemoryService, token);
    let mut storage: StorageBatcherServiceClient<_> = client(house, Service::StorageBatcher, token);
    let cycles = agent.list_cycles(ListCyclesRequest::default()).await.unwrap().into_inner().cycles.len();
    let memories = memory.get_stats(GetStatsRequest::default()).await.unwrap().into_inner().memories;
    let documents = storage.get_costs(GetCostsRequest {}).await.unwrap().into_inner().naive_documents;
    [cycles as u64, memories, documents]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenants_cycle_leaves_behind_is_seen_by_that_tenant_only() {
    let house = House::with([("auth_tokens", "one=alpha:agent,two=beta:agent".to_owned())]).await.unwrap();
    let mut agent: OrchestratorServiceClient<_> = client(&house, Service::Orchestrator, "one");
    let cycle = agent.run_cycle(RunCycleRequest::default()).await.unwrap().into_inner().cycle.unwrap();
    assert!(cycle.stages.iter().all(|stage| stage.failures.is_empty()), "{:#?}", cycle.stages);
    let alpha = seen(&house, "one").await;
    assert!(alpha[0] == 1 && alpha[1] > 0 && alpha[2] >= 100, "{alpha:?}");
    assert_eq!(seen(&house, "two").await, [0, 0, 0]);
    let refused = house.cycle().await.unwrap_err();
    assert_eq!(refused.downcast::<tonic::Status>().unwrap().code(), Code::Unauthenticated);
    house.close().await.unwrap();
}
