//! SIGTERM under load: whoever follows health loses no call, and the process ends content.

use std::sync::Arc;

use athena::Service;
use contracts::{
    agent::{ListCyclesRequest, orchestrator_service_client::OrchestratorServiceClient},
    llm::{GenerateRequest, Message, Role, llm_gateway_service_client::LlmGatewayServiceClient},
    memory::{Memory, RememberRequest, memory_service_client::MemoryServiceClient},
    monitor::{GetTargetsRequest, monitor_service_client::MonitorServiceClient},
    storage::{
        DocumentWrite, Value, WriteMode, WriteRequest,
        storage_batcher_service_client::StorageBatcherServiceClient, value::Kind,
    },
};
use futures::future::join_all;
use rpc::{Channel, Client as _};
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use crate::harness::Processes;

const ROUNDS: u32 = 3;
const CALLERS: u32 = 8;
/// Calls that are made before the signal comes.
const LOAD: u32 = 400;

/// Makes a call that is typical of a service; a write where it has one.
async fn call(service: Service, channel: Channel, number: u32) -> Result<(), Status> {
    match service {
        Service::Monitor => {
            MonitorServiceClient::over(channel).get_targets(GetTargetsRequest::default()).await.map(drop)
        }
        Service::LlmGateway => {
            let message = Message { role: Role::User.into(), content: format!("mean of 1 2 {number}") };
            let request = GenerateRequest { messages: vec![message], ..GenerateRequest::default() };
            LlmGatewayServiceClient::over(channel).generate(request).await.map(drop)
        }
        Service::MemoryService => {
            let content = format!("number {number}");
            let memory = Memory { category: "test".to_owned(), content, ..Memory::default() };
            let request = RememberRequest { memory: Some(memory) };
            MemoryServiceClient::over(channel).remember(request).await.map(drop)
        }
        Service::StorageBatcher => {
            let value = Value { kind: Some(Kind::IntegerValue(number.into())) };
            let write = DocumentWrite {
                collection: "drained".to_owned(),
                document_id: format!("d{number}"),
                mode: WriteMode::Set.into(),
                fields: [("number".to_owned(), value)].into(),
                ..DocumentWrite::default()
            };
            let request = WriteRequest { write: Some(write) };
            StorageBatcherServiceClient::over(channel).write(request).await.map(drop)
        }
        Service::Orchestrator => {
            let request = ListCyclesRequest::default();
            OrchestratorServiceClient::over(channel).list_cycles(request).await.map(drop)
        }
    }
}

/// Calls a service until health says that it leaves; returns how many calls were made and what the failed ones said.
async fn terminated_under_load(all: &mut Processes, service: Service) -> (u32, Vec<Status>) {
    let (tell, leaving) = watch::channel(false);
    let load = Arc::new(Semaphore::new(0));
    let channel = all.channel(service);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (channel, leaving, load) = (channel.clone(), leaving.clone(), Arc::clone(&load));
            all.caller.spawn(async move {
                let (mut made, mut failed) = (0, Vec::new());
                while !*leaving.borrow() {
                    let number = caller + made * CALLERS;
                    failed.extend(call(service, channel.clone(), number).await.err());
                    made += 1;
                    load.add_permits(1);
                }
                (made, failed)
            })
        })
        .collect();
    // Under load, and not before it.
    drop(load.acquire_many(LOAD).await.unwrap());
    let left = async {
        all.until_leaving(service).await;
        tell.send_replace(true);
    };
    tokio::join!(left, all.terminate(service));
    let outcomes = join_all(callers).await.into_iter().map(Result::unwrap);
    outcomes.fold((0, Vec::new()), |(made, failed), (more, also)| (made + more, [failed, also].concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_asked_to_end_under_load_fails_no_call() {
    let mut all = Processes::start().await;
    for service in Service::ALL {
        for round in 1..=ROUNDS {
            let (made, failed) = terminated_under_load(&mut all, service).await;
            assert!(all.ended(service).await, "{service}, round {round}");
            println!("SIGTERM of {service}, round {round}: {made} calls, {} failed", failed.len());
            assert!(failed.is_empty() && made >= LOAD, "{service}, round {round}: {made} {failed:?}");
            all.restart(service).await;
        }
    }
}
