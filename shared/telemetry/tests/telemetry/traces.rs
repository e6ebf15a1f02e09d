use http::HeaderMap;
use opentelemetry::trace::{SpanId, SpanKind};
use telemetry::{LogSink, Options, Sampling, SpanData, Telemetry};
use tokio::task::JoinSet;
use tracing::{Instrument as _, info_span};

fn named(spans: &[SpanData], name: &str) -> SpanData {
    spans
        .iter()
        .find(|span| span.name == name)
        .unwrap_or_else(|| panic!("no span {name} in {spans:?}"))
        .clone()
}

/// Calls `callee` as its server layer would: parent from the headers, work inside the span.
fn serve(callee: &Telemetry, headers: &HeaderMap) -> String {
    callee.in_scope(|| {
        let span = info_span!("handle", otel.kind = "server");
        telemetry::set_parent(&span, telemetry::extract(headers));
        span.in_scope(|| telemetry::trace_id().unwrap())
    })
}

#[test]
fn a_trace_goes_on_over_two_services_in_one_process() {
    let (agent, of_agent) = Telemetry::captured("athena-agent");
    let (memory, of_memory) = Telemetry::captured("athena-memory");
    let (here, there) = agent.in_scope(|| {
        info_span!("call", otel.kind = "client").in_scope(|| {
            let mut headers = HeaderMap::new();
            telemetry::inject(&mut headers);
            (telemetry::trace_id().unwrap(), serve(&memory, &headers))
        })
    });

    assert_eq!(here, there);
    assert_eq!(here.len(), 32);
    let (client, server) = (named(&of_agent.spans(), "call"), named(&of_memory.spans(), "handle"));
    assert_eq!(client.span_kind, SpanKind::Client);
    assert_eq!(server.span_kind, SpanKind::Server);
    assert_eq!(client.parent_span_id, SpanId::INVALID);
    assert_eq!(server.parent_span_id, client.span_context.span_id());
    assert!(server.parent_span_is_remote);
    assert_eq!(server.span_context.trace_id(), client.span_context.trace_id());
}

#[test]
fn a_call_of_an_untraced_caller_begins_a_trace_at_its_server() {
    let (memory, of_memory) = Telemetry::captured("athena-memory");
    Telemetry::untraced("athena").in_scope(|| {
        info_span!("call", otel.kind = "client").in_scope(|| {
            let mut headers = HeaderMap::new();
            telemetry::inject(&mut headers);
            assert!(headers.is_empty(), "{headers:?}");
            serve(&memory, &headers);
        });
    });

    assert_eq!(named(&of_memory.spans(), "handle").parent_span_id, SpanId::INVALID);
}

#[test]
fn each_service_of_a_process_keeps_its_own_spans_and_name() {
    let (agent, of_agent) = Telemetry::captured("athena-agent");
    let (memory, of_memory) = Telemetry::captured("athena-memory");
    agent
        .in_scope(|| info_span!("mine").in_scope(|| memory.in_scope(|| drop(info_span!("yours").entered()))));

    assert_eq!(of_agent.service_name().as_deref(), Some("athena-agent"));
    assert_eq!(of_memory.service_name().as_deref(), Some("athena-memory"));
    assert_eq!(of_agent.spans().len(), 1);
    assert_eq!(of_memory.spans().len(), 1);
    assert_eq!(named(&of_memory.spans(), "yours").name, "yours");
}

#[test]
fn a_call_without_trace_context_begins_a_trace_even_inside_of_another() {
    let (agent, _of_agent) = Telemetry::captured("athena-agent");
    let (memory, of_memory) = Telemetry::captured("athena-memory");
    let (outer, inner) = agent.in_scope(|| {
        info_span!("outer").in_scope(|| (telemetry::trace_id().unwrap(), serve(&memory, &HeaderMap::new())))
    });

    assert_ne!(outer, inner);
    assert_eq!(named(&of_memory.spans(), "handle").parent_span_id, SpanId::INVALID);
}

#[test]
fn a_broken_traceparent_begins_a_trace() {
    let (memory, of_memory) = Telemetry::captured("athena-memory");
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", "00-zz-1-01".parse().unwrap());
    serve(&memory, &headers);
    assert_eq!(named(&of_memory.spans(), "handle").parent_span_id, SpanId::INVALID);
}

