//! What the compiler, clippy and CI check for us is switched on, everywhere.

use toml::{Table, Value};

use crate::{none, source};

/// Lints of the workspace and their levels. `warn` is an error in CI, see [`STEPS`].
const LINTS: [(&str, &str, &str); 19] = [
    ("rust", "missing_debug_implementations", "warn"),
    ("rust", "missing_docs", "warn"),
    ("rust", "unreachable_pub", "warn"),
    ("rust", "unsafe_code", "forbid"),
    ("clippy", "allow_attributes", "warn"),
    ("clippy", "allow_attributes_without_reason", "warn"),
    ("clippy", "await_holding_lock", "warn"),
    ("clippy", "await_holding_invalid_type", "warn"),
    ("clippy", "dbg_macro", "warn"),
    ("clippy", "disallowed_methods", "warn"),
    ("clippy", "expect_used", "warn"),
    ("clippy", "missing_errors_doc", "warn"),
    ("clippy", "panic", "warn"),
    ("clippy", "print_stderr", "warn"),
    ("clippy", "print_stdout", "warn"),
    ("clippy", "todo", "warn"),
    ("clippy", "too_many_lines", "warn"),
    ("clippy", "unimplemented", "warn"),
    ("clippy", "unwrap_used", "warn"),
];
/// Functions that have one home, which `clippy.toml` keeps everybody else from.
const METHODS: [&str; 10] = [
    "opentelemetry::global::set_meter_provider",
    "opentelemetry::global::set_text_map_propagator",
    "opentelemetry::global::set_tracer_provider",
    "std::env::var",
    "std::env::var_os",
    "std::env::vars",
    "std::process::exit",
    "std::time::SystemTime::now",
    "tokio::spawn",
    "tokio::task::spawn",
];
/// Guards that no `.await` may pass, beside those of locks that clippy knows.
const GUARDS: [&str; 4] = [
    "dashmap::mapref::one::Ref",
    "dashmap::mapref::one::RefMut",
    "tracing::span::Entered",
    "tracing::span::EnteredSpan",
];
/// Most lines of a function.
const FUNCTION: i64 = 80;
/// What CI has to run.
const STEPS: [&str; 7] = [
    "cargo fmt --all --check",
    "cargo clippy --workspace --all-targets -- -D warnings",
    "cargo clippy -p athena --no-default-features -- -D warnings",
    "cargo test --workspace",
    "\"$buf\" lint",
    "\"$buf\" format --diff --exit-code",
    "bash .ci/deploy",
];

fn unset_lints(manifest: &str) -> Vec<String> {
    let manifest: Table = manifest.parse().expect("a manifest");
    let level = |tool: &str, lint: &str| -> Option<String> {
        let level = manifest.get("workspace")?.get("lints")?.get(tool)?.get(lint)?;
        Some(level.get("level").unwrap_or(level).as_str()?.to_owned())
    };
    let unset = LINTS.iter().filter(|(tool, lint, wanted)| level(tool, lint).as_deref() != Some(wanted));
    unset.map(|(tool, lint, wanted)| format!("{tool}::{lint} is not at {wanted}")).collect()
}

fn unset_in_clippy(text: &str) -> Vec<String> {
    let clippy: Table = text.parse().expect("clippy.toml");
    let mut violations = Vec::new();
    for (list, wanted) in [("disallowed-methods", &METHODS[..]), ("await-holding-invalid-types", &GUARDS[..])]
    {
        let entries: Vec<&Value> = clippy.get(list).and_then(Value::as_array).into_iter().flatten().collect();
        let field = |entry: &Value, name: &str| Some(entry.get(name)?.as_str()?.to_owned());
        for path in wanted {
            if !entries.iter().any(|entry| field(entry, "path").as_deref() == Some(path)) {
                violations.push(format!("{list} has no {path}"));
            }
        }
        let silent =
            entries.iter().filter(|entry| field(entry, "reason").is_none_or(|reason| reason.is_empty()));
        violations.extend(silent.map(|entry| format!("{list} gives no reason for {entry}")));
    }
    if clippy.get("too-many-lines-threshold").and_then(Value::as_integer) != Some(FUNCTION) {
        violations.push(format!("a function may not be of {FUNCTION} lines"));
    }
    violations
}

