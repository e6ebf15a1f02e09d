//! Every dependency of ours is used.

use crate::{
    manifests::{Crate, crates},
    none, source,
};

/// Dependencies that are there for what they switch on, not for what they offer, with the reason.
const SWITCHES: [(&str, &str); 1] = [("tonic-prost", "the generated contracts name it")];

/// Finds dependencies that the crate's own text never names.
fn unused(one: &Crate, code: &str) -> Vec<String> {
    let words: std::collections::HashSet<&str> = source::words(code).map(|(_, word)| word).collect();
    one.dependencies
        .iter()
        .filter(|(name, _)| !words.contains(name.replace('-', "_").as_str()))
        .filter(|(name, _)| !SWITCHES.iter().any(|(switch, _)| switch == name))
        .map(|(name, _)| format!("{}: {name} is not used", one.folder))
        .collect()
}

#[test]
fn every_dependency_is_used() {
    let of = |one: &Crate| {
        let folder = format!("{}/", one.folder);
        let texts = source::rust()
            .filter(|file| file.path.starts_with(&folder))
            .map(|file| source::mask(&file.text).code);
        unused(one, &texts.collect::<Vec<_>>().join("\n"))
    };
    none("unused dependencies", crates().iter().flat_map(of));
}

#[test]
fn a_dependency_that_no_text_names_is_found() {
    let one = Crate {
        name: "a".to_owned(),
        folder: "shared/a".to_owned(),
        description: String::new(),
        dependencies: ["serde_json", "tokio-util"]
            .map(|name| (name.to_owned(), crate::manifests::Kind::Always))
            .to_vec(),
    };
    assert_eq!(unused(&one, "use tokio_util::x;"), ["shared/a: serde_json is not used"]);
}
