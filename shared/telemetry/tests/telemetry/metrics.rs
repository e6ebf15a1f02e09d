use telemetry::{KeyValue, Telemetry, names};

#[test]
fn a_histogram_shows_its_fixed_buckets() {
    let service = Telemetry::silent("athena-memory");
    let latency = service.histogram(names::MEMORY_QUERY_LATENCY);
    for seconds in [0.05, 0.15, 0.3] {
        latency.record(seconds, &[KeyValue::new(names::METHOD, "Recall")]);
    }
    let text = service.prometheus_text();
    for line in [
        "memory_query_latency_seconds_bucket{method=\"Recall\",le=\"0.1\"} 1",
        "memory_query_latency_seconds_bucket{method=\"Recall\",le=\"0.2\"} 2",
        "memory_query_latency_seconds_bucket{method=\"Recall\",le=\"+Inf\"} 3",
        "memory_query_latency_seconds_count{method=\"Recall\"} 3",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
}

#[test]
fn counters_and_gauges_carry_the_seeds_names() {
    let service = Telemetry::silent("athena-storage");
    let operations = service.counter(names::FIRESTORE_OPERATIONS);
    operations.add(3, &[KeyValue::new(names::OPERATION_TYPE, "write")]);
    operations.add(1, &[KeyValue::new(names::OPERATION_TYPE, "ledger")]);
    service.gauge(names::CACHE_HIT_RATE).set(0.5, &[KeyValue::new(names::CACHE, "llm")]);
    service.gauge(names::CACHE_HIT_RATE).set(0.75, &[KeyValue::new(names::CACHE, "llm")]);
    service.counter(names::LLM_COST).add_f64(0.0125, &[]);
    service.counter(names::LLM_COST).add_f64(0.0125, &[]);

    let text = service.prometheus_text();
    for line in [
        "firestore_operations_total{operation_type=\"write\"} 3",
        "firestore_operations_total{operation_type=\"ledger\"} 1",
        "cache_hit_rate_ratio{cache=\"llm\"} 0.75",
        "athena_llm_cost_total 0.025",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
}

#[test]
fn a_counter_never_falls() {
    let service = Telemetry::silent("athena-test");
    let cost = service.counter(names::LLM_COST);
    cost.add_f64(2.0, &[]);
    cost.add_f64(-1.0, &[]);
    cost.add_f64(f64::NAN, &[]);
    assert!(service.prometheus_text().lines().any(|line| line == "athena_llm_cost_total 2"));
}

#[test]
fn every_metric_has_a_line_for_its_reader() {
    let service = Telemetry::silent("athena-test");
    for metric in names::METRICS {
        match metric.kind {
            names::Kind::Counter => service.counter(*metric).add(1, &[]),
            names::Kind::Histogram => service.histogram(*metric).record(1.0, &[]),
            names::Kind::Gauge => service.gauge(*metric).set(1.0, &[]),
        }
    }
    let text = service.prometheus_text();
    for metric in names::METRICS {
        let name = metric.name.replace('.', "_");
        assert!(text.contains(&format!("# HELP {name}")), "no {name} in\n{text}");
        assert!(text.contains(metric.description), "no {} in\n{text}", metric.description);
    }
}

#[test]
fn two_services_count_apart_and_name_themselves() {
    let (agent, memory) = (Telemetry::silent("athena-agent"), Telemetry::silent("athena-memory"));
    agent.counter(names::LLM_ITEMS).add(1, &[]);
    assert!(!memory.prometheus_text().contains("athena_llm_items_total"));
    memory.counter(names::LLM_ITEMS).add(7, &[]);
    assert!(agent.prometheus_text().contains("athena_llm_items_total 1"));
    assert!(memory.prometheus_text().contains("athena_llm_items_total 7"));
    assert!(memory.prometheus_text().contains("service_name=\"athena-memory\""));
}
