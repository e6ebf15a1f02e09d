//! What no file may hold.

use crate::{none, source};

/// Words of unfinished work.
const UNFINISHED: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];
/// Macros of unfinished work.
const MACROS: [&str; 2] = ["todo", "unimplemented"];
/// Addresses of one machine, and of where packages come from: neither belongs into a file that others build.
const FOREIGN: [&str; 8] = [
    "/work/",
    "/root/",
    "/home/",
    "crates.io/",
    "registry.npmjs.org",
    "pypi.org",
    "static.rust-lang.org",
    "proxy.golang.org",
];
/// This folder names what it forbids.
const OURS: &str = "tests/tidy/";

fn unfinished(path: &str, text: &str) -> Vec<String> {
    if path.starts_with(OURS) {
        return Vec::new();
    }
    let is_macro =
        |offset: usize, word: &str| MACROS.contains(&word) && text[offset + word.len()..].starts_with("!(");
    let found =
        source::words(text).filter(|(offset, word)| UNFINISHED.contains(word) || is_macro(*offset, word));
    found.map(|(offset, word)| format!("{path}:{}: {word}", source::line(text, offset))).collect()
}

fn foreign(path: &str, text: &str) -> Vec<String> {
    if path.starts_with(OURS) {
        return Vec::new();
    }
    let of = |needle: &'static str| {
        text.match_indices(needle)
            .map(move |(offset, _)| format!("{path}:{}: {needle}", source::line(text, offset)))
    };
    FOREIGN.into_iter().flat_map(of).collect()
}

/// Finds attributes that switch a lint or a test off without saying why.
fn switched_off(path: &str, text: &str) -> Vec<String> {
    let code: String = source::mask(text).code;
    let attributes = code.match_indices('#').map(|(offset, _)| (offset, &code[offset..]));
    attributes
        .filter_map(|(offset, rest)| {
            let inside = rest[1..].trim_start_matches('!').strip_prefix('[')?.trim_start();
            let word = source::words(inside).next().filter(|(start, _)| *start == 0)?.1;
            let is_hidden_in_condition = word == "cfg_attr" && {
                let all: Vec<&str> = source::words(inside.split(']').next()?).map(|(_, word)| word).collect();
                all.contains(&"allow") || all.contains(&"ignore")
            };
            (["allow", "ignore"].contains(&word) || is_hidden_in_condition)
                .then(|| format!("{path}:{}: #[{word}]", source::line(&code, offset)))
        })
        .collect()
}

/// Finds tests that wait for time to pass instead of for what they need. Where wall time itself is what is tested (a
/// deadline of a call, say), or time passes in a simulation only, the line above says so: `// Real time: why`,
/// `// Simulated time: why`.
fn sleeps(path: &str, text: &str) -> Vec<String> {
    let code = source::mask(text).code;
    let is_test = source::test_lines(path, &code);
    let lines: Vec<&str> = text.lines().collect();
    let is_said =
        |line: &str| ["// Real time: ", "// Simulated time: "].iter().any(|word| line.starts_with(word));
    let is_explained = |line: usize| line >= 2 && is_said(lines[line - 2].trim_start());
    let found = ["time::sleep", "thread::sleep"].into_iter().flat_map(|needle| code.match_indices(needle));
    found
        .map(|(offset, needle)| (source::line(&code, offset), needle))
        .filter(|(line, _)| is_test[line - 1] && !is_explained(*line))
        .map(|(line, needle)| format!("{path}:{line}: {needle} in a test"))
        .collect()
}

/// Finds tests that take a port of their own choice: an address with a port where one is bound or connected to, and a
/// setting of a port. An address that is only looked at is no port taken.
fn fixed_ports(path: &str, text: &str) -> Vec<String> {
    if path.starts_with(OURS) {
        return Vec::new();
    }
    let masked = source::mask(text);
    let is_test = source::test_lines(path, &masked.code);
    let mut violations = Vec::new();
    for (index, line) in masked.strings.lines().enumerate().filter(|(index, _)| is_test[*index]) {
        let has_port = |before: &str| {
            let mut after = line.match_indices(before).map(|(offset, _)| &line[offset + before.len()..]);
            after.any(|after| after.starts_with(|next: char| ('1'..='9').contains(&next)))
        };
        let is_opened = ["bind", "connect", "listen"].iter().any(|verb| line.contains(verb));
        let is_address =
            ["127.0.0.1:", "0.0.0.0:", "localhost:", "[::1]:", "LOCALHOST, "].into_iter().any(has_port);
        if (is_opened && is_address) || has_port("_port: ") {
            violations.push(format!("{path}:{}: a fixed port in a test", index + 1));
        }
    }
    violations
}

