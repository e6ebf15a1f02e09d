//! A metric's name is written once, in `shared/telemetry`.

use crate::{none, source};

/// How the paths of their home begin.
const HOME: &str = "shared/telemetry/src/names";

/// Returns the names of the metrics declared in the text of their home.
fn names(text: &str) -> Vec<String> {
    let masked = source::mask(text);
    let declared = ["Metric::seconds(", "Metric::histogram(", "Metric::counter(", "Metric::gauge("];
    let found = declared.into_iter().flat_map(|made| masked.code.match_indices(made));
    found
        .filter_map(|(offset, made)| {
            let quoted = masked.strings[offset + made.len()..].trim_start().strip_prefix('"')?;
            Some(quoted.split_once('"')?.0.to_owned())
        })
        .collect()
}

/// Finds code that repeats such a name.
fn repeated(path: &str, text: &str, names: &[String]) -> Vec<String> {
    let parts: Vec<&str> = path.split('/').collect();
    if parts.first() != Some(&"services") || parts.get(2) != Some(&"src") || !path.ends_with(".rs") {
        return Vec::new();
    }
    let masked = source::mask(text);
    let is_test = source::test_lines(path, &masked.code);
    let of = |name: &String| {
        let quoted = format!("\"{name}\"");
        let offsets: Vec<usize> = masked.strings.match_indices(&quoted).map(|(offset, _)| offset).collect();
        let lines = offsets.into_iter().map(|offset| source::line(&masked.strings, offset));
        lines
            .filter(|line| !is_test[line - 1])
            .map(|line| format!("{path}:{line}: {quoted}"))
            .collect::<Vec<_>>()
    };
    names.iter().flat_map(of).collect()
}

/// Ways to make an instrument that `shared/telemetry` keeps to itself.
const MAKERS: [&str; 11] = [
    "Metric::histogram(",
    "Metric::counter(",
    "Metric::gauge(",
    "Metric::seconds(",
    ".f64_counter(",
    ".f64_gauge(",
    ".f64_histogram(",
    ".u64_counter(",
    ".u64_gauge(",
    ".u64_histogram(",
    "opentelemetry::global",
];

/// Finds code that makes an instrument, and so a name, elsewhere.
fn made_elsewhere(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("shared/telemetry/") || !path.contains("/src/") || !path.ends_with(".rs") {
        return Vec::new();
    }
    let code = source::mask(text).code;
    let is_test = source::test_lines(path, &code);
    let found = MAKERS.into_iter().flat_map(|maker| code.match_indices(maker));
    let found = found.map(|(offset, maker)| (source::line(&code, offset), maker));
    found
        .filter(|(line, _)| !is_test[line - 1])
        .map(|(line, maker)| format!("{path}:{line}: {maker} makes a metric outside of its home"))
        .collect()
}

#[test]
fn metrics_are_made_in_one_place() {
    none("metrics made elsewhere", source::rust().flat_map(|file| made_elsewhere(&file.path, &file.text)));
}

#[test]
fn a_metric_that_is_made_elsewhere_is_found() {
    let text = "const A: Metric = Metric::counter(\"a\", \"1\", \"b\");\nfn f() { meter.u64_counter(\"a\"); } // Metric::gauge(";
    assert_eq!(made_elsewhere("services/x/src/a.rs", text).len(), 2);
    assert!(made_elsewhere("shared/telemetry/src/names.rs", text).is_empty());
    assert!(made_elsewhere("services/x/tests/a.rs", text).is_empty());
}

#[test]
fn metric_names_are_written_once() {
    let home = source::rust().filter(|file| file.path.starts_with(HOME));
    let names: Vec<String> = home.flat_map(|file| names(&file.text)).collect();
    assert!(
        names.len() > 20 && names.iter().any(|name| name.starts_with("gen_ai.")),
        "the names were not found: {names:?}"
    );
    none("raw metric names", source::rust().flat_map(|file| repeated(&file.path, &file.text, &names)));
}

#[test]
fn a_repeated_metric_name_is_found() {
    let home = "const A: Metric =\n    Metric::seconds(\"a_latency\", \"x\");\nconst B: Metric = Metric::counter(\n    \"b.c\", \"1\");\n";
    assert_eq!(names(home), ["a_latency", "b.c"]);
    let text = "f(\"b.c\"); // \"b.c\"\n#[cfg(test)]\nmod tests { const X: &str = \"b.c\"; }\n";
    assert_eq!(repeated("services/x/src/a.rs", text, &names(home)), ["services/x/src/a.rs:1: \"b.c\""]);
    assert!(repeated("shared/telemetry/src/a.rs", text, &names(home)).is_empty());
}
