use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use telemetry::{Error, LogFormat, LogSink, Options, Telemetry};
use tracing::{debug, info, info_span, warn};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logging(format: LogFormat, filter: &str) -> (Telemetry, Memory) {
    let memory = Memory::default();
    let options = Options {
        log: LogSink::writer(format, memory.clone()),
        log_filter: filter.to_owned(),
        ..Options::new("athena-test")
    };
    (Telemetry::new(options).unwrap(), memory)
}

#[test]
fn a_json_line_carries_service_trace_and_span() {
    let (service, memory) = logging(LogFormat::Json, "info");
    let id = service.in_scope(|| {
        info_span!("work").in_scope(|| {
            info!(documents = 3, sink = "embedded", "flush done");
            telemetry::trace_id().unwrap()
        })
    });
    let lines = memory.lines();
    assert_eq!(lines.len(), 1);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["service"], "athena-test");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "flush done");
    assert_eq!(line["fields"]["documents"], 3);
    assert_eq!(line["fields"]["sink"], "embedded");
    assert_eq!(line["trace_id"], id.as_str());
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
}

#[test]
fn a_line_outside_of_a_trace_names_none() {
    let (service, memory) = logging(LogFormat::Json, "info");
    service.in_scope(|| info!("started"));
    let line: Value = serde_json::from_str(&memory.lines()[0]).unwrap();
    assert_eq!(line.get("trace_id"), None);
}

#[test]
fn a_filter_that_hides_spans_does_not_hide_the_trace_id() {
    let (service, memory) = logging(LogFormat::Pretty, "warn");
    let id = service.in_scope(|| {
        info_span!("work").in_scope(|| {
            info!("left out");
            warn!("kept");
            telemetry::trace_id().unwrap()
        })
    });
    let lines = memory.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("kept"), "{lines:?}");
    assert!(lines[0].contains(&format!("trace_id={id}")), "{lines:?}");
}

#[test]
fn a_filter_can_name_a_module() {
    let (service, memory) = logging(LogFormat::Pretty, "warn,athena::flush=debug");
    service.in_scope(|| {
        debug!(target: "athena::flush", "kept");
        debug!(target: "athena::other", "left out");
    });
    assert_eq!(memory.lines().len(), 1);
}

#[test]
fn a_value_cannot_forge_a_line() {
    let (service, memory) = logging(LogFormat::Pretty, "info");
    service.in_scope(|| info!(name = "x\n2026 ERROR forged", "first\nsecond"));
    assert_eq!(memory.lines().len(), 1, "{:?}", memory.lines());
}

#[test]
fn an_error_is_logged_with_its_causes() {
    let (service, memory) = logging(LogFormat::Json, "info");
    let cause = "x".parse::<u8>().unwrap_err();
    let error = io::Error::new(io::ErrorKind::InvalidData, cause);
    service.in_scope(|| warn!(error = &error as &dyn std::error::Error, "not read"));
    let line: Value = serde_json::from_str(&memory.lines()[0]).unwrap();
    assert_eq!(line["fields"]["error"], "invalid digit found in string");
}

#[test]
fn a_filter_with_a_fault_is_refused() {
    let options = Options { log_filter: "athena=louder".to_owned(), ..Options::new("athena-test") };
    assert!(matches!(Telemetry::new(options), Err(Error::LogFilter { .. })));
}

#[test]
fn ignored_variables_are_named_in_the_log() {
    let memory = Memory::default();
    let options =
        Options { log: LogSink::writer(LogFormat::Json, memory.clone()), ..Options::new("athena-test") }
            .with_otel_env([("OTEL_TRACES_SAMPLER".to_owned(), "sometimes".to_owned())]);
    Telemetry::new(options).unwrap();
    assert!(memory.lines()[0].contains("OTEL_TRACES_SAMPLER"), "{:?}", memory.lines());
}

#[test]
fn captured_telemetry_keeps_its_log_lines() {
    let (service, captured) = Telemetry::captured("athena-test");
    service.in_scope(|| debug!(step = "recall", "branch ran late"));
    assert!(captured.log_lines()[0].contains("branch ran late"));
    captured.clear();
    assert!(captured.log_lines().is_empty());
}
