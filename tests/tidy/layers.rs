//! Where the wire may be named, and who may know whom.

use crate::{
    manifests::{Crate, Kind, crates},
    none, source,
};

/// Modules of a service that may name the wire.
const ADAPTERS: [&str; 3] = ["server", "convert", "clients"];
/// The shared crates; a new one needs a numbered decision in ARCHITECTURE.md.
const SHARED: [&str; 10] = [
    "caching",
    "clock",
    "config",
    "contracts",
    "embedding",
    "journal",
    "rpc",
    "telemetry",
    "testkit",
    "wording",
];

/// Finds tonic and the contracts outside of the adapters of a service.
fn wire_in_domain(path: &str, text: &str) -> Vec<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_adapter = parts.iter().any(|part| ADAPTERS.contains(&part.trim_end_matches(".rs")));
    if !path.starts_with("services/") || parts.get(2) != Some(&"src") || is_adapter {
        return Vec::new();
    }
    let code = source::mask(text).code;
    source::words(&code)
        .filter(|(_, word)| *word == "contracts" || *word == "tonic" || word.starts_with("tonic_"))
        .map(|(offset, word)| {
            format!("{path}:{}: {word} belongs into server, convert or clients", source::line(&code, offset))
        })
        .collect()
}

/// Finds dependencies that go up or sideways.
fn wrong_way(crates: &[Crate]) -> Vec<String> {
    let folder =
        |name: &str| crates.iter().find(|other| other.name == name).map(|other| other.folder.as_str());
    let mut violations = Vec::new();
    for one in crates {
        for (name, kind) in &one.dependencies {
            let Some(other) = folder(name) else { continue };
            let is_allowed = match one.folder.split('/').collect::<Vec<_>>()[..] {
                ["tests"] => true,
                ["services", "athena"] => other != "tests" && (name != "testkit" || *kind != Kind::Always),
                ["services", _] => {
                    other.starts_with("shared/") && (name != "testkit" || *kind != Kind::Always)
                }
                ["shared", "rpc"] => {
                    other.starts_with("shared/") && (name != "testkit" || *kind == Kind::Test)
                }
                // The leaves know the time at most; the journal and the embedders declare their bounds, and vectors are kept.
                ["shared", leaf] => {
                    name == "clock"
                        || (matches!(leaf, "journal" | "embedding") && name == "config")
                        || (leaf == "embedding" && name == "caching")
                        || (other.starts_with("shared/") && *kind == Kind::Test)
                }
                _ => false,
            };
            if !is_allowed {
                violations.push(format!("{} must not depend on {other} ({kind:?})", one.folder));
            }
        }
    }
    violations
}

/// Finds a crate that depends on itself over others, tests included.
fn cycles(crates: &[Crate]) -> Vec<String> {
    fn visit<'a>(
        name: &'a str,
        crates: &'a [Crate],
        path: &mut Vec<&'a str>,
        done: &mut Vec<&'a str>,
        found: &mut Vec<String>,
    ) {
        if let Some(start) = path.iter().position(|other| *other == name) {
            found.push(format!("{} -> {name}", path[start..].join(" -> ")));
            return;
        }
        if done.contains(&name) {
            return;
        }
        path.push(name);
        for one in crates.iter().filter(|one| one.name == name) {
            for (other, _) in &one.dependencies {
                visit(other, crates, path, done, found);
            }
        }
        path.pop();
        done.push(name);
    }
    let (mut done, mut found) = (Vec::new(), Vec::new());
    for one in crates {
        visit(&one.name, crates, &mut Vec::new(), &mut done, &mut found);
    }
    found
}

/// Finds shared crates that fewer than two services use, and those that were not decided on.
fn hardly_shared(crates: &[Crate]) -> Vec<String> {
    let shared = crates.iter().filter(|one| one.folder.starts_with("shared/"));
    shared
        .flat_map(|one| {
            let is_user = |other: &&Crate| {
                // The stories over the whole mesh need fakes as a service does.
                let is_asked = other.folder.starts_with("services/")
                    || (one.name == "testkit" && other.folder == "tests");
                is_asked && other.dependencies.iter().any(|(name, _)| *name == one.name)
            };
            let users = crates.iter().filter(is_user).count();
            let few = (users < 2)
                .then(|| format!("{}: {users} of the services use it, at least 2 should", one.folder));
            let new =
                (!SHARED.contains(&one.name.as_str())).then(|| format!("{}: not decided on", one.folder));
            [few, new].into_iter().flatten()
        })
        .collect()
}

