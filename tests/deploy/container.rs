//! What a container has to be on either platform.

use std::collections::{BTreeMap, BTreeSet};

use athena::Service;
use serde_json::Value;

use crate::{
    Report, image,
    manifest::{items, read, text, workspace},
    settings::{self, Loaded},
};

/// Checks name, image, resources and environment of a container, and returns the settings it gives to the service.
pub(crate) fn check(report: &mut Report<'_>, service: Service, container: &Value) -> Option<Loaded> {
    let name = service.name();
    report.unless(container["name"] == name, format!("the container is not called {name}"));
    let image = text(&container["image"]);
    let (repository, version) = image.rsplit_once(':').unwrap_or((image, ""));
    let program = repository.rsplit('/').next().unwrap_or_default();
    report.unless(
        image::is_program(program),
        format!("there is no program {program:?} for the image {image:?}"),
    );
    report.unless(program == name, format!("the image {image:?} is another service's"));
    report.unless(
        repository.ends_with(&format!("athena/{program}")),
        format!("the image {image:?} is not in athena/"),
    );
    let released = workspace("version");
    report
        .unless(version == released, format!("the image is of version {version:?}, the code of {released}"));
    for what in ["cpu", "memory"] {
        report.unless(!container["resources"]["limits"][what].is_null(), format!("{what} has no limit"));
    }
    let variables = environment(report, container);
    match settings::load(service, &variables) {
        Ok(loaded) => {
            let is_guarded = variables.contains_key("ATHENA_AUTH_TOKENS");
            report.unless(
                is_guarded || !loaded.is_reachable,
                "everybody is let in: there are no ATHENA_AUTH_TOKENS",
            );
            report.unless(loaded.is_reachable, "nobody can reach it: it binds to loopback");
            Some(loaded)
        }
        Err(faults) => {
            faults.iter().for_each(|fault| report.fault(fault));
            None
        }
    }
}

/// Returns the variables of a container over those of its image. What comes from a secret is stood in for.
pub(crate) fn environment(report: &mut Report<'_>, container: &Value) -> BTreeMap<String, String> {
    let mut variables = image::variables();
    let declared = athena::declared();
    let mut seen = BTreeSet::new();
    for variable in items(&container["env"]) {
        let name = text(&variable["name"]);
        report.unless(seen.insert(name), format!("{name} is there twice"));
        let is_secret = declared.iter().any(|setting| setting.variable() == name && setting.kind.is_secret());
        let from = &variable["valueFrom"]["secretKeyRef"];
        let value = match (is_secret, from.is_object(), variable["value"].as_str()) {
            (true, true, None) => stand_in(name).to_owned(),
            (true, ..) => {
                report.fault(format!("{name} is a secret and comes from none"));
                continue;
            }
            (false, false, Some(value)) => value.to_owned(),
            (false, ..) => {
                report.fault(format!("{name} has no value in quotes or of letters"));
                continue;
            }
        };
        report.unless(
            !from.is_object() || is_told(from),
            format!("nobody is told to make the secret of {name}"),
        );
        variables.insert(name.to_owned(), value);
    }
    variables
}

/// Returns whether the page about deploying says where a secret comes from: a key of ours, or a secret of its own.
fn is_told(from: &Value) -> bool {
    let (name, key) = (text(&from["name"]), text(&from["key"]));
    let told = if key == "latest" { format!("`{name}`") } else { format!("generic {name} ") };
    let page = read("deploy/README.md");
    page.contains(&told) && (key == "latest" || page.contains(&format!("--from-literal={key}=")))
}

fn stand_in(variable: &str) -> &'static str {
    if variable == "ATHENA_AUTH_TOKENS" { "token=default:agent" } else { "secret" }
}

/// Checks a probe: over gRPC, to the port on which the service listens.
pub(crate) fn probe(report: &mut Report<'_>, container: &Value, kind: &str, port: u16) {
    let probe = &container[kind];
    report.unless(probe["grpc"].is_object(), format!("there is no {kind} over gRPC"));
    let asked = &probe["grpc"]["port"];
    report.unless(*asked == port, format!("the {kind} asks port {asked}, the service listens on {port}"));
}
