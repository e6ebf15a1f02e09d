//! What a library leaves to others: state of the process, statuses, what a product is about.

use crate::{none, source};

/// Types that can be changed behind a shared reference.
const CHANGEABLE: [&str; 9] =
    ["Cell", "DashMap", "Mutex", "OnceCell", "OnceLock", "RefCell", "RwLock", "UnsafeCell", "mut"];
/// Words of this product, and its ports, which shared crates need not know.
const PRODUCT: [&str; 14] = [
    "7100",
    "7101",
    "7102",
    "7103",
    "7104",
    "apr",
    "aprs",
    "defi",
    "defillama",
    "gas",
    "liquidity",
    "pool",
    "pools",
    "tvl",
];
/// Ways to files and to the network, which settings need not know.
const INPUT: [&str; 8] =
    ["File", "TcpListener", "TcpStream", "create_dir_all", "fs", "read_to_string", "reqwest", "tokio"];

/// Returns the code of a file, and for each line whether it is a test's.
fn production(path: &str, text: &str) -> (source::Masked, Vec<bool>) {
    let masked = source::mask(text);
    let is_test = source::test_lines(path, &masked.code);
    (masked, is_test)
}

/// Returns the folder below `services/` or `shared/` of a library's source.
fn library(path: &str) -> Option<(&str, &str)> {
    match path.split('/').collect::<Vec<_>>()[..] {
        [kind @ ("services" | "shared"), name, "src", ..] => Some((kind, name)),
        _ => None,
    }
}

/// Finds state that all instances in a process would share.
fn shared_state(path: &str, text: &str) -> Vec<String> {
    if library(path).is_none() {
        return Vec::new();
    }
    let (masked, is_test) = production(path, text);
    let code = &masked.code;
    let is_changeable = |declared: &str| {
        source::words(declared).any(|(_, word)| CHANGEABLE.contains(&word) || word.starts_with("Atomic"))
    };
    let statics = source::words(code).filter(|(offset, word)| match *word {
        "static" if !code[..*offset].ends_with('\'') => {
            let declared = &code[*offset..];
            is_changeable(&declared[..declared.find(['=', ';']).unwrap_or(declared.len())])
        }
        "thread_local" => true,
        _ => false,
    });
    let lines = statics.map(|(offset, _)| source::line(code, offset));
    lines
        .filter(|line| !is_test[line - 1])
        .map(|line| format!("{path}:{line}: state of the process"))
        .collect()
}

/// Finds services that make a `Status`, which is for `shared/rpc` to do.
fn own_statuses(path: &str, text: &str) -> Vec<String> {
    // The command line looks at calls from outside: what it makes goes to its user, not over the wire.
    if !matches!(library(path), Some(("services", name)) if name != "athena") {
        return Vec::new();
    }
    let (masked, is_test) = production(path, text);
    let made = masked.code.match_indices("Status::").filter(|(offset, name)| {
        masked.code[offset + name.len()..].starts_with(|next: char| next.is_ascii_lowercase())
    });
    let lines = made.map(|(offset, _)| source::line(&masked.code, offset));
    lines.filter(|line| !is_test[line - 1]).map(|line| format!("{path}:{line}: makes a Status")).collect()
}

/// Finds words of the product in shared crates; contracts are the product's own, and fakes play its parts.
fn product(path: &str, text: &str) -> Vec<String> {
    if !matches!(library(path), Some(("shared", name)) if !["contracts", "testkit"].contains(&name)) {
        return Vec::new();
    }
    let (masked, is_test) = production(path, text);
    let words = source::words(&masked.strings);
    let found =
        words.filter(|(_, word)| word.split('_').any(|part| PRODUCT.contains(&part.to_lowercase().as_str())));
    let found = found.map(|(offset, word)| (source::line(&masked.strings, offset), word));
    found
        .filter(|(line, _)| !is_test[line - 1])
        .map(|(line, word)| format!("{path}:{line}: {word} is for a service to know"))
        .collect()
}

/// Finds settings that read or open something themselves.
fn busy_settings(path: &str, text: &str) -> Vec<String> {
    if library(path).is_none() || !(path.ends_with("/src/config.rs") || path.ends_with("/src/settings.rs")) {
        return Vec::new();
    }
    let (masked, is_test) = production(path, text);
    let words = source::words(&masked.code).filter(|(_, word)| INPUT.contains(word));
    let found = words.map(|(offset, word)| (source::line(&masked.code, offset), word));
    found
        .filter(|(line, _)| !is_test[line - 1])
        .map(|(line, word)| format!("{path}:{line}: {word} in settings"))
        .collect()
}

#[test]
fn no_library_has_state_of_the_process() {
    none("state of the process", source::rust().flat_map(|file| shared_state(&file.path, &file.text)));
}

#[test]
fn a_status_is_made_in_one_place() {
    none("statuses", source::rust().flat_map(|file| own_statuses(&file.path, &file.text)));
}

#[test]
fn shared_crates_know_nothing_of_the_product() {
    none("product", source::rust().flat_map(|file| product(&file.path, &file.text)));
}

#[test]
fn settings_only_declare() {
    none("settings", source::rust().flat_map(|file| busy_settings(&file.path, &file.text)));
}

#[test]
fn each_of_them_is_found() {
    let tests = "#[cfg(test)]\nmod tests {\n    static A: Mutex<u8> = x;\n    fn f() { Status::internal(\"pool\"); fs::read(); }\n}\n";
    let path = "shared/x/src/settings.rs";
    for text in [
        "static A: Mutex<u8> = x;",
        "static B: std::sync::OnceLock<u8> = x;",
        "pub(crate) static C: AtomicU64 = x;",
        "static mut D: u8 = 0;",
        "thread_local! { x }",
    ] {
        assert_eq!(shared_state(path, &format!("{text}\n{tests}")).len(), 1, "{text}");
    }
    let sound = "static A: LazyLock<HashSet<String>> = x;\nfn f(x: &'static Mutex<u8>) {} // static A: Mutex";
    assert!(shared_state(path, sound).is_empty());

    let text =
        format!("fn f() {{ Status::internal(x); Status::from(x); let y: Status; Status::Ok }}\n{tests}");
    assert_eq!(own_statuses("services/x/src/server.rs", &text).len(), 2);
    assert!(
        own_statuses("services/athena/src/a.rs", &text).is_empty() && own_statuses(path, &text).is_empty()
    );

    let text = format!("// a pool\nlet max_pools = \"7101\"; pooling();\n{tests}");
    assert_eq!(product(path, &text).len(), 2);
    assert!(
        product("shared/testkit/src/a.rs", &text).is_empty()
            && product("services/x/src/a.rs", &text).is_empty()
    );

    assert_eq!(busy_settings(path, &format!("use std::fs;\n{tests}")), [format!("{path}:1: fs in settings")]);
    assert!(busy_settings("shared/x/src/file.rs", "use std::fs;").is_empty());
}
