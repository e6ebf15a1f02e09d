//! What ARCHITECTURE.md and the services' READMEs must say.

use athena::Service;
use prost_reflect::DescriptorPool;

use crate::{manifests, none, source};

/// Headings that each service's README has, by a part of each.
const PARTS: [&str; 4] = ["## Settings", "## Metrics", "## When something fails", "lone"];
/// What shows how it is run alone and called.
const COMMANDS: [&str; 5] =
    ["cargo run", "grpcurl -plaintext localhost:", " list\n", " describe ", "grpc.health.v1.Health/Check"];

/// Returns the part of a page below a heading of the second level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_default();
    rest.split("\n## ").next().unwrap_or_default()
}

/// Finds decisions out of their order, and those without a name.
fn misnumbered(page: &str) -> Vec<String> {
    let numbered = section(page, "Decisions").lines().filter_map(|line| {
        let (number, rest) = line.split_once(". ")?;
        Some((number.parse::<usize>().ok()?, rest))
    });
    let wrong = (1..)
        .zip(numbered)
        .filter(|(expected, (number, rest))| expected != number || !rest.starts_with("**"));
    wrong
        .map(|(expected, (number, _))| format!("decision {number} should be {expected}, with a name in bold"))
        .collect()
}

/// Finds dependencies without a reason, and reasons without a dependency.
fn unreasoned(page: &str, dependencies: &[&str]) -> Vec<String> {
    let rows = section(page, "Dependencies and their reasons")
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1);
    let rows = rows.filter_map(|row| {
        let (names, reason) = row.strip_prefix('|')?.split_once('|')?;
        (reason.trim_matches([' ', '|']).len() > 3).then_some(names)
    });
    let named: Vec<&str> = rows.flat_map(|names| names.split(',').map(str::trim)).collect();
    let silent = dependencies.iter().filter(|name| !named.contains(name));
    let gone = named.iter().filter(|name| !dependencies.contains(name));
    silent
        .map(|name| format!("{name} has no reason"))
        .chain(gone.map(|name| format!("{name} has a reason, and nobody uses it")))
        .collect()
}

/// Finds crates that the code map leaves out.
fn unmapped(page: &str, folders: &[&str]) -> Vec<String> {
    let map = section(page, "Code map");
    let missing = folders.iter().filter(|folder| !map.contains(&format!("`{folder}`")));
    missing.map(|folder| format!("{folder} is not on the code map")).collect()
}

/// Finds what a service's README does not say: its parts, how to run and call it, its rpcs.
fn unsaid(service: &str, page: &str, rpcs: &[String]) -> Vec<String> {
    let words: Vec<&str> = source::words(page).map(|(_, word)| word).collect();
    let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
    let parts = PARTS.iter().filter(|part| !headings.iter().any(|heading| heading.contains(*part)));
    let commands = COMMANDS.iter().filter(|command| !page.contains(*command));
    let rpcs = rpcs.iter().filter(|rpc| !words.contains(&rpc.as_str()));
    let mut missing: Vec<String> =
        parts.chain(commands).map(|part| format!("{service}: nothing of {part:?}")).collect();
    missing.extend(rpcs.map(|rpc| format!("{service}: nothing of the rpc {rpc}")));
    if !page.starts_with(&format!("# {service}\n")) {
        missing.push(format!("{service}: does not begin with its name"));
    }
    missing
}

/// Returns the rpcs of the contract that a service serves.
fn rpcs(service: Service) -> Vec<String> {
    let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).expect("the contracts");
    let package = service.health_name().rsplit_once('.').map_or("", |(package, _)| package);
    let services = pool.services().filter(|one| one.package_name() == package).collect::<Vec<_>>();
    services.iter().flat_map(|one| one.methods()).map(|method| method.name().to_owned()).collect()
}

fn page(path: &str) -> &'static str {
    source::files().iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
}

#[test]
fn decisions_are_numbered() {
    assert!(section(page("ARCHITECTURE.md"), "Decisions").contains("\n1. **"), "no decisions were found");
    none("decisions", misnumbered(page("ARCHITECTURE.md")));
}

#[test]
fn every_dependency_has_a_reason() {
    let manifest: toml::Table = page("Cargo.toml").parse().expect("a manifest");
    let shared = manifest["workspace"]["dependencies"].as_table().expect("the dependencies");
    // Members take all of theirs from here, which `manifests` checks.
    let others = shared.iter().filter(|(_, value)| value.get("path").is_none());
    let names: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
    none("dependencies and their reasons", unreasoned(page("ARCHITECTURE.md"), &names));
}

#[test]
fn every_crate_is_on_the_code_map() {
    let folders: Vec<&str> = manifests::crates().iter().map(|one| one.folder.as_str()).collect();
    none("code map", unmapped(page("ARCHITECTURE.md"), &folders));
}

#[test]
fn every_service_says_what_it_is_and_how_to_call_it() {
    let of = |service: Service| {
        let rpcs = rpcs(service);
        assert!(rpcs.len() > 2, "the rpcs of {service} were not found");
        unsaid(service.name(), page(&format!("services/{service}/README.md")), &rpcs)
    };
    none("READMEs", Service::ALL.into_iter().flat_map(of));
}

#[test]
fn a_decision_out_of_order_is_found() {
    let page = |decisions: &str| format!("# A\n\n## Decisions\n\n{decisions}\n\n## More\n\n7. x\n");
    assert!(misnumbered(&page("1. **A.** b\n   c 9. d\n2. **B.** c")).is_empty());
    for wrong in ["1. **A.**\n1. **B.**", "2. **A.**", "1. **A.**\n2. B"] {
        assert_eq!(misnumbered(&page(wrong)).len(), 1, "{wrong}");
    }
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let page =
        "\n## Dependencies and their reasons\n\n| crate | why |\n|---|---|\n| a, b | because |\n| c |  |\n";
    assert!(unreasoned(page, &["a", "b"]).is_empty());
    let found = unreasoned(page, &["a", "c"]);
    assert_eq!(found, ["c has no reason", "b has a reason, and nobody uses it"]);
}

#[test]
fn a_crate_that_is_not_on_the_map_is_found() {
    let page = "\n## Code map\n\n- `shared/a` – x\n";
    assert_eq!(unmapped(page, &["shared/a", "shared/b"]), ["shared/b is not on the code map"]);
}

#[test]
fn a_gap_in_a_readme_is_found() {
    let sound = page("services/monitor/README.md");
    let of = |page: &str| unsaid("monitor", page, &rpcs(Service::Monitor));
    for from in
        PARTS.iter().filter(|part| **part != "lone").chain(&COMMANDS).chain(&["lone", "ListSlowOperations"])
    {
        assert!(!of(&sound.replace(from, "x")).is_empty(), "{from}");
    }
    assert_eq!(of(&sound.replace("# monitor\n", "# Monitor\n")).len(), 1);
}
