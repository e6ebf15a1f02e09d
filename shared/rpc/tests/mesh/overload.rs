#![expect(clippy::unwrap_used, reason = "a test that cannot set up its host has failed")]

use std::{sync::Arc, time::Duration};

use config::Secret;
use contracts::{
    llm::{GenerateRequest, GenerateStreamRequest, llm_gateway_service_server::LlmGatewayServiceServer},
    memory::memory_service_server::MemoryServiceServer,
    memory::{RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient},
};
use rpc::{ChannelOptions, Client as _, Code, Deadline, Fault, Host, HostSettings};
use telemetry::Telemetry;
use tokio::{sync::Semaphore, task::JoinHandle};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::bystander::{Bystander, LONG, Running, Seen};

/// Room for `running` calls of a method and a queue of `queued`.
fn narrow(running: u32, queued: u32) -> HostSettings {
    HostSettings {
        max_concurrent_calls: running,
        max_queued_calls: queued,
        max_queue_wait: LONG,
        request_timeout: LONG,
        ..HostSettings::defaults()
    }
}

/// Runs each call until the gate lets it go.
fn gated() -> (Bystander, tokio::sync::mpsc::UnboundedReceiver<Seen>, Arc<Semaphore>) {
    let (sender, seen) = tokio::sync::mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let opener = Arc::clone(&gate);
    let bystander = Bystander::new(move |call| {
        let gate = Arc::clone(&gate);
        // A test that does not look has dropped the receiver.
        let _ = sender.send(call);
        async move {
            gate.acquire().await.map_err(|_| Fault::new(Code::Aborted, "gate is gone"))?.forget();
            Ok(())
        }
    });
    (bystander, seen, opener)
}

fn client(host: &Running) -> MemoryServiceClient<rpc::Channel> {
    let options = ChannelOptions { timeout: LONG, retries: 0, ..ChannelOptions::default() };
    MemoryServiceClient::over(host.channel_with(options))
}

type Recalling = JoinHandle<Result<(), tonic::Status>>;

fn recall(host: &Running) -> Recalling {
    let mut client = client(host);
    host.telemetry.spawn(async move { client.recall(RecallRequest::default()).await.map(drop) })
}