#[test]
fn outside_of_a_span_there_is_no_trace_id_and_nothing_to_inject() {
    let silent = Telemetry::silent("athena-test");
    silent.in_scope(|| {
        let mut headers = HeaderMap::new();
        telemetry::inject(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
        assert_eq!(telemetry::trace_id(), None);
    });
}

#[test]
fn silent_telemetry_has_trace_ids_and_asks_the_next_service_to_record() {
    let headers = Telemetry::silent("athena-test").in_scope(|| {
        info_span!("work").in_scope(|| {
            let mut headers = HeaderMap::new();
            telemetry::inject(&mut headers);
            headers
        })
    });
    let traceparent = headers["traceparent"].to_str().unwrap();
    assert!(traceparent.ends_with("-01"), "{traceparent}");

    let (memory, of_memory) = Telemetry::captured("athena-memory");
    serve(&memory, &headers);
    assert_eq!(of_memory.spans().len(), 1);
}

#[test]
fn a_trace_that_is_not_recorded_has_an_id() {
    let options =
        Options { sampling: Sampling::AlwaysOff, log: LogSink::off(), ..Options::new("athena-test") };
    let id = Telemetry::new(options)
        .unwrap()
        .in_scope(|| info_span!("work").in_scope(|| telemetry::trace_id().unwrap()));
    assert_ne!(id, "0".repeat(32));
}

#[test]
fn spans_of_the_http_stack_are_left_out_and_do_not_break_the_tree() {
    let (service, captured) = Telemetry::captured("athena-test");
    service.in_scope(|| {
        info_span!("outer").in_scope(|| {
            info_span!(target: "h2::proto", "frame").in_scope(|| drop(info_span!("inner").entered()));
        });
    });
    let spans = captured.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!(named(&spans, "inner").parent_span_id, named(&spans, "outer").span_context.span_id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn spawned_work_stays_in_its_trace_and_with_its_service() {
    let (service, captured) = Telemetry::captured("athena-test");
    let inner = service.clone();
    let outer = service.in_scope(|| info_span!("outer"));
    async {
        let deeper = inner.clone();
        inner
            .spawn(async move { deeper.spawn(async { drop(info_span!("task").entered()) }).await.unwrap() })
            .await
            .unwrap();
        inner.spawn_blocking(|| drop(info_span!("blocking").entered())).await.unwrap();
        let mut set = JoinSet::new();
        set.spawn(inner.carry(async { drop(info_span!("carried").entered()) }));
        set.join_next().await.unwrap().unwrap();
    }
    .instrument(outer)
    .await;

    let spans = captured.until(|spans| spans.len() == 4).await;
    let outer = named(&spans, "outer").span_context.span_id();
    for name in ["task", "blocking", "carried"] {
        assert_eq!(named(&spans, name).parent_span_id, outer, "{name}");
    }
}

#[tokio::test]
async fn a_span_of_one_service_is_the_parent_of_work_spawned_by_another() {
    let (agent, of_agent) = Telemetry::captured("athena-agent");
    let (memory, of_memory) = Telemetry::captured("athena-memory");
    let outer = agent.in_scope(|| info_span!("outer"));
    let task = outer.in_scope(|| memory.spawn(async { drop(info_span!("task").entered()) }));
    task.await.unwrap();
    drop(outer);

    let outer = of_agent.until(|spans| spans.len() == 1).await;
    let task = of_memory.until(|spans| spans.len() == 1).await;
    assert_eq!(task[0].span_context.trace_id(), outer[0].span_context.trace_id());
    assert_eq!(task[0].parent_span_id, outer[0].span_context.span_id());
}

#[test]
fn attributes_set_late_and_errors_reach_the_span() {
    let (service, captured) = Telemetry::captured("athena-test");
    service.in_scope(|| {
        let span = info_span!(
            "rpc",
            otel.name = "athena.memory.v1.MemoryService/Recall",
            { telemetry::names::RPC_RESPONSE_STATUS_CODE } = tracing::field::Empty
        );
        span.in_scope(|| tracing::error!("recall failed"));
        span.record(telemetry::names::RPC_RESPONSE_STATUS_CODE, "INTERNAL");
    });
    let span = named(&captured.spans(), "athena.memory.v1.MemoryService/Recall");
    assert!(
        span.attributes
            .iter()
            .any(|it| it.key.as_str() == "rpc.response.status_code" && it.value.as_str() == "INTERNAL"),
        "{:?}",
        span.attributes
    );
    assert!(matches!(span.status, opentelemetry::trace::Status::Error { .. }), "{:?}", span.status);
}