/// Finds tests that are run again until they pass, by an attribute or by an option of a runner.
fn tried_again(path: &str, text: &str) -> Vec<String> {
    if path.starts_with(OURS) {
        return Vec::new();
    }
    let found: Vec<usize> = if path.ends_with(".rs") {
        let code = source::mask(text).code;
        let attributes = code.match_indices("#[").map(|(offset, _)| (offset, &code[offset..]));
        let attributes = attributes.map(|(offset, rest)| (offset, rest.split(']').next().unwrap_or(rest)));
        let again = |word: &str| word == "flaky" || word.starts_with("retr");
        let again = attributes.filter(|(_, attribute)| source::words(attribute).any(|(_, word)| again(word)));
        again.map(|(offset, _)| offset).collect()
    } else if path.starts_with('.') || path.ends_with(".toml") {
        ["--retries", "retries ="]
            .into_iter()
            .flat_map(|option| text.match_indices(option))
            .map(|(at, _)| at)
            .collect()
    } else {
        Vec::new()
    };
    found.into_iter().map(|offset| format!("{path}:{}: tried again", source::line(text, offset))).collect()
}

/// Finds tests whose name is too short to say what is so: a behaviour has a subject and a verb.
fn nameless(path: &str, text: &str) -> Vec<String> {
    let code = source::mask(text).code;
    let marked = ["#[test]", "#[tokio::test"].into_iter().flat_map(|mark| code.match_indices(mark));
    let names = marked.filter_map(|(offset, _)| {
        let after = &code[offset..];
        let name = after[after.find("fn ")? + 3..].split('(').next()?;
        Some((offset, name.trim()))
    });
    let short = names.filter(|(_, name)| name.split('_').count() < 3);
    short
        .map(|(offset, name)| format!("{path}:{}: {name} says too little", source::line(&code, offset)))
        .collect()
}

#[test]
fn no_test_is_tried_again() {
    none("tried again", source::files().iter().flat_map(|file| tried_again(&file.path, &file.text)));
}

#[test]
fn names_of_tests_state_behaviour() {
    none("names of tests", source::rust().flat_map(|file| nameless(&file.path, &file.text)));
}

#[test]
fn a_test_that_is_tried_again_or_says_nothing_is_found() {
    let text = "#[test]\n#[flaky]\nfn a_b_c() {}\n#[retry(3)]\n// #[retry]\n#[test]\nfn works() {}\n#[tokio::test(x)]\nasync fn it_works() {}\n";
    assert_eq!(tried_again("shared/x/tests/a.rs", text).len(), 2);
    assert_eq!(tried_again(".ci/run", "cargo nextest run --retries 3\n").len(), 1);
    assert_eq!(tried_again(".config/nextest.toml", "retries = 2\n").len(), 1);
    assert_eq!(nameless("a.rs", text).len(), 2);
}

#[test]
fn nothing_is_unfinished() {
    none("unfinished", source::files().iter().flat_map(|file| unfinished(&file.path, &file.text)));
}

#[test]
fn no_file_names_this_machine_or_a_registry() {
    none("foreign addresses", source::files().iter().flat_map(|file| foreign(&file.path, &file.text)));
}

#[test]
fn no_lint_and_no_test_is_switched_off() {
    none("switched off", source::rust().flat_map(|file| switched_off(&file.path, &file.text)));
}

#[test]
fn no_test_sleeps() {
    none("sleeps", source::rust().flat_map(|file| sleeps(&file.path, &file.text)));
}

#[test]
fn no_test_takes_a_fixed_port() {
    none("fixed ports", source::rust().flat_map(|file| fixed_ports(&file.path, &file.text)));
}

#[test]
fn each_of_them_is_found() {
    let path = "services/x/src/a.rs";
    assert_eq!(
        unfinished(path, "// TODO: later\nunimplemented!()\nlet todo = XXXX; Code::unimplemented;").len(),
        2
    );
    assert_eq!(foreign(path, "// see /work/main/x\n").len(), 1);
    let off = "#[allow(dead_code)]\n#![allow(x)]\n#[ignore = \"slow\"]\n#[cfg_attr(miri, ignore)]\n#[expect(x)] // #[allow]";
    assert_eq!(switched_off(path, off).len(), 4);
    let test = "fn a() { tokio::time::sleep(x); }\n#[cfg(test)]\nmod tests {\n    fn b() { std::thread::sleep(x) }\n}\n";
    assert_eq!(sleeps(path, test), ["services/x/src/a.rs:4: thread::sleep in a test"]);
    let explained =
        "fn a() {\n    // Real time: the deadline is the caller's.\n    tokio::time::sleep(x);\n}\n";
    assert!(sleeps("services/x/tests/a.rs", explained).is_empty());
    let ports = "bind(\"127.0.0.1:0\");\nbind(\"127.0.0.1:8080\");\nlet a = \"127.0.0.1:1\";\nConfig { llm_port: 7101 };\n\
        connect((Ipv4Addr::LOCALHOST, 80));\nConfig { llm_port: 0 };";
    let lines = [2, 4, 5].map(|line| format!("services/x/tests/a.rs:{line}: a fixed port in a test"));
    assert_eq!(fixed_ports("services/x/tests/a.rs", ports), lines);
    assert!(fixed_ports(path, ports).is_empty());
}
