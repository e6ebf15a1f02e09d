//! Manifests as data.

use std::{fs, path::Path};

use serde_json::Value;

/// The documents of a YAML file.
pub(crate) struct Manifest(Vec<Value>);

impl Manifest {
    /// Reads a file's text; a key that is there twice is an error.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_multiple(text).map(Self).map_err(|error| error.to_string())
    }

    /// Returns the documents.
    pub(crate) fn documents(&self) -> &[Value] {
        &self.0
    }

    /// Returns the document of one of these kinds, or nothing to find anything in.
    pub(crate) fn kind(&self, kinds: &[&str]) -> &Value {
        let found = self.0.iter().find(|document| kinds.contains(&text(&document["kind"])));
        found.unwrap_or(&Value::Null)
    }
}

/// Returns path and text of the files of a folder of `deploy/`, in order.
pub(crate) fn files(folder: &str) -> Vec<(String, String)> {
    let folder = format!("deploy/{folder}");
    let entries = fs::read_dir(root().join(&folder)).expect("a folder of deploy/").flatten();
    let mut files: Vec<(String, String)> = entries
        .map(|entry| {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            (path, fs::read_to_string(entry.path()).expect("a manifest"))
        })
        .collect();
    files.sort();
    files
}

/// Returns the text of a file of the workspace.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a file of the workspace")
}

/// Returns the workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is one folder up")
}

/// Returns a field that all packages of the workspace share.
pub(crate) fn workspace(field: &str) -> String {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("a manifest");
    manifest["workspace"]["package"][field].as_str().expect("a text").to_owned()
}

/// Returns the name that a manifest's file stands for.
pub(crate) fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.trim_end_matches(".yaml")
}

/// Returns a text, or none as an empty one.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the items of a list, or none.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[test]
fn documents_are_told_apart_and_a_key_that_is_there_twice_is_an_error() {
    let manifest = Manifest::parse("kind: A\nb: 1\n---\nkind: B\nb: \"1\"\n").expect("two documents");
    assert_eq!(manifest.documents().len(), 2);
    assert_eq!((&manifest.kind(&["A"])["b"], &manifest.kind(&["B"])["b"]), (&1.into(), &"1".into()));
    assert!(manifest.kind(&["C"]).is_null());
    assert!(Manifest::parse("a: 1\na: 2\n").is_err());
    assert_eq!(stem("deploy/kubernetes/monitor.yaml"), "monitor");
}
