//! The manifests for Kubernetes.

use std::time::Duration;

use athena::Service;
use serde_json::{Value, json};

use crate::{
    Report, container, each_change_is_found,
    image::USER,
    manifest::{Manifest, files, items, read, stem, text},
    none,
    settings::{self, Loaded},
};

/// Where all of it lives.
const NAMESPACE: &str = "athena";
/// Services of which there is one at most, wherever it runs.
const SINGLETON: Service = Service::Orchestrator;

fn faults(path: &str, text: &str) -> Vec<String> {
    let mut report = Report::of(path);
    let (Some(service), Ok(manifest)) = (Service::named(stem(path)), Manifest::parse(text)) else {
        return vec![format!("{path}: is no service's, or no YAML")];
    };
    for document in manifest.documents() {
        report.unless(document["metadata"]["namespace"] == NAMESPACE, "lies in another namespace");
        report.unless(document["metadata"]["name"] == service.name(), "has another name than its file");
    }
    let workload = manifest.kind(&["Deployment", "StatefulSet"]);
    let pod = &workload["spec"]["template"]["spec"];
    let containers = &pod["containers"];
    report.unless(items(containers).count() == 1, "has not exactly one container");
    pod_rules(&mut report, pod);
    container_rules(&mut report, &containers[0]);
    address(&mut report, service, &manifest, workload);
    let Some(loaded) = container::check(&mut report, service, &containers[0]) else { return report.lines };
    for kind in ["startupProbe", "readinessProbe", "livenessProbe"] {
        container::probe(&mut report, &containers[0], kind, loaded.port);
    }
    report.unless(
        containers[0]["ports"] == json!([{ "name": "grpc", "containerPort": loaded.port }]),
        format!("the container has not the one port {}, called grpc", loaded.port),
    );
    grace(&mut report, pod, &containers[0], &loaded);
    volume(&mut report, &manifest, workload, &loaded);
    replicas(&mut report, service, &manifest, workload, &loaded);
    peers(&mut report, &loaded);
    report.lines
}

fn pod_rules(report: &mut Report<'_>, pod: &Value) {
    report.unless(pod["automountServiceAccountToken"] == false, "mounts a token of the cluster");
    report.unless(pod["enableServiceLinks"] == false, "lets the cluster add variables");
    let security = &pod["securityContext"];
    report.unless(security["runAsNonRoot"] == true, "may run as root");
    report.unless(
        security["runAsUser"] == USER && security["runAsGroup"] == USER,
        "runs as another user than the image",
    );
    report.unless(security["seccompProfile"]["type"] == "RuntimeDefault", "has no seccomp profile");
}

fn container_rules(report: &mut Report<'_>, container: &Value) {
    let security = &container["securityContext"];
    report.unless(security["readOnlyRootFilesystem"] == true, "can write to its root file system");
    report.unless(security["allowPrivilegeEscalation"] == false, "can gain privileges");
    report.unless(security["capabilities"]["drop"] == json!(["ALL"]), "keeps capabilities");
    report.unless(security["capabilities"]["add"].is_null(), "takes capabilities");
    for what in ["cpu", "memory"] {
        report
            .unless(!container["resources"]["requests"][what].is_null(), format!("{what} is not asked for"));
    }
}

/// Checks that the address that callers resolve leads to the pods of the workload.
fn address(report: &mut Report<'_>, service: Service, manifest: &Manifest, workload: &Value) {
    let spec = &manifest.kind(&["Service"])["spec"];
    report.unless(spec["clusterIP"] == "None", "the address is not headless");
    let port = settings::default_port(service);
    report.unless(
        spec["ports"]
            == json!([{ "name": "grpc", "port": port, "targetPort": "grpc", "appProtocol": "grpc" }]),
        format!("the address has not the one port {port} for gRPC"),
    );
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    let selected = |selector: &Value| {
        let pairs = selector.as_object().filter(|pairs| !pairs.is_empty());
        pairs.is_some_and(|pairs| pairs.iter().all(|(name, value)| labels[name] == *value))
    };
    report.unless(selected(&spec["selector"]), "the address selects other pods");
    report.unless(selected(&workload["spec"]["selector"]["matchLabels"]), "the workload selects other pods");
}

/// Checks that a pod is not killed while it still does what its settings let it do.
fn grace(report: &mut Report<'_>, pod: &Value, container: &Value, loaded: &Loaded) {
    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    report.unless(pause.is_some_and(|seconds| seconds > 0), "stops before its callers notice");
    let needed = Duration::from_secs(pause.unwrap_or_default()) + loaded.stop;
    let given = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30));
    report.unless(given > needed, format!("is killed after {given:?}, its stop may take {needed:?}"));
}

