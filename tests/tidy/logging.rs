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

/// Names of what nobody may read in a log or a trace: what people and models say, and what lets somebody in.
const PRIVATE: [&str; 15] = [
    "answer",
    "answers",
    "api_key",
    "authorization",
    "completion",
    "content",
    "expose",
    "messages",
    "password",
    "prompt",
    "prompts",
    "question",
    "secret",
    "text",
    "token",
];

/// Finds events and spans with a field of such a name, or a value that ends in one, and functions whose arguments are recorded whole.
fn private(path: &str, text: &str) -> Vec<String> {
    let masked = source::mask(text);
    let is_test = source::test_lines(path, &masked.code);
    let mut found = Vec::new();
    for (offset, word) in source::words(&masked.code) {
        let after = offset + word.len();
        let is_macro =
            MACROS.contains(&word.trim_end_matches("_span")) && masked.code[after..].starts_with("!(");
        let is_record = word == "record" && masked.code[after..].starts_with('(');
        if word == "instrument" && masked.code[..offset].trim_end().ends_with(['[', ':']) {
            let rest = masked.code[after..].split(']').next().unwrap_or_default();
            if masked.code[..offset]
                .rfind("#[")
                .is_some_and(|start| !masked.code[start..offset].contains(']'))
                && !rest.contains("skip_all")
            {
                found.push((offset, "instrument without skip_all".to_owned()));
            }
        }
        if !is_macro && !is_record {
            continue;
        }
        let start = after + if is_macro { 2 } else { 1 };
        let length = inside(&masked.code[start..]);
        let (code, strings) = (&masked.code[start..start + length], &masked.strings[start..start + length]);
        for (from, to) in arguments(code, strings) {
            let shown = if is_record { &strings[from..to] } else { &code[from..to] };
            for side in shown.splitn(2, '=') {
                let last = source::words(side).last().map(|(_, word)| word);
                if let Some(name) = last.filter(|name| PRIVATE.contains(name)) {
                    found.push((offset, format!("{word} shows {name}")));
                }
            }
        }
    }
    let found = found.into_iter().map(|(offset, what)| (source::line(&masked.code, offset), what));
    found
        .filter(|(line, _)| !is_test[line - 1])
        .map(|(line, what)| format!("{path}:{line}: {what}"))
        .collect()
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
fn nothing_private_is_logged_or_traced() {
    none("private", source::rust().flat_map(|file| private(&file.path, &file.text)));
}

#[test]
fn what_is_private_is_found() {
    for (text, count) in [
        ("info!(answers = answers.len(), \"answered\");", 1),
        ("info!(count = answers.len(), \"answered with the token\");", 0),
        ("info!(%prompt, \"asked\");", 1),
        ("tracing::warn!(said = ?request.content, \"asked\");", 1),
        ("info_span!(\"chat\", gen_ai.prompt = x, gen_ai.usage.input_tokens = 1)", 1),
        ("info_span!(names::SPAN, url = key.expose())", 1),
        ("span.record(\"prompt\", x);", 1),
        ("span.record(\"rpc.retries\", 1);", 0),
        ("#[tracing::instrument]\nfn f(a: A) {}", 1),
        ("#[instrument(level = \"debug\", skip_all)]\nfn f(a: A) {}", 0),
        ("future.instrument(span).await", 0),
    ] {
        assert_eq!(private("a.rs", text).len(), count, "{text}: {:?}", private("a.rs", text));
    }
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
