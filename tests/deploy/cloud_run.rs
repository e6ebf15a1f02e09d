//! The manifests for Cloud Run.

use std::time::Duration;

use athena::Service;
use config::{ByteSize, Value as _};
use serde_json::{Value, json};

use crate::{
    Report, container, each_change_is_found,
    manifest::{Manifest, files, read, stem, text},
    none,
    schema::Schema,
    settings::{self, Loaded},
};

/// What the platform documents.
const FIELDS: &str = include_str!("cloud_run.json");
/// Time from SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Most seconds that a startup probe may give.
const LONGEST_START: u64 = 240;
/// The one service that has nothing that two of it would disagree on.
const REPLICATED: Service = Service::LlmGateway;
/// What whoever deploys puts in.
const PLACEHOLDERS: [&str; 5] = ["NETWORK", "PROJECT_ID", "PROJECT_NUMBER", "REGION", "SUBNETWORK"];

fn faults(path: &str, yaml: &str) -> Vec<String> {
    let mut report = Report::of(path);
    let (Some(service), Ok(manifest)) = (Service::named(stem(path)), Manifest::parse(yaml)) else {
        return vec![format!("{path}: is no service's, or no YAML")];
    };
    let [document] = manifest.documents() else { return vec![format!("{path}: is not one document")] };
    Schema::read(FIELDS).faults("Service", document).iter().for_each(|fault| report.fault(fault));
    for placeholder in yaml.split("${").skip(1).filter_map(|rest| rest.split('}').next()) {
        report
            .unless(PLACEHOLDERS.contains(&placeholder), format!("nobody is told to set ${{{placeholder}}}"));
    }
    report.unless(document["metadata"]["name"] == service.name(), "has another name than its file");
    access(&mut report, &document["metadata"]["annotations"]);
    let template = &document["spec"]["template"];
    scale(&mut report, service, &template["metadata"]["annotations"]);
    let container = &template["spec"]["containers"][0];
    port(&mut report, service, container);
    if let Some(loaded) = container::check(&mut report, service, container) {
        fit(&mut report, &template["spec"], &loaded);
        peers(&mut report, &loaded);
    }
    report.lines
}

fn access(report: &mut Report<'_>, annotations: &Value) {
    report.unless(annotations["run.googleapis.com/ingress"] == "internal", "everybody can reach it");
    let is_ours = annotations["run.googleapis.com/invoker-iam-disabled"] == "true";
    report.unless(is_ours, "the platform would ask for a token of its own where ours stands");
}

fn scale(report: &mut Report<'_>, service: Service, annotations: &Value) {
    let bounds =
        ["minScale", "maxScale"].map(|bound| text(&annotations[format!("autoscaling.knative.dev/{bound}")]));
    report.unless(bounds.iter().all(|bound| !bound.is_empty()), "has no bounds of its scale");
    report.unless(service == REPLICATED || bounds == ["1", "1"], format!("two of {service} would disagree"));
    let is_always_on = annotations["run.googleapis.com/cpu-throttling"] == "false";
    report.unless(is_always_on, "stands still between requests, with its timers and exports");
}

/// Checks that the port the platform tells in `PORT` is the one that is listened on, with the protocol of gRPC.
fn port(report: &mut Report<'_>, service: Service, container: &Value) {
    let port = settings::default_port(service);
    let expected = json!([{ "name": "h2c", "containerPort": port }]);
    report.unless(container["ports"] == expected, format!("has not the one port {port}, called h2c"));
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = text(&variable["name"]);
        let moves = name == "PORT" || name == format!("ATHENA_{}", service.port_setting().to_uppercase());
        report.unless(!moves, format!("{name} would move the port, which the platform sets"));
    }
    for kind in ["startupProbe", "livenessProbe"] {
        container::probe(report, container, kind, port);
        let of = |field: &str, default| container[kind][field].as_u64().unwrap_or(default);
        let (timeout, period) = (of("timeoutSeconds", 1), of("periodSeconds", 10));
        report.unless(timeout <= period, format!("the {kind} begins anew before its end"));
        report.unless(
            kind != "startupProbe" || period * of("failureThreshold", 3) <= LONGEST_START,
            format!("a start may take at most {LONGEST_START} s"),
        );
    }
}

/// Checks that what the service may do fits into what the platform gives it.
fn fit(report: &mut Report<'_>, spec: &Value, loaded: &Loaded) {
    report.unless(
        loaded.stop < GRACE,
        format!("its stop may take {:?}, it is killed after {GRACE:?}", loaded.stop),
    );
    let answer = Duration::from_secs(spec["timeoutSeconds"].as_u64().unwrap_or(300));
    report.unless(
        answer >= loaded.call,
        format!("calls are cut after {answer:?}, they may take {:?}", loaded.call),
    );
    // Files are memory here; half is left for everything else.
    let memory = text(&spec["containers"][0]["resources"]["limits"]["memory"]);
    let memory = ByteSize::parse(&format!("{memory}B")).map_or(0, ByteSize::bytes);
    report.unless(
        loaded.bytes <= memory / 2,
        format!("files and caches may take {} of {memory} bytes", loaded.bytes),
    );
}

