//! The image recipe.

use std::collections::BTreeMap;

use athena::Service;
use config::{Profile, Value as _};

use crate::{
    Report, each_change_is_found,
    manifest::{read, root, workspace},
    none,
    settings::default_port,
};

const PATH: &str = "deploy/Dockerfile";
/// Who a service runs as, everywhere.
pub(crate) const USER: u64 = 65_532;

/// Returns the arguments of every instruction of this name, comments and continued lines put together.
fn instructions<'a>(text: &'a str, name: &'a str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let of_name = joined.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    of_name.map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Returns the variables that the image sets.
fn variables_of(text: &str) -> BTreeMap<String, String> {
    let pairs = instructions(text, "ENV").join(" ");
    let pairs = pairs.split(' ').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns the variables that every container begins with.
pub(crate) fn variables() -> BTreeMap<String, String> {
    variables_of(&read(PATH))
}

fn faults(text: &str) -> Vec<String> {
    let mut report = Report::of(PATH);
    let stages = instructions(text, "FROM");
    let rust = workspace("rust-version");
    report.unless(
        stages.first().is_some_and(|stage| stage.starts_with(&format!("rust:{rust}-"))),
        format!("is not built with Rust {rust}, the workspace's rust-version"),
    );
    report.unless(
        stages.last().is_some_and(|stage| stage.contains("distroless/cc-")),
        "the runtime is no distroless/cc",
    );
    report.unless(instructions(text, "USER") == [format!("{USER}:{USER}")], "does not run as the one user");
    report
        .unless(instructions(text, "WORKDIR").last().is_some_and(|folder| folder == "/data"), "not in /data");
    report.unless(
        text.contains(&format!("--chown={USER}:{USER} /data /data")),
        "/data is not the user's folder",
    );
    let build = instructions(text, "RUN").join(" ");
    for part in ["--profile dist", "--locked", "--no-default-features", "-p \"${SERVICE}\""] {
        report.unless(build.contains(part), format!("is built without {part}"));
    }
    report.unless(instructions(text, "HEALTHCHECK").is_empty(), "checks health, which the platform does");

    let declared: Vec<String> = athena::declared().iter().map(|setting| setting.variable()).collect();
    for (name, value) in variables_of(text) {
        let is_profile = name == "ATHENA_PROFILE" && Profile::parse(&value).is_some();
        report.unless(
            is_profile || declared.contains(&name),
            format!("sets {name}={value}, which is no setting"),
        );
    }
    let ports: Vec<u16> = instructions(text, "EXPOSE")
        .iter()
        .flat_map(|ports| ports.split(' '))
        .map(|port| port.parse().unwrap_or_default())
        .collect();
    let mut expected: Vec<u16> = Service::ALL.into_iter().map(default_port).collect();
    expected.sort_unstable();
    report.unless(ports == expected, format!("exposes {ports:?}, the services listen on {expected:?}"));
    report.lines
}

/// Returns whether there is a program of this name to put into an image.
pub(crate) fn is_program(name: &str) -> bool {
    root().join("services").join(name).join("src/main.rs").exists()
}

#[test]
fn the_recipe_is_sound() {
    none(faults(&read(PATH)));
}

#[test]
fn a_recipe_that_is_not_is_found() {
    each_change_is_found(
        &read(PATH),
        faults,
        &[
            ("FROM rust:1.", "FROM rust:0.", "the workspace's rust-version"),
            ("gcr.io/distroless/cc-debian12:nonroot", "debian:bookworm-slim", "no distroless"),
            ("USER 65532:65532", "USER root", "the one user"),
            ("USER 65532:65532\n", "", "the one user"),
            ("WORKDIR /data", "WORKDIR /", "not in /data"),
            ("--chown=65532:65532 ", "", "not the user's folder"),
            (" --locked", "", "without --locked"),
            (" --no-default-features", "", "without --no-default-features"),
            ("ATHENA_BIND_ADDRESS", "ATHENA_BIND_ADRESS", "ATHENA_BIND_ADRESS=0.0.0.0, which is no setting"),
            ("PROFILE=production", "PROFILE=staging", "ATHENA_PROFILE=staging"),
            ("EXPOSE 7100", "EXPOSE 8080", "exposes [8080"),
            ("ENTRYPOINT", "HEALTHCHECK CMD true\nENTRYPOINT", "checks health"),
        ],
    );
}

#[test]
fn instructions_are_read_over_lines_and_without_comments() {
    assert_eq!(instructions("RUN a \\\n    && b\n# RUN c\nRUNNER d\n", "RUN"), ["a && b"]);
    assert!(is_program("monitor") && !is_program("dancer"));
}
