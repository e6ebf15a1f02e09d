//! The tables of settings in the READMEs are the declared ones.
//!
//! `ATHENA_BLESS=1 cargo test -p tests --test tidy tables` writes them.

use std::{collections::BTreeSet, fs};

use config::{Setting, Settings};

use crate::{none, source};

const START: &str = "<!-- settings -->";
const END: &str = "<!-- /settings -->";

/// The services, and what each declares.
fn services() -> [(&'static str, Vec<&'static Setting>); 5] {
    [
        ("llm-gateway", llm_gateway::Config::declared()),
        ("memory-service", memory_service::Config::declared()),
        ("storage-batcher", storage_batcher::Config::declared()),
        ("monitor", monitor::Config::declared()),
        ("orchestrator", orchestrator::Config::declared()),
    ]
}

/// Returns what stands between the markers of a page, if it has both.
pub(crate) fn between_markers(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(START)?;
    rest.split_once(END).map(|(table, _)| table)
}

/// Returns the page with this table between its markers.
fn filled(text: &str, table: &str) -> Option<String> {
    let old = between_markers(text)?;
    Some(text.replacen(&format!("{START}{old}{END}"), &format!("{START}\n{table}{END}"), 1))
}

/// Finds a page that is not as it should be, and says so; writes it first where that is asked for.
fn outdated(path: &str, table: &str) -> Vec<String> {
    let file = source::root().join(path);
    let Ok(text) = fs::read_to_string(&file) else { return vec![format!("{path} is missing")] };
    match filled(&text, table) {
        None => vec![format!("{path}: {START} and {END} are missing")],
        Some(wanted) if wanted == text => Vec::new(),
        Some(wanted) if is_blessed() => {
            fs::write(&file, wanted).expect("a README that can be written");
            Vec::new()
        }
        Some(_) => {
            vec![format!("{path}: the table of settings is not the declared one, ATHENA_BLESS=1 writes it")]
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no settings, and this one has to be told to write")]
fn is_blessed() -> bool {
    std::env::var_os("ATHENA_BLESS").is_some_and(|value| value == "1")
}

#[test]
fn every_readme_has_the_declared_settings() {
    let of = |(service, settings): (&str, Vec<&Setting>)| {
        outdated(&format!("services/{service}/README.md"), &config::table(&settings))
    };
    none("tables of settings", services().into_iter().flat_map(of));
}

#[test]
fn the_first_page_has_all_settings() {
    let mut seen = BTreeSet::new();
    let all = services().into_iter().flat_map(|(_, settings)| settings);
    let all: Vec<&Setting> = all.filter(|setting| seen.insert(setting.name)).collect();
    none("table of all settings", outdated("README.md", &config::table(&all)));
}

#[test]
fn every_default_and_every_profile_can_be_read() {
    let profiles = [None, Some(config::Profile::Development), Some(config::Profile::Production)];
    for profile in profiles {
        let sources = profile
            .map_or_else(config::Sources::none, |profile| config::Sources::none().with_profile(profile));
        none(
            "faults in declared settings",
            [
                llm_gateway::Config::load(&sources).err(),
                memory_service::Config::load(&sources).err(),
                storage_batcher::Config::load(&sources).err(),
                monitor::Config::load(&sources).err(),
                orchestrator::Config::load(&sources).err(),
            ]
            .into_iter()
            .flatten()
            .map(|faults| faults.to_string()),
        );
    }
}

#[test]
fn a_table_is_filled_in_between_its_markers() {
    let page = format!("a\n{START}\nold\n{END}\nb\n");
    assert_eq!(filled(&page, "new\n"), Some(format!("a\n{START}\nnew\n{END}\nb\n")));
    assert_eq!(between_markers(&page), Some("\nold\n"));
    assert_eq!(filled("no markers", "new\n"), None);
    assert_eq!(outdated("tests/tidy/no-such-page.md", ""), ["tests/tidy/no-such-page.md is missing"]);
}