/// Waits until so many recalls run and wait.
async fn until(host: &Running, running: u32, queued: u32) {
    let method = r#"{rpc_method="athena.memory.v1.MemoryService/Recall"}"#;
    let lines = [
        format!("athena_rpc_calls_running{method} {running}"),
        format!("athena_rpc_calls_queued{method} {queued}"),
    ];
    let there = async {
        loop {
            let text = host.http1("GET /metrics HTTP/1.1", b"").await;
            if lines.iter().all(|line| text.lines().any(|it| it == line)) {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, there).await.unwrap();
}

#[tokio::test]
async fn what_fits_runs_some_wait_and_the_rest_is_shed_at_once() {
    let (bystander, _seen, gate) = gated();
    let host = Running::start_with("memory", &narrow(2, 1), bystander, |host| host);
    let (first, second) = (recall(&host), recall(&host));
    until(&host, 2, 0).await;
    let third = recall(&host);
    until(&host, 2, 1).await;
    let status = client(&host).recall(RecallRequest::default()).await.unwrap_err();
    let fault = Fault::from(&status);
    assert_eq!((fault.code(), fault.reason_word()), (Code::ResourceExhausted, Some("OVERLOADED")));
    let told = fault.retry_delay().unwrap().as_millis().to_string();
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap(), told);
    assert_eq!(status.metadata().get("trace-id").unwrap().len(), 32);
    // Another method has room of its own, and so has health.
    HealthClient::new(host.channel()).check(HealthCheckRequest::default()).await.unwrap();
    gate.add_permits(4);
    client(&host).remember(RememberRequest::default()).await.unwrap();
    for call in [first, second, third] {
        call.await.unwrap().unwrap();
    }
    until(&host, 0, 0).await;
    let metrics = host.telemetry.prometheus_text();
    let shed = r#"athena_rpc_calls_shed_total{rpc_method="athena.memory.v1.MemoryService/Recall"} 1"#;
    assert!(metrics.contains(shed), "{metrics}");
}

#[tokio::test]
async fn a_call_whose_deadline_passes_in_the_queue_is_never_run() {
    let (bystander, mut seen, gate) = gated();
    let host = Running::start_with("memory", &narrow(1, 1), bystander, |host| host);
    let running = recall(&host);
    seen.recv().await.unwrap();
    // Over HTTP/1.1, because every gRPC client has a timer of its own.
    let head = "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1\r\n\
                content-type: application/grpc\r\ngrpc-timeout: 50m";
    let answer = host.http1(head, &[0; 5]).await;
    assert!(answer.contains("grpc-status: 4\r\n"), "{answer}");
    gate.add_permits(2);
    running.await.unwrap().unwrap();
    until(&host, 0, 0).await;
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn callers_without_a_token_take_no_room() {
    let auth_tokens = Secret::new("agent-token=acme:agent");
    let (bystander, mut seen, gate) = gated();
    let settings = HostSettings { auth_tokens, ..narrow(1, 1) };
    let host = Running::start_with("memory", &settings, bystander, |host| host);
    for _ in 0..20 {
        let status = client(&host).recall(RecallRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    gate.add_permits(1);
    let options = ChannelOptions { token: Some(Secret::new("agent-token")), ..ChannelOptions::default() };
    let mut client = MemoryServiceClient::over(host.channel_with(options));
    client.recall(RecallRequest::default()).await.unwrap();
    seen.recv().await.unwrap();
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn a_stream_keeps_its_room_and_a_watch_takes_none() {
    let host = Running::start_with("llm", &narrow(1, 0), Bystander::stuck().0, |host| host);
    let mut watches = Vec::new();
    for _ in 0..3 {
        let mut client = HealthClient::new(host.channel());
        watches.push(client.watch(HealthCheckRequest::default()).await.unwrap().into_inner());
    }
    let mut stream = host.llm().generate_stream(GenerateStreamRequest::default()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let status = host.llm().generate_stream(GenerateStreamRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(stream);
    let again =
        async { while host.llm().generate_stream(GenerateStreamRequest::default()).await.is_err() {} };
    tokio::time::timeout(LONG, again).await.unwrap();
}

#[tokio::test]
async fn administration_is_never_shed() {
    let (bystander, mut seen, _gate) = gated();
    let telemetry = Telemetry::silent("memory");
    let host = Host::bind(&narrow(1, 0), 0, telemetry.clone(), clock::Clock::system()).unwrap();
    let host = host
        .add(MemoryServiceServer::new(bystander.clone()))
        .add_admin(LlmGatewayServiceServer::new(bystander));
    let url = format!("http://{}", host.local_addr());
    telemetry.spawn(host.run(std::future::pending()));
    let channel = rpc::Channel::lazy(&url, ChannelOptions::default(), telemetry.clone()).unwrap();
    let mut calls = Vec::new();
    for _ in 0..3 {
        let mut llm =
            contracts::llm::llm_gateway_service_client::LlmGatewayServiceClient::over(channel.clone());
        let generate = async move { llm.generate(GenerateRequest::default()).await.map(drop) };
        calls.push(telemetry.spawn(Deadline::after(LONG).scope(generate)));
        assert_eq!(seen.recv().await.unwrap().rpc, "generate");
    }
    let mut memory = MemoryServiceClient::over(channel.clone());
    let running = telemetry.spawn(async move { memory.recall(RecallRequest::default()).await.map(drop) });
    assert_eq!(seen.recv().await.unwrap().rpc, "recall");
    let status = MemoryServiceClient::over(channel).recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    running.abort();
}

#[tokio::test]
async fn a_wait_that_grows_too_long_ends() {
    let settings = HostSettings { max_queue_wait: Duration::from_millis(50), ..narrow(1, 1) };
    let (bystander, mut seen) = Bystander::stuck();
    let host = Running::start_with("memory", &settings, bystander, |host| host);
    let running = recall(&host);
    seen.recv().await.unwrap();
    let status = client(&host).recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(Fault::from(&status).reason_word(), Some("OVERLOADED"));
    running.abort();
}

/// What came of calls that were made at a steady rate, whatever became of the ones before.
#[derive(Debug, Default)]
struct Offered {
    made: u64,
    good: u64,
    shed: u64,
    late: u64,
}

/// Offers `rate` calls a second for `time`, each with a deadline of its own.
async fn offer(host: &Running, rate: u32, time: Duration) -> Offered {
    let client = client(host);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let end = tokio::time::Instant::now() + time;
    let mut calls = tokio::task::JoinSet::new();
    while tokio::time::Instant::now() < end {
        ticks.tick().await;
        let mut client = client.clone();
        let call = async move { client.recall(RecallRequest::default()).await.map(drop) };
        calls.spawn(Deadline::after(Duration::from_millis(500)).scope(call));
    }
    let mut offered = Offered::default();
    for outcome in calls.join_all().await {
        offered.made += 1;
        match outcome.map_err(|status| status.code()) {
            Ok(()) => offered.good += 1,
            Err(Code::ResourceExhausted) => offered.shed += 1,
            Err(_) => offered.late += 1,
        }
    }
    offered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_capacity_leaves_the_work_done() {
    // Room for 2 calls of 40 ms: 50 a second. Little enough that the test's own work does not matter.
    let work = |_| async {
        // Real time: it is the work.
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok(())
    };
    let settings = HostSettings { max_queue_wait: Duration::from_millis(250), ..narrow(2, 2) };
    let host = Running::start_with("memory", &settings, Bystander::new(work), |host| host);
    let time = Duration::from_secs(2);
    let peak = offer(&host, 50, time).await;
    let flood = offer(&host, 500, time).await;
    println!("at capacity {peak:?}, at ten times {flood:?}");
    assert!(flood.good * 10 >= peak.good * 7, "{peak:?} {flood:?}");
    assert!(flood.shed > flood.good && flood.late * 20 < flood.made, "{flood:?}");
}
