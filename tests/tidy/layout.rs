//! What lies where.

use std::fs;

use crate::{manifests, none, source};

/// Everything that may lie at the top, beside [`HIDDEN`], cargo's `target` and `athena-data`, which a run leaves.
const TOP: [&str; 15] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "NOTICE",
    "README.md",
    "buf.yaml",
    "clippy.toml",
    "deploy",
    "proto",
    "rustfmt.toml",
    "services",
    "shared",
];
/// What may lie at the top and is hidden.
const HIDDEN: [&str; 5] = [".cargo", ".ci", ".dockerignore", ".git", ".gitignore"];
/// Names that lie nowhere: documentation is beside its code, commands are the program's own, and a pinned toolchain would force a
/// download.
const NOWHERE: [&str; 4] = ["docs", "rust-toolchain", "rust-toolchain.toml", "scripts"];
/// The kinds of tests over the whole.
const KINDS: [&str; 4] = ["e2e", "contract", "deploy", "tidy"];
/// Files that every service has; each module of it may be a folder.
const SERVICE: [&str; 8] = [
    "Cargo.toml",
    "README.md",
    "src/config.rs",
    "src/convert.rs",
    "src/error.rs",
    "src/lib.rs",
    "src/main.rs",
    "src/server.rs",
];

fn strangers(names: &[String]) -> Vec<String> {
    let is_known = |name: &String| {
        HIDDEN.contains(&name.as_str())
            || name == "target"
            || name == "athena-data"
            || name == "tests"
            || TOP.contains(&name.as_str())
    };
    names
        .iter()
        .filter(|name| !is_known(name))
        .map(|name| format!("{name} does not belong at the top"))
        .collect()
}

fn missing_at_top(names: &[String]) -> Vec<String> {
    let expected = TOP.iter().chain(&["tests"]);
    expected
        .filter(|name| !names.iter().any(|other| other == *name))
        .map(|name| format!("{name} is missing"))
        .collect()
}

/// Finds files in folders that are nowhere.
fn misplaced<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_misplaced = |path: &&str| path.split('/').any(|part| NOWHERE.contains(&part));
    paths.filter(is_misplaced).map(|path| format!("{path} lies where nothing should")).collect()
}

/// Finds files that a service should have; `athena` puts services together and has a README only.
fn missing_of_service(service: &str, paths: &[&str]) -> Vec<String> {
    let expected: &[&str] =
        if service == "athena" { &["Cargo.toml", "README.md", "src/main.rs"] } else { &SERVICE };
    let has = |file: &str| {
        let path = format!("services/{service}/{file}");
        let folder = format!("{}/", path.trim_end_matches(".rs"));
        paths.iter().any(|other| *other == path || other.starts_with(&folder))
    };
    expected
        .iter()
        .filter(|file| !has(file))
        .map(|file| format!("services/{service}/{file} is missing"))
        .collect()
}

#[test]
fn the_top_is_fixed() {
    let entries = fs::read_dir(source::root()).expect("the workspace");
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    none("strangers at the top", strangers(&names));
    none("missing at the top", missing_at_top(&names));
}

/// Finds packages with several test programs: a kind has one, with a module a story. `tests` has one a kind.
fn several_programs(packages: &[(&str, Vec<&str>)]) -> Vec<String> {
    let is_allowed = |(name, programs): &&(&str, Vec<&str>)| match *name {
        "tests" => *programs == KINDS,
        _ => programs.len() <= 1,
    };
    let several = packages.iter().filter(|package| !is_allowed(package));
    several.map(|(name, programs)| format!("{name} has the test programs {}", programs.join(", "))).collect()
}

#[test]
fn each_kind_of_test_is_one_program() {
    let packages = manifests::metadata().workspace_packages();
    let of = |package: &&'static cargo_metadata::Package| {
        let tests = package.targets.iter().filter(|target| target.is_test());
        (package.name.as_str(), tests.map(|target| target.name.as_str()).collect())
    };
    none("test programs", several_programs(&packages.iter().map(of).collect::<Vec<_>>()));
}

#[test]
fn several_test_programs_of_a_kind_are_found() {
    let packages = [("a", vec!["x", "y"]), ("b", vec!["x"]), ("c", vec![]), ("tests", vec!["e2e"])];
    assert_eq!(several_programs(&packages).len(), 2);
    assert!(several_programs(&[("tests", KINDS.to_vec())]).is_empty());
}

#[test]
fn some_names_lie_nowhere() {
    none("misplaced files", misplaced(source::files().iter().map(|file| file.path.as_str())));
}

#[test]
fn every_service_has_the_same_shape() {
    let paths: Vec<&str> = source::files().iter().map(|file| file.path.as_str()).collect();
    let mut services: Vec<&str> =
        paths.iter().filter_map(|path| path.strip_prefix("services/")?.split('/').next()).collect();
    services.dedup();
    assert_eq!(
        services,
        ["athena", "llm-gateway", "memory-service", "monitor", "orchestrator", "storage-batcher"]
    );
    none("shape of a service", services.iter().flat_map(|service| missing_of_service(service, &paths)));
}

#[test]
fn a_stranger_and_a_gap_are_found() {
    let names = ["docs", ".ci", ".env", "target", "Cargo.toml"].map(str::to_owned);
    assert_eq!(strangers(&names), ["docs does not belong at the top", ".env does not belong at the top"]);
    assert_eq!(
        misplaced(["shared/a/docs/b.md", "shared/a/src/docs.rs", "services/x/rust-toolchain"].into_iter())
            .len(),
        2
    );
    assert!(missing_at_top(&names).contains(&"README.md is missing".to_owned()));
    let paths = ["services/x/src/convert/a.rs", "services/x/src/lib.rs"];
    assert_eq!(missing_of_service("x", &paths).len(), 6);
}
