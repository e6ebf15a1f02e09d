use axum::routing::get;
use config::Secret;
use contracts::memory::RecallRequest;
use rpc::{Caller, HostSettings};

use crate::bystander::{Bystander, Running};

fn with_routes(host: rpc::Host) -> rpc::Host {
    let whoami = get(|caller: Caller| async move { caller.tenant.to_string() });
    let open = get(|| async { "open" });
    host.route(axum::Router::new().route("/whoami", whoami).route("/", open))
}

#[tokio::test]
async fn metrics_are_served_on_the_same_port() {
    let host = Running::start("memory", Bystander::telling().0);
    host.memory().recall(RecallRequest::default()).await.unwrap();
    let answer = host.http1("GET /metrics HTTP/1.1", b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("rpc_server_call_duration_seconds_bucket"), "{answer}");
}

#[tokio::test]
async fn routes_beside_grpc_know_their_caller() {
    let settings =
        HostSettings { auth_tokens: Secret::new("agent-token=acme:agent"), ..HostSettings::defaults() };
    let host = Running::start_with("memory", &settings, Bystander::telling().0, with_routes);
    let answer = host.http1("GET /whoami HTTP/1.1\r\nauthorization: Bearer agent-token", b"").await;
    assert!(answer.ends_with("\r\nacme"), "{answer}");
    for head in ["GET /whoami HTTP/1.1", "GET /whoami HTTP/1.1\r\nauthorization: Bearer wrong"] {
        let answer = host.http1(head, b"").await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    assert!(host.http1("GET / HTTP/1.1", b"").await.ends_with("\r\nopen"));
    assert!(host.http1("GET /nothing HTTP/1.1", b"").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_request_of_a_trace_continues_it() {
    let host = Running::start_with("memory", &HostSettings::defaults(), Bystander::telling().0, with_routes);
    let head = "GET /whoami HTTP/1.1\r\n\
                traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = host.http1(head, b"").await;
    assert!(answer.contains("trace-id: 0af7651916cd43dd8448eb211c80319c\r\n"), "{answer}");
    let spans = host.captured.until(|spans| !spans.is_empty()).await;
    assert_eq!(spans[0].name, "GET /whoami");
    assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
}