fn not_run(script: &str) -> Vec<String> {
    let runs = |step: &str| script.lines().any(|line| line.starts_with(step));
    STEPS.iter().filter(|step| !runs(step)).map(|step| format!("CI does not run {step}")).collect()
}

/// Finds what the workspace's manifest should say of members and profiles.
fn misshapen(manifest: &str) -> Vec<String> {
    let manifest: Table = manifest.parse().expect("a manifest");
    let wanted = "members = [\"services/*\", \"shared/*\", \"tests\"]\ndefault-members = [\"services/athena\"]\n\
        [release]\ncodegen-units = 16\ndebug = false\n[dist]\nlto = \"fat\"\ncodegen-units = 1\nstrip = true\n";
    let wanted: Table = wanted.parse().expect("TOML");
    let mut violations = Vec::new();
    for (name, value) in &wanted {
        let (place, pairs) = match value.as_table() {
            Some(profile) => (manifest.get("profile").and_then(|all| all.get(name)), profile.clone()),
            None => (manifest.get("workspace"), Table::from_iter([(name.clone(), value.clone())])),
        };
        for (key, value) in pairs {
            if place.and_then(|place| place.get(&key)) != Some(&value) {
                violations.push(format!("{name}: {key} is not {value}"));
            }
        }
    }
    if manifest.contains_key("package") {
        violations.push("the workspace is a package too".to_owned());
    }
    violations
}

fn text(path: &str) -> &'static str {
    source::files().iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
}

#[test]
fn every_lint_is_on_and_ci_makes_errors_of_them() {
    none("lints", unset_lints(text("Cargo.toml")));
    none("clippy.toml", unset_in_clippy(text("clippy.toml")));
    none("steps of CI", not_run(text(".ci/run")));
}

#[test]
fn the_workspace_has_its_shape() {
    none("workspace", misshapen(text("Cargo.toml")));
}

#[test]
fn a_lint_that_is_off_is_found() {
    for (tool, lint, level) in LINTS {
        let sound = text("Cargo.toml");
        let line = format!("{lint} = \"{level}\"\n");
        assert!(sound.contains(&line), "{line}");
        let expected = [format!("{tool}::{lint} is not at {level}")];
        assert_eq!(unset_lints(&sound.replace(&line, "")), expected);
        assert_eq!(unset_lints(&sound.replace(&line, &format!("{lint} = \"allow\"\n"))), expected);
    }
}

#[test]
fn a_gap_in_clippys_settings_is_found() {
    let sound = text("clippy.toml");
    for path in METHODS.iter().chain(&GUARDS) {
        let changed = sound.replace(&format!("\"{path}\""), "\"a::b\"");
        assert_eq!(unset_in_clippy(&changed).len(), 1, "{path}");
    }
    assert_eq!(unset_in_clippy(&sound.replace("threshold = 80", "threshold = 100")).len(), 1);
    let start = sound.find("reason = \"").expect("a reason") + "reason = \"".len();
    let end = start + sound[start..].find('"').expect("its end");
    let silent = format!("{}{}", &sound[..start], &sound[end..]);
    assert_eq!(unset_in_clippy(&silent).len(), 1);
}

#[test]
fn a_step_that_ci_leaves_out_is_found() {
    let sound = text(".ci/run");
    for step in STEPS {
        let changed = sound.replace(&format!("\n{step}"), &format!("\n# {step}"));
        assert_eq!(not_run(&changed), [format!("CI does not run {step}")]);
    }
}

#[test]
fn another_shape_of_the_workspace_is_found() {
    let sound = text("Cargo.toml");
    for (from, to) in [
        ("default-members = [\"services/athena\"]", "default-members = [\"tests\"]"),
        ("members = [\"services/*\"", "members = [\"services/monitor\""),
        ("codegen-units = 16", "codegen-units = 1"),
        ("lto = \"fat\"", "lto = false"),
        ("[workspace]", "[package]\nname = \"a\"\n[workspace]"),
    ] {
        assert_eq!(misshapen(&sound.replacen(from, to, 1)).len(), 1, "{to}");
    }
}
