use std::time::{Duration, SystemTime, UNIX_EPOCH};

use telemetry::names;

use super::{Report, State, is_api_method, judge};
use crate::series::{
    Limits, Store,
    distribution::Distribution,
    exponential::Exponential,
    point::{Labels, Point, Sample, Source, Temporality},
};

const HOUR: u64 = 3_600;

/// A target, its metric and attributes, its unit in the metric's, and its least samples.
type Case<'a> = (&'a str, &'a names::Metric, &'a [(&'a str, &'a str)], f64, u64);

struct World {
    store: Store,
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

impl World {
    fn new() -> Self {
        let limits = Limits { series: 100, retention: Duration::from_secs(24 * HOUR) };
        Self { store: Store::new(limits, at(0), true) }
    }

    fn send(&mut self, seconds: u64, metric: &names::Metric, labels: &[(&str, &str)], sample: Sample) {
        let source = Source { service: "service".to_owned(), instance: "one".to_owned() };
        let arrival = self.store.arrive(source, at(seconds));
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metric = metric.name.to_owned();
        self.store
            .record(&arrival, Point { metric, labels: Labels::new(labels), start: 0, time: 0, sample })
            .unwrap();
    }

    fn took(
        &mut self,
        seconds: u64,
        metric: &names::Metric,
        labels: &[(&str, &str)],
        value: f64,
        times: u64,
    ) {
        let mut histogram = Exponential::new();
        histogram.record(value, times);
        let sample = Sample::Distribution(Distribution::Exponential(histogram), Temporality::Delta);
        self.send(seconds, metric, labels, sample);
    }

    fn counted(&mut self, seconds: u64, metric: &names::Metric, labels: &[(&str, &str)], value: f64) {
        self.send(seconds, metric, labels, Sample::Count(value, Temporality::Delta));
    }

    fn report(&self, name: &str, now: u64) -> Report {
        self.report_over(name, now, None)
    }

