//! Names that say nothing.

use crate::{none, source};

/// Parts of names of crates, folders, files and modules that say nothing about what is inside.
const EMPTY: [&str; 11] = [
    "common",
    "core",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "types",
    "util",
    "utilities",
    "utils",
];

/// Finds folders, files and modules with such a name.
fn empty_names(path: &str, text: &str) -> Vec<String> {
    let says_nothing = |name: &str| name.split(['-', '_', '.']).any(|part| EMPTY.contains(&part));
    let mut violations: Vec<String> = path
        .split('/')
        .filter(|part| says_nothing(part))
        .map(|part| format!("{path}: {part} says nothing"))
        .collect();
    if path.ends_with(".rs") {
        let code = source::mask(text).code;
        let words: Vec<(usize, &str)> = source::words(&code).collect();
        for pair in words.windows(2) {
            if pair[0].1 == "mod" && says_nothing(pair[1].1) {
                let line = source::line(&code, pair[1].0);
                violations.push(format!("{path}:{line}: mod {} says nothing", pair[1].1));
            }
        }
    }
    violations
}

#[test]
fn every_name_says_something() {
    none("names", source::files().iter().flat_map(|file| empty_names(&file.path, &file.text)));
}

#[test]
fn a_name_that_says_nothing_is_found() {
    for path in [
        "shared/common/Cargo.toml",
        "shared/x/src/utils.rs",
        "shared/x/src/cache_manager.rs",
        "services/core/a.rs",
    ] {
        assert_eq!(empty_names(path, "").len(), 1, "{path}");
    }
    assert_eq!(empty_names("shared/x/src/lib.rs", "mod score;\nmod helpers {}\n// mod utils").len(), 1);
    assert!(empty_names("shared/x/src/score.rs", "mod typesetting;").is_empty());
}
