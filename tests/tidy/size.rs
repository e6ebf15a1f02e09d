//! How long files and functions are.

use crate::{none, source};

/// Most lines of a file, its inline tests not counted.
const FILE: usize = 500;
/// Most lines of a service's `main.rs`.
const MAIN: usize = 60;
/// Most lines of a service's README, the generated table of settings not counted.
const README: usize = 80;

fn lines(path: &str, text: &str) -> usize {
    let count = text.lines().count();
    let is_test = |path: &str| path.split('/').any(|part| part == "tests" || part == "tests.rs");
    if !path.ends_with(".rs") || is_test(path) {
        return count;
    }
    source::test_lines(path, &source::mask(text).code).into_iter().filter(|is_test| !is_test).count()
}

fn too_long(path: &str, text: &str) -> Vec<String> {
    let limit = match path.split('/').collect::<Vec<_>>()[..] {
        ["services", _, "src", "main.rs"] => MAIN,
        ["services", _, "README.md"] => README,
        _ if path.ends_with(".rs") || path.ends_with(".proto") => FILE,
        _ => return Vec::new(),
    };
    let count = if path.ends_with(".md") { without_table(text) } else { lines(path, text) };
    if count > limit { vec![format!("{path}: {count} lines, at most {limit}")] } else { Vec::new() }
}

fn without_table(text: &str) -> usize {
    let table = crate::tables::between_markers(text).map_or(0, |table| table.lines().count());
    text.lines().count() - table
}

/// Returns the length of every function that is no test's.
fn functions(path: &str, text: &str) -> Vec<usize> {
    let code = source::mask(text).code;
    let is_test = source::test_lines(path, &code);
    let starts = source::words(&code).filter(|(_, word)| *word == "fn").map(|(offset, _)| offset);
    starts
        .filter(|offset| !is_test.get(source::line(&code, *offset) - 1).copied().unwrap_or(true))
        .map(|offset| {
            let end = offset + source::end_of_item(&code[offset..]);
            source::line(&code, end) - source::line(&code, offset) + 1
        })
        .filter(|length| *length > 1)
        .collect()
}

fn distribution(mut lengths: Vec<usize>) -> String {
    lengths.sort_unstable();
    let at =
        |percent: usize| lengths.get((lengths.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0);
    format!("{} median {}, 90th percentile {}, longest {}", lengths.len(), at(50), at(90), at(100))
}

#[test]
fn no_file_is_too_long() {
    let production = || source::rust().filter(|file| !file.path.starts_with("tests/"));
    println!("files: {}", distribution(production().map(|file| lines(&file.path, &file.text)).collect()));
    println!(
        "functions: {}",
        distribution(production().flat_map(|file| functions(&file.path, &file.text)).collect())
    );
    none("length", source::files().iter().flat_map(|file| too_long(&file.path, &file.text)));
}

#[test]
fn a_long_file_is_found_and_its_inline_tests_are_not_counted() {
    let long = "fn a() {}\n".repeat(501);
    assert_eq!(too_long("shared/x/src/lib.rs", &long), ["shared/x/src/lib.rs: 501 lines, at most 500"]);
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "fn a() {}\n".repeat(500));
    assert!(too_long("shared/x/src/lib.rs", &tested).is_empty());
    assert_eq!(too_long("tests/e2e/x.rs", &long).len(), 1);
    assert_eq!(too_long("services/x/src/main.rs", &"fn a() {}\n".repeat(61)).len(), 1);
    assert_eq!(too_long("services/x/README.md", &"a\n".repeat(81)).len(), 1);
    assert!(too_long("README.md", &"a\n".repeat(600)).is_empty());
}

#[test]
fn lengths_are_counted_from_the_signature_to_the_brace() {
    assert_eq!(functions("a.rs", "fn a() {\n    b();\n}\n\ntrait T {\n    fn c();\n}\n"), [3]);
    assert_eq!(distribution(vec![1, 2, 3, 4, 100]), "5 median 3, 90th percentile 4, longest 100");
}
