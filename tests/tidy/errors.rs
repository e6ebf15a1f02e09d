//! How errors read.

use crate::{none, source};

/// Finds messages of errors that are no lowercase clause, or that repeat their source.
fn messages(path: &str, text: &str) -> Vec<String> {
    let masked = source::mask(text);
    let found = masked.code.match_indices("#[error(").filter_map(|(offset, attribute)| {
        let quoted = masked.strings[offset + attribute.len()..].trim_start().strip_prefix('"')?;
        Some((offset, quoted.split_once('"')?.0))
    });
    let is_careless = |message: &str| {
        let word = message.split_whitespace().next().unwrap_or_default();
        let is_name = word.chars().skip(1).any(char::is_uppercase);
        (message.starts_with(char::is_uppercase) && !is_name)
            || message.ends_with('.')
            || message.contains("{source")
    };
    let careless = found.filter(|(_, message)| is_careless(message));
    careless.map(|(offset, message)| format!("{path}:{}: {message:?}", source::line(text, offset))).collect()
}

/// Finds services whose `error.rs` is not one enum and its one mapping to a fault.
fn several(path: &str, text: &str) -> Vec<String> {
    let is_home = matches!(path.split('/').collect::<Vec<_>>()[..], ["services", _, "src", "error.rs"]);
    if !is_home {
        return Vec::new();
    }
    let code = source::mask(text).code;
    let is_test = source::test_lines(path, &code);
    let code: String = code
        .lines()
        .zip(is_test)
        .filter(|(_, is_test)| !is_test)
        .map(|(line, _)| format!("{line}\n"))
        .collect();
    let enums = source::words(&code).filter(|(_, word)| *word == "enum").count();
    let mappings = ["for Fault {", "for rpc::Fault {"].map(|mapping| code.matches(mapping).count());
    let mappings: usize = mappings.into_iter().sum();
    if (enums, mappings) == (1, 1) {
        Vec::new()
    } else {
        vec![format!("{path}: {enums} enums and {mappings} mappings to a fault, one of each should do")]
    }
}

#[test]
fn messages_of_errors_are_lowercase_clauses() {
    none("messages of errors", source::rust().flat_map(|file| messages(&file.path, &file.text)));
}

#[test]
fn a_service_has_one_error_and_one_mapping() {
    none("error.rs", source::rust().flat_map(|file| several(&file.path, &file.text)));
}

#[test]
fn a_careless_error_is_found() {
    for (text, count) in [
        ("#[error(\"cannot open {path}\")]", 0),
        ("#[error(\"DefiLlama did not answer\")]", 0),
        ("#[error(transparent)] struct A; const B: &str = \"C.\";", 0),
        ("#[error(\"Cannot open {path}\")]", 1),
        ("#[error(\n    \"cannot open.\"\n)]", 1),
        ("#[error(\"cannot open: {source}\")]", 1),
    ] {
        assert_eq!(messages("a.rs", text).len(), count, "{text}");
    }
    let one = "enum Error {}\nimpl From<Error> for Fault {}\n#[cfg(test)]\nmod tests { enum Other {} }\n";
    assert!(several("services/x/src/error.rs", one).is_empty());
    assert_eq!(several("services/x/src/error.rs", &format!("enum Cause {{}}\n{one}")).len(), 1);
    assert_eq!(several("services/x/src/error.rs", &one.replace("Fault", "Status")).len(), 1);
    assert!(several("services/x/src/fold.rs", "").is_empty());
}
