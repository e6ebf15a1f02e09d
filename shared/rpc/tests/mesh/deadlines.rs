use std::time::Duration;

use contracts::{
    llm::GenerateStreamRequest,
    memory::{RecallRequest, RememberRequest},
};
use rpc::{ChannelOptions, Client as _, Code, Deadline, HostSettings};

use crate::bystander::{Bystander, LONG, Running};

/// An empty message in its gRPC frame.
const EMPTY: [u8; 5] = [0; 5];

#[tokio::test]
async fn the_server_itself_answers_an_expired_deadline() {
    let host = Running::start("memory", Bystander::stuck().0);
    // Over HTTP/1.1, because every gRPC client has a timer of its own.
    let head = "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1\r\n\
                content-type: application/grpc\r\ngrpc-timeout: 50m";
    let answer = host.http1(head, &EMPTY).await;
    assert!(answer.contains("grpc-status: 4\r\n"), "{answer}");
    let metrics = host.telemetry.prometheus_text();
    assert!(metrics.contains(r#"rpc_response_status_code="DEADLINE_EXCEEDED""#), "{metrics}");
}

#[tokio::test]
async fn a_call_that_comes_too_late_is_not_run() {
    let (bystander, mut seen) = Bystander::telling();
    let host = Running::start("memory", bystander);
    let head = "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1\r\n\
                content-type: application/grpc\r\ngrpc-timeout: 0n";
    let answer = host.http1(head, &EMPTY).await;
    assert!(answer.contains("grpc-status: 4\r\n"), "{answer}");
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    let host = Running::start("memory", Bystander::telling().0);
    let head = "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1\r\n\
                content-type: application/grpc\r\ngrpc-timeout: soon";
    let answer = host.http1(head, &EMPTY).await;
    assert!(answer.contains("grpc-status: 3\r\n"), "{answer}");
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_the_hosts() {
    let settings = HostSettings { request_timeout: Duration::from_millis(50), ..HostSettings::defaults() };
    let host = Running::start_with("memory", &settings, Bystander::stuck().0, |host| host);
    let transport = tonic::transport::Endpoint::from_shared(host.url()).unwrap().connect_lazy();
    let mut client = contracts::memory::memory_service_client::MemoryServiceClient::new(transport);
    let status = client.recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn the_client_stops_waiting_when_its_time_is_over() {
    let host = Running::start("memory", Bystander::stuck().0);
    let mut client = host.memory();
    let deadline = Deadline::after(Duration::from_millis(50));
    let status = deadline.scope(client.recall(RecallRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let options = ChannelOptions { timeout: Duration::from_millis(50), ..ChannelOptions::default() };
    let mut client =
        contracts::memory::memory_service_client::MemoryServiceClient::over(host.channel_with(options));
    let status = client.remember(RememberRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let mut request = tonic::Request::new(RecallRequest::default());
    request.set_timeout(Duration::from_millis(50));
    assert_eq!(host.memory().recall(request).await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn what_is_left_is_passed_on_and_shrinks() {
    let (last, mut at_last) = Bystander::telling();
    let last = Running::start("last", last);
    let next = last.memory();
    let (sender, mut at_first) = tokio::sync::mpsc::unbounded_channel();
    let first = Running::start(
        "first",
        Bystander::new(move |seen| {
            sender.send(seen).unwrap();
            let mut next = next.clone();
            async move {
                next.recall(RecallRequest::default()).await.unwrap();
                Ok(())
            }
        }),
    );
    let whole = Duration::from_secs(5);
    Deadline::after(whole).scope(first.memory().recall(RecallRequest::default())).await.unwrap();
    let at_first = at_first.recv().await.unwrap().remaining.unwrap();
    let at_last = at_last.recv().await.unwrap().remaining.unwrap();
    assert!(Duration::ZERO < at_last && at_last < at_first && at_first < whole, "{at_last:?} {at_first:?}");
}

#[tokio::test]
async fn a_stream_ends_at_the_callers_deadline() {
    let host = Running::start("llm", Bystander::stuck().0);
    let mut client = host.llm();
    let outcome = Deadline::after(Duration::from_millis(300))
        .scope(async {
            let mut pieces = client.generate_stream(GenerateStreamRequest::default()).await?.into_inner();
            assert!(pieces.message().await?.is_some());
            pieces.message().await
        })
        .await;
    assert_eq!(outcome.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_that_nobody_bounds_outlives_the_request_timeout() {
    let timeout = Duration::from_millis(100);
    let settings = HostSettings { request_timeout: timeout, ..HostSettings::defaults() };
    let slow = Bystander::new(move |seen| async move {
        assert_eq!(seen.remaining, None);
        // Real time: what must not end this call is a wall-clock timeout.
        tokio::time::sleep(timeout * 2).await;
        Ok(())
    });
    let host = Running::start_with("llm", &settings, slow, |host| host);
    let options = ChannelOptions { timeout, ..ChannelOptions::default() };
    let mut client =
        contracts::llm::llm_gateway_service_client::LlmGatewayServiceClient::over(host.channel_with(options));
    let mut pieces = client.generate_stream(GenerateStreamRequest::default()).await.unwrap().into_inner();
    for _ in 0..2 {
        assert!(pieces.message().await.unwrap().is_some());
    }
    assert!(pieces.message().await.unwrap().is_none());
}

#[tokio::test]
async fn the_body_of_a_stream_still_knows_the_deadline() {
    let (bystander, mut seen) = Bystander::telling();
    let host = Running::start("llm", bystander);
    let mut client = host.llm();
    Deadline::after(LONG)
        .scope(async {
            let mut pieces =
                client.generate_stream(GenerateStreamRequest::default()).await.unwrap().into_inner();
            while pieces.message().await.unwrap().is_some() {}
        })
        .await;
    let seen = seen.recv().await.unwrap();
    assert_eq!(seen.rpc, "generate_stream");
    assert!(seen.remaining.is_some_and(|left| left < LONG));
    assert!(seen.trace_id.is_some());
}