fn peers(report: &mut Report<'_>, loaded: &Loaded) {
    for (setting, url) in &loaded.peers {
        let name = settings::peer(setting).map_or("", |peer| peer.name());
        let expected = format!("https://{name}-${{PROJECT_NUMBER}}.${{REGION}}.run.app");
        report.unless(*url == expected, format!("{setting} is {url:?}, the service is at {expected:?}"));
    }
}

#[test]
fn every_service_has_a_sound_manifest() {
    let files = files("cloud-run");
    let names: Vec<&str> = files.iter().map(|(path, _)| stem(path)).collect();
    let mut expected: Vec<&str> = Service::ALL.iter().map(|service| service.name()).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    none(files.iter().flat_map(|(path, text)| faults(path, text)));
}

#[test]
fn documents_are_kept_in_firestore_and_memories_are_said_to_be_lost() {
    let read = |name: &str| read(&format!("deploy/cloud-run/{name}.yaml"));
    assert!(read("storage-batcher").contains("name: ATHENA_FIRESTORE_PROJECT\n"));
    assert!(read("memory-service").contains("NOT DURABLE HERE"));
}

#[test]
fn what_the_platform_does_not_have_is_found() {
    let path = "deploy/cloud-run/storage-batcher.yaml";
    each_change_is_found(
        &read(path),
        |text| faults(path, text),
        &[
            ("containerConcurrency: 500", "concurrency: 500", "RevisionSpec has no field concurrency"),
            (
                "containerConcurrency: 500",
                "containerConcurrency: 5000",
                "containerConcurrency: 5000 is no value",
            ),
            ("containerConcurrency: 500", "securityContext: {}", "RevisionSpec has no field securityContext"),
            (
                "run.googleapis.com/cpu-throttling",
                "run.googleapis.com/cpu-throtling",
                "no field run.googleapis.com/cpu-throtling",
            ),
            (
                "run.googleapis.com/cpu-throttling",
                "autoscaling.knative.dev/scaleDownRate",
                "no field autoscaling",
            ),
            (
                "run.googleapis.com/cpu-throttling: \"false\"",
                "run.googleapis.com/cpu-throttling: false",
                "is no value",
            ),
            ("maxScale: \"1\"", "maxScale: 1", "is no text of digits"),
            ("gen2", "gen3", "execution-environment: \"gen3\" is no value"),
            ("ingress: internal", "ingress: private", "ingress: \"private\" is no value"),
            ("all-traffic", "everything", "vpc-access-egress"),
            ("name: h2c", "name: grpc", "\"grpc\" is no value"),
            ("serving.knative.dev/v1", "run.googleapis.com/v2", "apiVersion"),
            ("periodSeconds: 2", "interval: 2", "Probe has no field interval"),
            ("limits:\n", "limits:\n              pods: \"1\"\n", "Resources has no field pods"),
            ("traffic:", "status: {}\n  traffic:", "ServiceSpec has no field status"),
        ],
    );
}

#[test]
fn what_the_code_does_not_have_is_found() {
    let path = "deploy/cloud-run/storage-batcher.yaml";
    each_change_is_found(
        &read(path),
        |text| faults(path, text),
        &[
            ("containerPort: 7103", "containerPort: 8080", "not the one port 7103"),
            ("name: h2c", "name: http1", "called h2c"),
            (
                "env:\n",
                "env:\n            - name: PORT\n              value: \"80\"\n",
                "PORT would move the port",
            ),
            (
                "env:\n",
                "env:\n            - name: ATHENA_STORAGE_PORT\n              value: \"80\"\n",
                "would move the port",
            ),
            (
                "port: 7103\n              service",
                "port: 7101\n              service",
                "startupProbe asks port 7101",
            ),
            ("livenessProbe:", "readinessProbe:", "no livenessProbe"),
            ("failureThreshold: 60", "failureThreshold: 600", "a start may take at most"),
            ("timeoutSeconds: 1\n", "timeoutSeconds: 3\n", "begins anew before its end"),
            ("ATHENA_FIRESTORE_PROJECT", "ATHENA_FIRESTORE_PROJET", "no such setting"),
            ("value: 128MiB", "value: 128M", "journal_max_bytes"),
            ("value: 128MiB", "value: 600MiB", "files and caches may take"),
            (
                "STORAGE_DRAIN_TIMEOUT\n              value: 3s",
                "STORAGE_DRAIN_TIMEOUT\n              value: 4s",
                "its stop may take 10s",
            ),
            ("timeoutSeconds: 60", "timeoutSeconds: 20", "calls are cut after 20s"),
            ("maxScale: \"1\"", "maxScale: \"2\"", "would disagree"),
            ("cpu-throttling: \"false\"", "cpu-throttling: \"true\"", "stands still"),
            (
                "https://monitor-${PROJECT_NUMBER}",
                "https://monitor-${PROJECT}",
                "nobody is told to set ${PROJECT}",
            ),
            ("https://monitor-", "https://orchestrator-", "otlp_endpoint is"),
            ("/athena/storage-batcher:", "/athena/batcher:", "no program \"batcher\""),
            ("memory: 1Gi", "disk: 1Gi", "memory has no limit"),
            ("invoker-iam-disabled: \"true\"", "invoker-iam-disabled: \"false\"", "where ours stands"),
            ("ingress: internal", "ingress: all", "everybody can reach it"),
            (
                "name: athena-otlp-token",
                "name: otlp",
                "nobody is told to make the secret of ATHENA_OTLP_TOKEN",
            ),
        ],
    );
}