/// Finds a crate whose documentation does not begin with its sentence.
fn without_its_sentence(path: &str, description: &str, text: &str) -> Vec<String> {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let first: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    if first.join(" ") == description {
        Vec::new()
    } else {
        vec![format!("{path}: begins with {:?}, its manifest says {description:?}", first.join(" "))]
    }
}

#[test]
fn the_wire_is_named_in_adapters_only() {
    none("wire in a domain", source::rust().flat_map(|file| wire_in_domain(&file.path, &file.text)));
}

#[test]
fn dependencies_go_down() {
    none("layers", wrong_way(crates()));
    none("cycles", cycles(crates()));
}

#[test]
fn shared_crates_are_shared() {
    none("shared crates", hardly_shared(crates()));
}

#[test]
fn a_shared_crate_begins_with_its_sentence() {
    let shared = crates().iter().filter(|one| one.folder.starts_with("shared/"));
    let of = |one: &Crate| {
        let path = format!("{}/src/lib.rs", one.folder);
        let text =
            source::files().iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
        without_its_sentence(&path, &one.description, text)
    };
    none("first sentence", shared.flat_map(of));
}

#[test]
fn the_wire_in_a_domain_module_is_found() {
    let text =
        "use tonic::Status; // contracts\nlet x = \"tonic\"; contracts::llm::v1::A; use tonic_types::X;";
    assert_eq!(wire_in_domain("services/x/src/fold.rs", text).len(), 3);
    for path in [
        "services/x/src/server.rs",
        "services/x/src/convert/recall.rs",
        "shared/rpc/src/a.rs",
        "services/x/tests/a.rs",
    ] {
        assert!(wire_in_domain(path, text).is_empty(), "{path}");
    }
}

#[cfg(test)]
fn made(folder: &str, dependencies: &[(&str, Kind)]) -> Crate {
    let name = folder.rsplit('/').next().unwrap_or(folder).to_owned();
    let dependencies = dependencies.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    Crate { name, folder: folder.to_owned(), description: String::new(), dependencies }
}

#[test]
fn a_service_that_knows_a_service_is_found() {
    let crates = [
        made("shared/rpc", &[]),
        made("shared/testkit", &[]),
        made("shared/config", &[("rpc", Kind::Always)]),
        made("shared/journal", &[("config", Kind::Always), ("rpc", Kind::Always)]),
        made("shared/caching", &[("config", Kind::Always)]),
        made("services/monitor", &[("rpc", Kind::Always), ("testkit", Kind::Test)]),
        made("services/agent", &[("monitor", Kind::Test), ("testkit", Kind::Always)]),
        made("services/athena", &[("monitor", Kind::Always), ("testkit", Kind::Optional)]),
    ];
    let expected = [
        "shared/config must not depend on shared/rpc (Always)",
        "shared/journal must not depend on shared/rpc (Always)",
        "shared/caching must not depend on shared/config (Always)",
        "services/agent must not depend on services/monitor (Test)",
        "services/agent must not depend on shared/testkit (Always)",
    ];
    assert_eq!(wrong_way(&crates), expected);
}

#[test]
fn a_cycle_through_tests_is_found() {
    let crates = [
        made("shared/a", &[("b", Kind::Always)]),
        made("shared/b", &[("a", Kind::Test), ("c", Kind::Always)]),
    ];
    assert_eq!(cycles(&crates), ["a -> b -> a"]);
}

#[test]
fn a_shared_crate_with_one_user_is_found() {
    let crates =
        [made("shared/clock", &[]), made("shared/extra", &[]), made("services/a", &[("clock", Kind::Test)])];
    assert_eq!(hardly_shared(&crates).len(), 3);
}

#[test]
fn another_first_sentence_is_found() {
    assert!(
        without_its_sentence("a", "Does a thing.", "//! Does a\n//! thing.\n//!\n//! More.\n").is_empty()
    );
    assert_eq!(without_its_sentence("a", "Does a thing.", "//! Does it.\n").len(), 1);
}
