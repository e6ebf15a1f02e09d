//! The manifests of the workspace's crates.

use std::{process::Command, sync::OnceLock};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use toml::Table;

use crate::{none, source};

/// One of our crates.
#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Relative to the workspace.
    pub(crate) folder: String,
    pub(crate) description: String,
    /// Everything it depends on, ours and others'.
    pub(crate) dependencies: Vec<(String, Kind)>,
}

/// When a dependency is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In every build.
    Always,
    /// Behind a feature.
    Optional,
    /// In tests and at build time only.
    Test,
}

/// Returns what cargo resolved for this machine; what is built for no platform of ours is not in it.
pub(crate) fn metadata() -> &'static Metadata {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    METADATA.get_or_init(|| {
        let version = Command::new("rustc").arg("-vV").output().expect("rustc says its version");
        let version = String::from_utf8(version.stdout).expect("text");
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
        MetadataCommand::new()
            .current_dir(source::root())
            .other_options(["--filter-platform", host].map(str::to_owned))
            .exec()
            .expect("cargo metadata")
    })
}

/// Returns our crates.
pub(crate) fn crates() -> &'static [Crate] {
    static CRATES: OnceLock<Vec<Crate>> = OnceLock::new();
    CRATES.get_or_init(|| {
        let metadata = metadata();
        let root = &metadata.workspace_root;
        let packages = metadata.workspace_packages().into_iter();
        packages
            .map(|package| {
                let folder = package.manifest_path.parent().and_then(|folder| folder.strip_prefix(root).ok());
                let kind =
                    |dependency: &cargo_metadata::Dependency| match (dependency.kind, dependency.optional) {
                        (DependencyKind::Normal, false) => Kind::Always,
                        (DependencyKind::Normal, true) => Kind::Optional,
                        _ => Kind::Test,
                    };
                Crate {
                    name: package.name.to_string(),
                    folder: folder.expect("a folder of the workspace").to_string(),
                    description: package.description.clone().unwrap_or_default(),
                    dependencies: package
                        .dependencies
                        .iter()
                        .map(|one| (one.name.clone(), kind(one)))
                        .collect(),
                }
            })
            .collect()
    })
}

/// Finds lints, versions and package fields that a member has of its own.
fn apart(path: &str, text: &str) -> Vec<String> {
    let Ok(manifest) = text.parse::<Table>() else { return vec![format!("{path}: no TOML")] };
    let inherits = |value: Option<&toml::Value>| {
        value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    let mut violations = Vec::new();
    if !inherits(manifest.get("lints")) {
        violations.push(format!("{path}: [lints] workspace = true is missing"));
    }
    for field in ["version", "edition", "rust-version", "license", "publish"] {
        if !inherits(manifest.get("package").and_then(|package| package.get(field))) {
            violations.push(format!("{path}: {field}.workspace = true is missing"));
        }
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
            if !inherits(Some(value)) {
                violations.push(format!("{path}: {name} has a version of its own"));
            }
        }
    }
    violations
}

#[test]
fn members_inherit_lints_and_versions() {
    let members = source::files().iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    none("manifests", members.flat_map(|file| apart(&file.path, &file.text)));
}

#[test]
fn a_member_with_lints_or_versions_of_its_own_is_found() {
    let sound = "[package]\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
        license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";
    assert!(apart("a", &format!("{sound}[dependencies]\nserde.workspace = true\n")).is_empty());
    assert_eq!(
        apart("a", &format!("{sound}[dependencies]\nserde = \"1\"\n")),
        ["a: serde has a version of its own"]
    );
    assert_eq!(apart("a", "[package]\n").len(), 6);
}

#[test]
fn every_folder_of_crates_is_a_member() {
    let folders: Vec<&str> = crates().iter().map(|one| one.folder.as_str()).collect();
    for file in source::files().iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let folder = file.path.trim_end_matches("/Cargo.toml");
        assert!(folders.contains(&folder), "{folder} is no member");
    }
}
