//! How log lines are written.

use crate::{none, source};

const MACROS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

/// Finds log messages with capital letters, with values put into them, or without a message at all.
fn messages(path: &str, text: &str) -> Vec<String> {
    let masked = source::mask(text);
    let mut violations = Vec::new();
    for (offset, word) in source::words(&masked.code) {
        let after = offset + word.len();
        if !MACROS.contains(&word) || !masked.code[after..].starts_with("!(") {
            continue;
        }
        let start = after + 2;
        let length = inside(&masked.code[start..]);
        let (code, strings) = (&masked.code[start..start + length], &masked.strings[start..start + length]);
        let line = source::line(&masked.code, offset);
        let mut fault = |what: &str| violations.push(format!("{path}:{line}: {word}! {what}"));
        let arguments = arguments(code, strings);
        let message = arguments.iter().position(|(start, end)| {
            let shown = strings[*start..*end].trim();
            shown.starts_with('"') || shown.starts_with("r\"")
        });
        let Some(message) = message else {
            fault("has no message");
            continue;
        };
        let (from, to) = arguments[message];
        let shown = strings[from..to].trim();
        if shown.contains(char::is_uppercase) {
            fault("is not lowercase");
        }
        if shown.contains('{') || arguments.len() > message + 1 {
            fault("puts values into its message instead of fields");
        }
    }
    violations
}

/// Returns how far the parenthesis that `code` begins in reaches.
fn inside(code: &str) -> usize {
    let mut depth = 0_usize;
    for (offset, character) in code.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => return offset,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len()
}

/// Splits at the outer commas of `code`; `strings` is the same text with its strings. Nothing after the last comma is no
/// argument.
fn arguments(code: &str, strings: &str) -> Vec<(usize, usize)> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (offset, character) in code.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push((start, offset));
                start = offset + 1;
            }
            _ => {}
        }
    }
    if !strings[start..].trim().is_empty() {
        found.push((start, code.len()));
    }
    found
}

#[test]
fn log_messages_are_lowercase_and_have_fields() {
    let ours = source::rust().filter(|file| !file.path.starts_with("tests/tidy/"));
    none("log messages", ours.flat_map(|file| messages(&file.path, &file.text)));
}

#[test]
fn a_careless_log_message_is_found() {
    for (text, count) in [
        ("info!(entries = 3, \"cache opened\");", 0),
        ("tracing::warn!(error = %error, kind = f(a, b), \"flush failed\",);", 0),
        ("tracing::info!(target: \"x\", \"opened\")", 0),
        ("info!(\n    a,\n    \"opened\",\n);", 0),
        ("info!(\"Opened\");", 1),
        ("info!(\"opened {path}\");", 1),
        ("info!(\"opened {}\", path);", 1),
        ("error!(?error);", 1),
        ("info!(\"a\", b = 1);", 1),
        ("// info!(\"Opened\")", 0),
        ("let error = 1; errors!(\"X\");", 0),
    ] {
        assert_eq!(messages("a.rs", text).len(), count, "{text}: {:?}", messages("a.rs", text));
    }
}
