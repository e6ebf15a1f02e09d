//! SIGTERM under load: every call that was let in is answered, and two instances are restarted without a failed call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use athena::Service;
use contracts::{
    agent::{RunCycleRequest, orchestrator_service_client::OrchestratorServiceClient},
    llm::{
        GenerateRequest, GenerateStreamRequest, Message, Role,
        llm_gateway_service_client::LlmGatewayServiceClient,
    },
    memory::{Memory, Query, RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient},
    monitor::{GetTargetsRequest, monitor_service_client::MonitorServiceClient},
    storage::{
        DocumentWrite, Value, WriteMode, WriteRequest,
        storage_batcher_service_client::StorageBatcherServiceClient, value::Kind,
    },
};
use futures::StreamExt as _;
use rpc::{Channel, ChannelOptions, Client as _};
use telemetry::Telemetry;
use tokio::{sync::watch, task::JoinHandle};
use tonic::Status;

use crate::harness::{Process, Processes, until_serving};

/// Callers of a load, each with one call on its way.
const CALLERS: u64 = 16;
/// How often each story is played.
const ROUNDS: u32 = 3;
/// Calls that are answered before something happens.
const WARM: u64 = 200;

/// Makes the `number`th call of a load: some reads, some writes.
async fn call(service: Service, channel: Channel, number: u64) -> Result<(), Status> {
    match service {
        Service::Monitor => {
            let mut client = MonitorServiceClient::over(channel);
            client.get_targets(GetTargetsRequest::default()).await.map(drop)
        }
        Service::LlmGateway => generate(channel, number).await,
        Service::MemoryService => {
            let mut client = MemoryServiceClient::over(channel);
            if number.is_multiple_of(2) {
                let query = Query { text: format!("number {number}"), limit: 5, ..Query::default() };
                return client
                    .recall(RecallRequest { query: Some(query), ..RecallRequest::default() })
                    .await
                    .map(drop);
            }
            let content = format!("number {number}");
            let memory = Memory { category: "test".to_owned(), content, ..Memory::default() };
            client
                .remember(RememberRequest { memory: Some(memory), ..RememberRequest::default() })
                .await
                .map(drop)
        }
        Service::StorageBatcher => {
            let number = i64::try_from(number).unwrap();
            let write = DocumentWrite {
                collection: "test".to_owned(),
                document_id: format!("document-{number}"),
                mode: WriteMode::Set.into(),
                fields: [("number".to_owned(), Value { kind: Some(Kind::IntegerValue(number)) })].into(),
                ..DocumentWrite::default()
            };
            let mut client = StorageBatcherServiceClient::over(channel);
            client.write(WriteRequest { write: Some(write), ..Default::default() }).await.map(drop)
        }
        Service::Orchestrator => {
            let request =
                RunCycleRequest { agent_id: format!("agent-{number}"), ..RunCycleRequest::default() };
            OrchestratorServiceClient::over(channel).run_cycle(request).await.map(drop)
        }
    }
}

/// Asks the gateway, in turn for an answer, which may be asked for again, and for a stream, which may not.
async fn generate(channel: Channel, number: u64) -> Result<(), Status> {
    let content = format!("mean of 1 2 {number}");
    let messages = vec![Message { role: Role::User.into(), content, ..Message::default() }];
    let mut client = LlmGatewayServiceClient::over(channel);
    if number.is_multiple_of(2) {
        return client.generate(GenerateRequest { messages, ..GenerateRequest::default() }).await.map(drop);
    }
    let request = GenerateStreamRequest { messages, ..GenerateStreamRequest::default() };
    let mut pieces = client.generate_stream(request).await?.into_inner();
    while pieces.message().await?.is_some() {}
    Ok(())
}

/// Callers that go on until they are told to stop.
struct Load {
    answered: watch::Receiver<u64>,
    callers: Vec<JoinHandle<Vec<Status>>>,
}