/// Checks that the folder to which the service writes is a volume.
fn volume(report: &mut Report<'_>, manifest: &Manifest, workload: &Value, loaded: &Loaded) {
    let Some(folder) = &loaded.folder else { return };
    let pod = &workload["spec"]["template"]["spec"];
    let mounts = items(&pod["containers"][0]["volumeMounts"]);
    let mount = mounts.filter(|mount| folder.starts_with(text(&mount["mountPath"]))).last();
    let Some(mount) = mount.filter(|mount| mount["readOnly"] != true) else {
        return report.fault(format!("{} is written to and is no volume", folder.display()));
    };
    let name = text(&mount["name"]);
    let claimed =
        items(&workload["spec"]["volumeClaimTemplates"]).any(|claim| claim["metadata"]["name"] == name);
    let claim = items(&pod["volumes"]).find(|volume| volume["name"] == name);
    let claim = claim.map_or(&Value::Null, |volume| &volume["persistentVolumeClaim"]["claimName"]);
    let is_here =
        claim.is_string() && manifest.kind(&["PersistentVolumeClaim"])["metadata"]["name"] == *claim;
    report.unless(claimed || is_here, format!("the volume {name:?} is claimed nowhere"));
    report.unless(pod["securityContext"]["fsGroup"] == USER, "the volume is another user's");
}

fn replicas(
    report: &mut Report<'_>,
    service: Service,
    manifest: &Manifest,
    workload: &Value,
    loaded: &Loaded,
) {
    let count = workload["spec"]["replicas"].as_u64().unwrap_or(1);
    let budget = manifest.kind(&["PodDisruptionBudget"]);
    let selects = budget["spec"]["selector"] == workload["spec"]["selector"];
    report.unless(count <= 1 || selects, "several replicas may all be evicted at once");
    report
        .unless(count <= 1 || !loaded.is_store, "several replicas would each keep a part of what is stored");
    if loaded.folder.is_some() && service != SINGLETON {
        report.unless(workload["kind"] == "StatefulSet", "has a store and is no StatefulSet");
    }
    if service == SINGLETON {
        let waits = workload["spec"]["strategy"]["type"] == "Recreate";
        report.unless(count == 1 && waits, "two of it may run at once");
        let modes = &manifest.kind(&["PersistentVolumeClaim"])["spec"]["accessModes"];
        report.unless(*modes == json!(["ReadWriteOncePod"]), "two pods may share its journal");
    }
}

/// Checks that addresses of peers are those of the services that are meant.
fn peers(report: &mut Report<'_>, loaded: &Loaded) {
    for (setting, url) in &loaded.peers {
        let expected = settings::peer(setting)
            .map(|peer| format!("http://{}.{NAMESPACE}:{}", peer.name(), settings::default_port(peer)));
        let expected = expected.unwrap_or_default();
        report.unless(*url == expected, format!("{setting} is {url:?}, the service is at {expected:?}"));
    }
}

#[test]
fn every_service_has_a_sound_manifest() {
    let files = files("kubernetes");
    let mut names: Vec<&str> =
        files.iter().map(|(path, _)| stem(path)).filter(|name| *name != "namespace").collect();
    let mut expected: Vec<&str> = Service::ALL.iter().map(|service| service.name()).collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    none(
        files
            .iter()
            .filter(|(path, _)| stem(path) != "namespace")
            .flat_map(|(path, text)| faults(path, text)),
    );
}

