//! What others wrote and we build: its licences, its versions, where it comes from.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use crate::{manifests::metadata, none, source};

/// Licences under which our work can be given on as Apache-2.0.
const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Crates that must not be built, with the reason.
const BANNED: [(&str, &str); 6] = [
    ("openssl", "needs a library of the system; TLS is rustls"),
    ("openssl-sys", "needs a library of the system; TLS is rustls"),
    ("native-tls", "a second TLS stack"),
    ("ring", "a second provider of cryptography beside aws-lc-rs"),
    ("protobuf-src", "builds protoc; contracts are compiled by protox"),
    ("opentelemetry-jaeger", "superseded by OTLP"),
];
/// Crates of which two versions would not understand each other.
const ONCE: [&str; 17] = [
    "axum",
    "h2",
    "http",
    "http-body",
    "hyper",
    "opentelemetry",
    "opentelemetry-proto",
    "opentelemetry_sdk",
    "prost",
    "redb",
    "rustls",
    "tokio",
    "tokio-rustls",
    "tonic",
    "tower",
    "tracing",
    "tracing-subscriber",
];

/// A package as far as these rules look at it.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    is_from_registry: bool,
}

fn unlicensed(packages: &[Package]) -> Vec<String> {
    let is_fine = |package: &&Package| !package.licence.as_deref().is_some_and(allows);
    packages
        .iter()
        .filter(is_fine)
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.licence))
        .collect()
}

/// Returns whether an SPDX expression leaves a way that is on the list: one side of each OR, both of each AND.
fn allows(expression: &str) -> bool {
    // Manifests from before 2018 write OR as a slash.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> bool {
    let mut is_allowed = both(rest);
    while let ["OR", after @ ..] = rest {
        *rest = after;
        is_allowed |= both(rest);
    }
    is_allowed
}

fn both(rest: &mut &[&str]) -> bool {
    let mut is_allowed = single(rest);
    while let ["AND", after @ ..] = rest {
        *rest = after;
        is_allowed &= single(rest);
    }
    is_allowed
}

fn single(rest: &mut &[&str]) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let is_allowed = either(rest);
            let [")", after @ ..] = rest else { return false };
            *rest = after;
            is_allowed
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            LICENCES.contains(&format!("{licence} WITH {exception}").as_str())
        }
        [licence, after @ ..] => {
            *rest = after;
            LICENCES.contains(licence)
        }
        [] => false,
    }
}

fn banned(packages: &[Package]) -> Vec<String> {
    let reason =
        |package: &Package| BANNED.iter().find(|(name, _)| *name == package.name).map(|(_, reason)| *reason);
    packages.iter().filter_map(|package| Some(format!("{}: {}", package.name, reason(package)?))).collect()
}

fn twice(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages.iter().filter(|package| ONCE.contains(&package.name.as_str())) {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several.map(|(name, versions)| format!("{name} in versions {}", versions.join(" and "))).collect()
}

fn from_elsewhere(packages: &[Package]) -> Vec<String> {
    let elsewhere = packages.iter().filter(|package| !package.is_from_registry);
    elsewhere.map(|package| format!("{} {} comes from no registry", package.name, package.version)).collect()
}

/// Returns what cargo builds for this platform and did not find in the workspace, as `cargo tree` says: the graph of
/// `cargo metadata` also holds crates behind features that nobody switched on.
fn packages() -> Vec<Package> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--prefix", "none", "--format", "{p}"])
        .current_dir(source::root())
        .output()
        .expect("cargo tree");
    let tree = String::from_utf8(tree.stdout).expect("text");
    let built: BTreeSet<(&str, &str)> = tree.lines().filter_map(name_and_version).collect();
    assert!(built.len() > 100, "cargo tree said nothing");
    let metadata = metadata();
    let others = metadata.packages.iter().filter(|package| !metadata.workspace_members.contains(&package.id));
    others
        .map(|package| Package {
            name: package.name.to_string(),
            version: package.version.to_string(),
            licence: package.license.clone(),
            is_from_registry: package
                .source
                .as_ref()
                .is_some_and(|source| source.repr.starts_with("registry+")),
        })
        .filter(|package| built.contains(&(package.name.as_str(), package.version.as_str())))
        .collect()
}

/// Reads a line of `cargo tree`: "serde v1.0.0 (proc-macro)".
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

#[test]
fn licences_are_on_the_list() {
    none("licences", unlicensed(&packages()));
}

#[test]
fn no_banned_crate_is_built() {
    none("banned crates", banned(&packages()));
}

#[test]
fn what_must_fit_together_is_there_once() {
    none("two versions", twice(&packages()));
}

#[test]
fn every_package_comes_from_a_registry() {
    none("origin of packages", from_elsewhere(&packages()));
}

#[cfg(test)]
fn made(name: &str, version: &str, licence: Option<&str>) -> Package {
    Package {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.map(str::to_owned),
        is_from_registry: false,
    }
}

#[test]
fn each_bad_package_is_found() {
    let packages = [
        made("tonic", "0.13.0", Some("MIT")),
        made("tonic", "0.14.0", Some("GPL-3.0")),
        made("openssl", "0.10.0", None),
    ];
    assert_eq!(unlicensed(&packages), ["tonic 0.14.0: Some(\"GPL-3.0\")", "openssl 0.10.0: None"]);
    assert_eq!(banned(&packages).len(), 1);
    assert_eq!(twice(&packages), ["tonic in versions 0.13.0 and 0.14.0"]);
    assert_eq!(from_elsewhere(&packages).len(), 3);
}

#[test]
fn an_expression_of_licences_needs_one_allowed_way() {
    for (expression, is_allowed) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT OR LGPL-2.1-or-later", true),
        ("GPL-2.0 OR LGPL-2.1-or-later", false),
        ("ISC AND (Apache-2.0 OR GPL-3.0)", true),
        ("ISC AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-2.0 WITH Classpath-exception-2.0", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(allows(expression), is_allowed, "{expression}");
    }
}
