//! The build script names every contract: cargo watches only those it names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Returns the contracts a build script names: the paths in quotes that end in `.proto`.
fn named(script: &str) -> BTreeSet<String> {
    script.split('"').filter(|part| part.ends_with(".proto")).map(str::to_owned).collect()
}

/// Returns the contracts below a folder, by their path in it.
fn found(root: &Path) -> BTreeSet<String> {
    let mut folders = vec![root.to_owned()];
    let mut files = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_build_script_names_every_contract() {
    let script = fs::read_to_string(workspace().join("shared/contracts/build.rs")).unwrap();
    assert_eq!(named(&script), found(&workspace().join("proto")));
}

#[test]
fn a_contract_that_is_not_named_is_found() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/v1")).unwrap();
    fs::write(root.path().join("a/v1/a.proto"), "").unwrap();
    fs::write(root.path().join("a/v1/README.md"), "").unwrap();
    assert_eq!(found(root.path()), named(r#"const PROTOS: &[&str] = &["a/v1/a.proto"];"#));
    assert_ne!(found(root.path()), named("const PROTOS: &[&str] = &[];"));
}
