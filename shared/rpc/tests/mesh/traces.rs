use config::Secret;
use contracts::memory::{RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient};
use rpc::{Channel, ChannelOptions, Client as _, Code, Fault, HostSettings};
use telemetry::{SpanData, Telemetry};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::Instrument as _;

use crate::bystander::{Bystander, Running};

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|it| it.key.as_str() == key).map(|it| it.value.to_string())
}

#[tokio::test]
async fn one_trace_spans_every_hop() {
    let (last, mut seen) = Bystander::telling();
    let last = Running::start("last", last);
    // What the first service does is told on its own telemetry.
    let (relay, relayed) = Telemetry::captured("first");
    let next = Channel::lazy(&last.url(), ChannelOptions::default(), relay.clone()).unwrap();
    let next = MemoryServiceClient::over(next);
    let act = Bystander::new(move |_| {
        let mut next = next.clone();
        async move {
            next.recall(RecallRequest::default()).await.unwrap();
            Ok(())
        }
    });
    let host =
        rpc::Host::bind(&rpc::HostSettings::defaults(), 0, relay.clone(), clock::Clock::system()).unwrap();
    let host = host.add(contracts::memory::memory_service_server::MemoryServiceServer::new(act));
    let url = format!("http://{}", host.local_addr());
    relay.spawn(host.run(std::future::pending()));

    let (telemetry, captured) = Telemetry::captured("test");
    let channel = Channel::lazy(&url, ChannelOptions::default(), telemetry.clone()).unwrap();
    let root = telemetry.in_scope(|| tracing::info_span!("cycle"));
    let answer = async {
        let mut client = MemoryServiceClient::over(channel);
        let answer = client.recall(RecallRequest::default()).await.unwrap();
        (
            answer.metadata().get("trace-id").unwrap().to_str().unwrap().to_owned(),
            telemetry::trace_id().unwrap(),
        )
    };
    let (told, own) = telemetry.carry(answer.instrument(root)).await;
    assert_eq!(told, own);
    assert_eq!(seen.recv().await.unwrap().trace_id, Some(own.clone()));

    let here = captured.until(|spans| spans.len() == 2).await;
    let middle = relayed.until(|spans| spans.len() == 2).await;
    let end = last.captured.until(|spans| spans.len() == 1).await;
    let spans: Vec<_> = here.iter().chain(&middle).chain(&end).collect();
    assert!(spans.iter().all(|span| span.span_context.trace_id().to_string() == own), "{spans:?}");
    let orphans = spans
        .iter()
        .filter(|span| !spans.iter().any(|parent| parent.span_context.span_id() == span.parent_span_id));
    assert_eq!(orphans.map(|span| span.name.as_ref()).collect::<Vec<_>>(), ["cycle"]);
    assert_eq!(end[0].name, "athena.memory.v1.MemoryService/Recall");
    assert_eq!(attribute(&end[0], "rpc.system.name").as_deref(), Some("grpc"));
    assert_eq!(attribute(&end[0], "rpc.response.status_code").as_deref(), Some("OK"));
}

#[tokio::test]
async fn probes_make_no_spans_and_unknown_services_no_series() {
    let host = Running::start("memory", Bystander::telling().0);
    HealthClient::new(host.channel()).check(HealthCheckRequest::default()).await.unwrap();
    let status =
        contracts::agent::orchestrator_service_client::OrchestratorServiceClient::over(host.channel())
            .run_cycle(contracts::agent::RunCycleRequest::default())
            .await
            .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    host.memory().recall(RecallRequest::default()).await.unwrap();
    let spans = host.captured.until(|spans| spans.len() >= 2).await;
    assert!(spans.iter().all(|span| !span.name.contains("grpc.health")), "{spans:?}");
    let metrics = host.telemetry.prometheus_text();
    assert!(!metrics.contains("RunCycle") && metrics.contains(r#"rpc_method="_OTHER""#), "{metrics}");
}

#[tokio::test]
async fn both_sides_measure_a_call_with_its_code() {
    let host = Running::start(
        "memory",
        Bystander::new(|_| std::future::ready(Err(Fault::new(Code::NotFound, "no such memory")))),
    );
    let telemetry = Telemetry::silent("test");
    let channel = Channel::lazy(&host.url(), ChannelOptions::default(), telemetry.clone()).unwrap();
    MemoryServiceClient::over(channel).remember(RememberRequest::default()).await.unwrap_err();
    let client = telemetry.prometheus_text();
    let server = host.telemetry.prometheus_text();
    for (text, name) in [
        (client, "rpc_client_call_duration_seconds_count"),
        (server, "rpc_server_call_duration_seconds_count"),
    ] {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        assert!(line.contains(r#"rpc_method="athena.memory.v1.MemoryService/Remember""#), "{line}");
        assert!(line.contains(r#"rpc_response_status_code="NOT_FOUND""#), "{line}");
        assert!(line.ends_with(" 1"), "{line}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_is_measured_as_cancelled() {
    let (bystander, mut seen) = Bystander::stuck();
    let host = Running::start("memory", bystander);
    let mut client = host.memory();
    let call = host.telemetry.spawn(async move { client.remember(RememberRequest::default()).await });
    seen.recv().await.unwrap();
    call.abort();
    let spans = host.captured.until(|spans| !spans.is_empty()).await;
    assert_eq!(attribute(&spans[0], "rpc.response.status_code").as_deref(), Some("CANCELLED"));
}

#[tokio::test]
async fn every_answer_names_its_trace() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let settings = HostSettings { auth_tokens: Secret::new("t=acme:agent"), ..HostSettings::defaults() };
    let host = Running::start_with("memory", &settings, Bystander::telling().0, |host| host);
    let grpc = "content-type: application/grpc";
    let token = "authorization: Bearer t";
    let recall = "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1";
    let nothing = "POST /athena.memory.v1.MemoryService/Nothing HTTP/1.1";
    let answers = [
        ("an answer", format!("{recall}\r\n{grpc}\r\n{token}"), "grpc-status: 0"),
        ("no token", format!("{recall}\r\n{grpc}"), "grpc-status: 16"),
        ("no such service", format!("POST /a.B/C HTTP/1.1\r\n{grpc}\r\n{token}"), "grpc-status: 12"),
        ("no such method", format!("{nothing}\r\n{grpc}\r\n{token}"), "grpc-status: 12"),
        ("no deadline", format!("{recall}\r\n{grpc}\r\n{token}\r\ngrpc-timeout: soon"), "grpc-status: 3"),
        ("a probe", format!("POST /grpc.health.v1.Health/Check HTTP/1.1\r\n{grpc}"), "200 OK"),
        ("a scrape", "GET /metrics HTTP/1.1".to_owned(), "200 OK"),
        ("no such page", format!("GET /nothing HTTP/1.1\r\n{token}"), "404 Not Found"),
        ("a wrong token", "GET /metrics HTTP/1.1\r\nauthorization: Bearer x".to_owned(), "401 Unauthorized"),
    ];
    for (what, head, expected) in answers {
        let head = format!("{head}\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01");
        let answer = host.http1(&head, if head.contains("grpc") { &[0; 5] } else { b"" }).await;
        assert!(answer.contains(&format!("trace-id: {TRACE}\r\n")), "{what}: {answer}");
        assert!(answer.contains(expected) || expected == "grpc-status: 0", "{what}: {answer}");
    }
    let answer = host.http1("GET /metrics HTTP/1.1", b"").await;
    assert!(answer.contains("trace-id: "), "{answer}");
}