impl Load {
    /// Begins; each caller ends when `serving` says no.
    fn begin(
        service: Service,
        channel: &Channel,
        serving: &watch::Receiver<bool>,
        numbers: &Arc<AtomicU64>,
        telemetry: &Telemetry,
    ) -> Self {
        let (tell, answered) = watch::channel(0);
        let tell = Arc::new(tell);
        let caller = |_| {
            let (channel, serving, numbers, tell) =
                (channel.clone(), serving.clone(), numbers.clone(), tell.clone());
            telemetry.spawn(async move {
                let mut failed = Vec::new();
                while *serving.borrow() {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    match call(service, channel.clone(), number).await {
                        Ok(()) => tell.send_modify(|count| *count += 1),
                        Err(status) => failed.push(status),
                    }
                }
                failed
            })
        };
        Self { answered, callers: (0..CALLERS).map(caller).collect() }
    }

    /// Waits until some more calls are answered.
    async fn go_on(&mut self, calls: u64) {
        let goal = *self.answered.borrow() + calls;
        self.answered.wait_for(|count| *count >= goal).await.unwrap();
    }

    /// Waits for the callers' end; returns how many calls were answered and which failed.
    async fn end(self) -> (u64, Vec<Status>) {
        let mut failed = Vec::new();
        for caller in self.callers {
            failed.extend(caller.await.unwrap());
        }
        (*self.answered.borrow(), failed)
    }
}

/// Tells what the service's health says, as a balancer does that sends it no more calls once it does not serve.
async fn balancer(channel: Channel, service: Service, telemetry: &Telemetry) -> watch::Receiver<bool> {
    let (tell, mut serving) = watch::channel(false);
    telemetry.spawn(async move {
        let mut states = std::pin::pin!(rpc::follow(channel, service.health_name()));
        let mut was_serving = false;
        while let Some(is_serving) = states.next().await {
            tell.send_replace(is_serving);
            if was_serving && !is_serving {
                return;
            }
            was_serving = is_serving;
        }
    });
    serving.wait_for(|serving| *serving).await.unwrap();
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_asked_to_stop_under_load_answers_every_call_it_let_in() {
    // Long enough for the balancer to hear of it.
    let mut all = Processes::start_with(&["drain_delay=500ms"]).await;
    let numbers = Arc::new(AtomicU64::new(0));
    let telemetry = all.caller.clone();
    for service in Service::ALL {
        for round in 1..=ROUNDS {
            let channel = all.channel(service);
            let serving = balancer(channel.clone(), service, &telemetry).await;
            let mut load = Load::begin(service, &channel, &serving, &numbers, &telemetry);
            // Cycles take longer than other calls.
            load.go_on(if service == Service::Orchestrator { WARM / 5 } else { WARM }).await;
            all.process(service).terminate().await;
            let begun = Instant::now();
            let (answered, failed) = load.end().await;
            all.process(service).ended().await;
            println!(
                "{service}, round {round}: {answered} answered, {} failed, gone after {:?}",
                failed.len(),
                begun.elapsed()
            );
            assert!(failed.is_empty(), "{service}: {failed:#?}");
            all.restart(service).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_are_restarted_one_after_the_other_without_a_failed_call() {
    let (service, telemetry) = (Service::LlmGateway, Telemetry::silent("test"));
    let settings = |port: u16| vec![format!("llm_port={port}")];
    let mut instances = vec![
        Process::start(service, &settings(0), &telemetry).await,
        Process::start(service, &settings(0), &telemetry).await,
    ];
    let urls = instances.iter().map(Process::url).collect::<Vec<_>>().join(",");
    let channel = Channel::lazy(&urls, ChannelOptions::default(), telemetry.clone()).unwrap();
    let (stop, going_on) = watch::channel(true);
    let mut load = Load::begin(service, &channel, &going_on, &Arc::default(), &telemetry);
    for _ in 0..ROUNDS {
        for instance in &mut instances {
            load.go_on(WARM).await;
            instance.terminate().await;
            instance.ended().await;
            load.go_on(WARM).await;
            *instance = Process::start(service, &settings(instance.port()), &telemetry).await;
            let alone = Channel::lazy(&instance.url(), ChannelOptions::default(), telemetry.clone()).unwrap();
            until_serving(alone, service).await;
        }
    }
    stop.send_replace(false);
    let (answered, failed) = load.end().await;
    println!("rolling restart, {ROUNDS} rounds of 2: {answered} answered, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}