#[test]
fn the_namespace_lets_nothing_privileged_in() {
    let manifest = Manifest::parse(&read("deploy/kubernetes/namespace.yaml")).expect("YAML");
    let metadata = &manifest.kind(&["Namespace"])["metadata"];
    assert_eq!(metadata["name"], NAMESPACE);
    assert_eq!(metadata["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn a_manifest_that_does_not_fit_the_code_is_found() {
    let path = "deploy/kubernetes/storage-batcher.yaml";
    each_change_is_found(
        &read(path),
        |text| faults(path, text),
        &[
            (
                "port: 7103\n      targetPort",
                "port: 7102\n      targetPort",
                "not the one port 7103 for gRPC",
            ),
            ("containerPort: 7103", "containerPort: 8080", "not the one port 7103, called grpc"),
            ("ATHENA_STORAGE_DIR", "ATHENA_STORE_DIR", "no such setting"),
            ("ATHENA_STORAGE_DIR", "ATHENA_MEMORY_DIR", "no such setting"),
            ("value: /data", "value: \"\"", "storage_dir"),
            ("value: /data", "value: /var/lib", "/var/lib is written to and is no volume"),
            ("value: /data", "value: 5", "has no value in quotes"),
            ("http://monitor.athena:7104", "http://monitor.athena:7103", "otlp_endpoint is"),
            ("http://monitor.athena:7104", "http://monitor:7104", "otlp_endpoint is"),
            (
                "image: athena/storage-batcher:",
                "image: athena/storage-bitcher:",
                "no program \"storage-bitcher\"",
            ),
            ("image: athena/storage-batcher:", "image: athena/monitor:", "another service's"),
            ("image: athena/storage-batcher:", "image: athens/storage-batcher:", "not in athena/"),
            ("storage-batcher:0.", "storage-batcher:9.", "is of version"),
            ("startupProbe:", "startProbe:", "no startupProbe over gRPC"),
            ("readinessProbe:", "readyProbe:", "no readinessProbe over gRPC"),
            (
                "livenessProbe:\n            grpc:",
                "livenessProbe:\n            tcpSocket:",
                "no livenessProbe over gRPC",
            ),
            ("grpc:\n              port: 7103", "grpc:\n              port: 7101", "asks port 7101"),
            ("terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 30", "may take 30s"),
            ("      terminationGracePeriodSeconds: 45\n", "", "is killed after 30s"),
            ("preStop:", "postStart:", "before its callers notice"),
            ("mountPath: /data", "mountPath: /other", "no volume"),
            ("mountPath: /data", "mountPath: /data\n              readOnly: true", "no volume"),
            ("- metadata:\n        name: data", "- metadata:\n        name: date", "claimed nowhere"),
            ("fsGroup: 65532", "fsGroup: 1", "another user's"),
            ("replicas: 1", "replicas: 2", "each keep a part"),
            ("replicas: 1", "replicas: 2", "evicted at once"),
            ("kind: StatefulSet", "kind: Deployment", "no StatefulSet"),
            ("clusterIP: None\n", "type: ClusterIP\n", "headless"),
            (
                "selector:\n    app.kubernetes.io/name: storage-batcher",
                "selector:\n    app: x",
                "selects other pods",
            ),
            ("namespace: athena", "namespace: default", "another namespace"),
        ],
    );
}

#[test]
fn an_environment_that_does_not_fit_the_code_is_found() {
    let path = "deploy/kubernetes/storage-batcher.yaml";
    each_change_is_found(
        &read(path),
        |text| faults(path, text),
        &[
            ("name: ATHENA_AUTH_TOKENS", "name: ATHENA_OTLP_TOKEN", "there are no ATHENA_AUTH_TOKENS"),
            ("name: ATHENA_AUTH_TOKENS", "name: ATHENA_OTLP_TOKEN", "is there twice"),
            ("key: auth_tokens", "key: tokens", "nobody is told to make the secret of ATHENA_AUTH_TOKENS"),
            (
                "name: athena\n                  key: auth",
                "name: x\n                  key: auth",
                "nobody is told to make",
            ),
            (
                "env:\n",
                "env:\n            - name: ATHENA_ALLOW_ANONYMOUS\n              value: \"yes\"\n",
                "allow_anonymous",
            ),
            (
                "env:\n",
                "env:\n            - name: ATHENA_OTLP_TOKEN\n              value: abc\n",
                "comes from none",
            ),
            (
                "env:\n",
                "env:\n            - name: ATHENA_BIND_ADDRESS\n              value: 127.0.0.1\n",
                "loopback",
            ),
            (
                "env:\n",
                "env:\n            - name: ATHENA_STORAGE_DRAIN_TIMEOUT\n              value: 30s\n",
                "may take 50s",
            ),
        ],
    );
}

#[test]
fn a_pod_that_may_do_more_than_it_must_is_found() {
    let path = "deploy/kubernetes/storage-batcher.yaml";
    each_change_is_found(
        &read(path),
        |text| faults(path, text),
        &[
            ("runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
            ("runAsUser: 65532", "runAsUser: 1000", "another user"),
            ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "its root file system"),
            ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "privileges"),
            ("- ALL", "- NET_RAW", "keeps capabilities"),
            ("RuntimeDefault", "Unconfined", "seccomp"),
            ("enableServiceLinks: false", "enableServiceLinks: true", "add variables"),
            (
                "automountServiceAccountToken: false",
                "automountServiceAccountToken: true",
                "a token of the cluster",
            ),
            ("limits:\n              cpu: \"1\"\n", "limits:\n", "cpu has no limit"),
            ("            requests:\n", "            asks:\n", "memory is not asked for"),
        ],
    );
}

#[test]
fn an_orchestrator_of_which_two_may_run_is_found() {
    let path = "deploy/kubernetes/orchestrator.yaml";
    each_change_is_found(
        &read(path),
        |text| faults(path, text),
        &[
            ("type: Recreate", "type: RollingUpdate", "two of it"),
            ("replicas: 1", "replicas: 2", "two of it"),
            ("ReadWriteOncePod", "ReadWriteMany", "share its journal"),
            ("claimName: orchestrator", "claimName: agent", "claimed nowhere"),
            ("http://llm-gateway.athena:7101", "http://llm-gateway.athena:7100", "agent_llm_url is"),
            ("value: 30s", "value: 40s", "may take 50s"),
        ],
    );
}

#[test]
fn replicas_without_a_budget_are_found() {
    let path = "deploy/kubernetes/llm-gateway.yaml";
    let changes = [("kind: PodDisruptionBudget", "kind: ConfigMap", "evicted at once")];
    each_change_is_found(&read(path), |text| faults(path, text), &changes);
}