    fn report_over(&self, name: &str, now: u64, window: Option<Duration>) -> Report {
        let reports = judge(&self.store, at(0), at(now), window);
        reports.into_iter().find(|report| report.definition.name == name).unwrap()
    }
}

fn served(world: &mut World, seconds: u64, counts: &[(&str, f64)]) {
    for (tier, count) in counts {
        world.counted(seconds, &names::LLM_ITEMS, &[(names::SERVED, tier)], *count);
    }
}

#[test]
fn six_targets_without_any_series_say_so_in_order() {
    let world = World::new();
    let reports = judge(&world.store, at(0), at(HOUR), None);
    let names: Vec<_> = reports.iter().map(|report| report.definition.name).collect();
    assert_eq!(
        names,
        [
            "memory_query_p95",
            "llm_response",
            "firestore_writes",
            "cache_hit_rate",
            "agent_cycle",
            "api_response_p95"
        ]
    );
    assert!(reports.iter().all(|report| report.state == State::NoSeries && report.value.is_none()));
}

#[test]
fn each_latency_target_has_every_state() {
    let cases: [Case<'_>; 4] = [
        ("memory_query_p95", &names::MEMORY_QUERY_LATENCY, &[(names::METHOD, "recall")], 0.001, 20),
        ("llm_response", &names::LLM_RESPONSE_TIME, &[(names::MODEL, "gpt")], 1.0, 5),
        ("agent_cycle", &names::CYCLE_DURATION, &[], 1.0, 5),
        (
            "api_response_p95",
            &names::RPC_SERVER_DURATION,
            &[(names::RPC_METHOD, "athena.memory.v1.MemoryService/Recall")],
            0.001,
            100,
        ),
    ];
    for (name, metric, labels, unit, least) in cases {
        let target = World::new().report(name, 0).definition;
        let breach = f64::midpoint(target.target, target.critical);
        for (value, times, state) in [
            (target.target * 0.5, least, State::Ok),
            (breach, least, State::Breach),
            (target.critical * 2.0, least, State::Critical),
            (target.critical * 2.0, least - 1, State::NotEnoughData),
        ] {
            let mut world = World::new();
            world.took(10, metric, labels, value * unit, times);
            let report = world.report(name, 10);
            assert_eq!((report.state, report.samples), (state, times), "{name} {value}");
            assert!((report.value.unwrap() / value - 1.0).abs() < 1e-6, "{name}: {:?}", report.value);
        }
    }
}

#[test]
fn thresholds_themselves_are_a_breach() {
    let latency = World::new().report("memory_query_p95", 0).definition;
    assert_eq!(latency.state_of(100.0), State::Breach);
    assert_eq!(latency.state_of(200.0), State::Breach);
    let rate = World::new().report("cache_hit_rate", 0).definition;
    assert_eq!(rate.state_of(70.0), State::Breach);
    assert_eq!(rate.state_of(50.0), State::Breach);
}

#[test]
fn a_hit_rate_of_exactly_zero_is_critical() {
    let mut world = World::new();
    served(&mut world, 10, &[("upstream", 60.0), ("merged", 60.0)]);
    let report = world.report("cache_hit_rate", 10);
    assert_eq!((report.state, report.value, report.samples), (State::Critical, Some(0.0), 120));
    assert_eq!(report.parts["exact"], 0.0);
}

#[test]
fn the_hit_rate_shows_its_tiers() {
    let mut world = World::new();
    served(&mut world, 10, &[("pattern", 20.0), ("exact", 50.0), ("coalesced", 10.0), ("upstream", 20.0)]);
    let report = world.report("cache_hit_rate", 10);
    assert_eq!(report.state, State::Ok);
    assert!((report.value.unwrap() - 80.0).abs() < 1e-9);
    assert!((report.parts["pattern"] - 20.0).abs() < 1e-9 && (report.parts["exact"] - 50.0).abs() < 1e-9);
    served(&mut world, 20, &[("upstream", 30.0)]);
    assert_eq!(world.report("cache_hit_rate", 20).state, State::Breach);
}

#[test]
fn a_hundred_items_are_needed_for_a_hit_rate() {
    let mut world = World::new();
    served(&mut world, 10, &[("upstream", 99.0)]);
    assert_eq!(world.report("cache_hit_rate", 10).state, State::NotEnoughData);
}

#[test]
fn documents_a_minute_are_on_the_agent_clock_and_leave_reads_out() {
    let mut world = World::new();
    let documents = [("write", 100.0), ("delete", 40.0), ("ledger", 10.0), ("read", 9_000.0)];
    for (kind, count) in documents {
        world.counted(600, &names::FIRESTORE_OPERATIONS, &[(names::OPERATION_TYPE, kind)], count);
    }
    let report = world.report("firestore_writes", 600);
    assert!((report.value.unwrap() - 15.0).abs() < 1e-9);
    assert_eq!((report.state, report.samples, report.window.as_secs()), (State::Ok, 10, 600));
}

#[test]
fn documents_a_minute_have_every_state() {
    for (count, state) in
        [(19.0, State::Ok), (20.0, State::Breach), (50.0, State::Breach), (51.0, State::Critical)]
    {
        let mut world = World::new();
        let labels = [(names::OPERATION_TYPE, "write")];
        world.counted(900, &names::FIRESTORE_OPERATIONS, &labels, count * 15.0);
        assert_eq!(world.report("firestore_writes", 900).state, state, "{count}");
    }
    let mut world = World::new();
    world.counted(59, &names::FIRESTORE_OPERATIONS, &[(names::OPERATION_TYPE, "write")], 5.0);
    assert_eq!(world.report("firestore_writes", 59).state, State::NotEnoughData, "not one whole minute");
    let silent = world.report("firestore_writes", 2 * HOUR);
    assert_eq!((silent.state, silent.value), (State::NotEnoughData, None));
    assert_eq!(silent.notes, ["nothing was reported for 119 min"]);
}

#[test]
fn a_quiet_batcher_that_still_reports_writes_nothing() {
    let mut world = World::new();
    world.counted(60, &names::FIRESTORE_OPERATIONS, &[(names::OPERATION_TYPE, "write")], 5.0);
    world.took(2 * HOUR, &names::RPC_SERVER_DURATION, &[(names::RPC_METHOD, "a.B/C")], 0.1, 1);
    let report = world.report("firestore_writes", 2 * HOUR);
    assert_eq!((report.state, report.value), (State::Ok, Some(0.0)));
}

#[test]
fn a_window_is_cut_to_the_run_and_moves_on() {
    let mut world = World::new();
    world.took(10, &names::MEMORY_QUERY_LATENCY, &[], 0.5, 20);
    let early = world.report("memory_query_p95", 100);
    assert_eq!((early.state, early.window.as_secs()), (State::Critical, 100));
    let late = world.report("memory_query_p95", 400);
    assert_eq!((late.state, late.window.as_secs(), late.samples), (State::NotEnoughData, 300, 0));
    let over = world.report_over("memory_query_p95", 400, Some(Duration::from_secs(10 * HOUR)));
    assert_eq!((over.state, over.window.as_secs()), (State::Critical, 400));
}

#[test]
fn a_clock_that_never_moved_still_judges_latencies() {
    let mut world = World::new();
    world.took(0, &names::CYCLE_DURATION, &[], 70.0, 5);
    assert_eq!(world.report("agent_cycle", 0).state, State::Critical);
}

#[test]
fn the_answering_model_stands_beside_the_value() {
    let mut world = World::new();
    world.took(10, &names::LLM_RESPONSE_TIME, &[(names::MODEL, "builtin/statistics")], 0.01, 5);
    assert_eq!(world.report("llm_response", 10).notes, ["answered by builtin/statistics: not an LLM"]);
    world.took(20, &names::LLM_RESPONSE_TIME, &[(names::MODEL, "gpt")], 1.0, 5);
    assert_eq!(
        world.report("llm_response", 20).notes,
        ["answered by builtin/statistics: not an LLM", "answered by gpt (5 of 10)"]
    );
}

#[test]
fn input_of_zeros_in_the_newest_cycles_is_not_judged() {
    let mut world = World::new();
    let finding = [(names::FIELD, "apr"), (names::KIND, "all_zero")];
    for cycle in 1..=6 {
        world.counted(cycle * 300, &names::DEGENERATE_INPUT, &finding, 1.0);
        world.took(cycle * 300, &names::CYCLE_DURATION, &[], 0.1, 1);
        served(&mut world, cycle * 300, &[("exact", 100.0)]);
    }
    for name in ["agent_cycle", "cache_hit_rate"] {
        let report = world.report(name, 1_800);
        assert_eq!(report.state, State::DegenerateInput, "{name}");
        assert_eq!(report.notes, ["input degenerate: every apr is 0"]);
    }
    world.took(2_100, &names::MEMORY_QUERY_LATENCY, &[], 0.01, 20);
    assert_eq!(world.report("memory_query_p95", 2_100).state, State::Ok, "real whatever it carries");
    world.took(2_100, &names::CYCLE_DURATION, &[], 0.1, 1);
    world.took(2_400, &names::CYCLE_DURATION, &[], 0.1, 1);
    assert_eq!(world.report("agent_cycle", 2_400).state, State::Ok, "the newest cycles were fine");
}

#[test]
fn a_finding_exported_before_its_cycle_still_counts() {
    let mut world = World::new();
    for cycle in 1..=5 {
        world.took(cycle * 300, &names::CYCLE_DURATION, &[], 0.1, 1);
    }
    world.counted(1_790, &names::DEGENERATE_INPUT, &[(names::FIELD, "tvl"), (names::KIND, "all_equal")], 1.0);
    world.took(1_800, &names::CYCLE_DURATION, &[], 0.1, 1);
    assert_eq!(world.report("agent_cycle", 1_800).state, State::DegenerateInput);
}

#[test]
fn findings_without_a_cycle_or_long_past_are_not_counted() {
    let mut world = World::new();
    world.counted(300, &names::DEGENERATE_INPUT, &[(names::FIELD, "apr"), (names::KIND, "all_zero")], 1.0);
    served(&mut world, 300, &[("exact", 100.0)]);
    assert_eq!(world.report("cache_hit_rate", 300).state, State::Ok);
}

#[test]
fn other_findings_are_noted_and_judged() {
    let mut world = World::new();
    world.counted(300, &names::DEGENERATE_INPUT, &[(names::FIELD, "tvl"), (names::KIND, "wei_scaled")], 1.0);
    world.took(300, &names::CYCLE_DURATION, &[], 0.1, 5);
    let report = world.report("agent_cycle", 300);
    assert_eq!((report.state, report.notes), (State::Ok, vec!["input: wei scaled (tvl)".to_owned()]));
}

#[test]
fn api_responses_leave_models_cycles_operation_and_streams_out() {
    for method in [
        "athena.memory.v1.MemoryService/Recall",
        "athena.storage.v1.StorageBatcherService/WriteBatch",
        "athena.monitor.v1.MonitorService/GetTargets",
        "athena.agent.v1.OrchestratorService/GetCycle",
    ] {
        assert!(is_api_method(method), "{method}");
    }
    for method in [
        "athena.llm.v1.LlmGatewayService/Generate",
        "athena.llm.v1.LlmGatewayService/GenerateStream",
        "athena.llm.v1.LlmGatewayService/Analyze",
        "athena.agent.v1.OrchestratorService/RunCycle",
        "athena.agent.v1.OrchestratorService/WatchCycles",
        "athena.monitor.v1.MonitorService/WatchTargets",
        "athena.storage.v1.StorageBatcherService/WriteStream",
        "grpc.health.v1.Health/Check",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "opentelemetry.proto.collector.trace.v1.TraceService/Export",
        "no slash",
    ] {
        assert!(!is_api_method(method), "{method}");
    }
}
