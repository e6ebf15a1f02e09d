//! Every setting is declared once, read somewhere, and every mention of one is right.

use std::collections::{BTreeMap, BTreeSet};

use config::{Kind, Setting};

use crate::{none, source};

/// Variables with our prefix that are no settings: where settings are, and how these tests are told to write the tables.
const OTHERS: [&str; 3] = ["ATHENA_PROFILE", "ATHENA_CONFIG", "ATHENA_BLESS"];
/// Declares settings in documentation and tests only.
const MACHINERY: &str = "shared/config/";

/// A block of settings in the code of a file.
#[derive(Debug, PartialEq)]
struct Block {
    start: usize,
    end: usize,
    names: Vec<String>,
}

/// Returns the blocks of settings in code without comments.
fn blocks(code: &str) -> Vec<Block> {
    let found = code.match_indices("settings!");
    found
        .map(|(start, _)| {
            let end = start + source::end_of_item(&code[start..]);
            let body = code[start..end].split_once("struct").map_or("", |(_, rest)| rest);
            let body = body.split_once('{').map_or("", |(_, rest)| rest);
            let fields = body[..body.find('}').unwrap_or(body.len())].split(';');
            let name = |field: &str| Some(field.split_once(':')?.0.split_whitespace().last()?.to_owned());
            Block { start, end, names: fields.filter_map(name).collect() }
        })
        .collect()
}

/// Finds settings of one crate that its code does not read. `files` are the paths and texts of its sources.
fn unread(files: &[(&str, &str)]) -> Vec<String> {
    let mut declared: BTreeMap<String, &str> = BTreeMap::new();
    let mut read: BTreeSet<String> = BTreeSet::new();
    for (path, text) in files {
        let code = source::mask(text).code;
        let is_test = source::test_lines(path, &code);
        let blocks = blocks(&code);
        let is_inside = |offset: usize| blocks.iter().any(|block| (block.start..block.end).contains(&offset));
        let words = source::words(&code).filter(|(offset, _)| !is_inside(*offset));
        let production = words.filter(|(offset, _)| !is_test[source::line(&code, *offset) - 1]);
        read.extend(production.map(|(_, word)| word.to_owned()));
        let of_production = blocks.iter().filter(|block| !is_test[source::line(&code, block.start) - 1]);
        declared.extend(of_production.flat_map(|block| block.names.clone()).map(|name| (name, *path)));
    }
    let unread = declared.into_iter().filter(|(name, _)| !read.contains(name));
    unread.map(|(name, path)| format!("{path}: nothing reads {name}")).collect()
}

/// Returns the sources of every crate that declares settings, by its folder.
fn sources() -> BTreeMap<String, Vec<(&'static str, &'static str)>> {
    let mut crates: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    for file in source::rust().filter(|file| !file.path.starts_with(MACHINERY)) {
        if let [kind, name, "src", ..] = file.path.split('/').collect::<Vec<_>>()[..] {
            crates.entry(format!("{kind}/{name}")).or_default().push((&file.path, &file.text));
        }
    }
    crates
}

/// Returns every declared setting with the file that declares it, in no order of strength.
fn declared() -> Vec<(String, &'static str)> {
    let files = sources().into_values().flatten();
    files
        .flat_map(|(path, text)| {
            let code = source::mask(text).code;
            let is_test = source::test_lines(path, &code);
            let of_production = blocks(&code)
                .into_iter()
                .filter(|block| !is_test[source::line(&code, block.start) - 1])
                .collect::<Vec<_>>();
            of_production
                .into_iter()
                .flat_map(|block| block.names)
                .map(move |name| (name, path))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn repeated(declared: &[(String, &str)]) -> Vec<String> {
    let mut homes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, path) in declared {
        homes.entry(name).or_default().push(path);
    }
    let several = homes.into_iter().filter(|(_, paths)| paths.len() > 1);
    several.map(|(name, paths)| format!("{name} is declared in {}", paths.join(" and "))).collect()
}

/// Finds variables and flags in a page or a deployment that name no setting.
fn unknown(path: &str, text: &str, declared: &BTreeSet<String>) -> Vec<String> {
    let is_page = path.ends_with(".md") || path.starts_with("deploy/") || path.starts_with(".ci/");
    if !is_page {
        return Vec::new();
    }
    let variables = source::words(text).filter(|(_, word)| {
        word.len() > "ATHENA_".len() && word.starts_with("ATHENA_") && !OTHERS.contains(word)
    });
    let variables =
        variables.map(|(offset, word)| (offset, word.trim_start_matches("ATHENA_").to_lowercase()));
    let flags = text.match_indices("--set ").filter_map(|(offset, flag)| {
        let (name, _) = text[offset + flag.len()..].split_once('=')?;
        let is_name = name.chars().all(|character| {
            character.is_ascii_lowercase() || character == '_' || character.is_ascii_digit()
        });
        (is_name && !name.is_empty() && name != "name").then(|| (offset, name.to_owned()))
    });
    variables
        .chain(flags)
        .filter(|(_, name)| !declared.contains(name))
        .map(|(offset, name)| format!("{path}:{}: no setting is called {name}", source::line(text, offset)))
        .collect()
}

/// Finds what a declaration should say of a limit: what it counts, what it is for, and how far it goes.
fn careless(setting: &Setting) -> Vec<String> {
    let is_number = |kind: &Kind| matches!(kind, Kind::Whole | Kind::Number | Kind::Size | Kind::Duration);
    let is_number = match &setting.kind {
        Kind::Optional(kind) | Kind::List(kind) => is_number(kind),
        kind => is_number(kind),
    };
    let faults = [
        (setting.unit.trim().is_empty(), "has no unit"),
        (!setting.doc.trim_end().ends_with(['.', '`']), "says nothing, or not to its end"),
        // Every number of a port is one.
        (is_number && setting.range.is_none() && setting.unit != "port", "has no bounds"),
    ];
    let faults = faults.into_iter().filter(|(is_fault, _)| *is_fault);
    faults.map(|(_, what)| format!("{} {what}", setting.name)).collect()
}

#[test]
fn every_setting_has_a_unit_and_every_number_bounds() {
    none("declarations", athena::declared().into_iter().flat_map(careless));
}

#[test]
fn a_careless_declaration_is_found() {
    let sound = Setting { range: Some(("1", "2")), ..Setting::new("a", "Most a.", Kind::Whole, "a", "1") };
    assert!(careless(&sound).is_empty());
    let changes = [
        Setting { unit: "", ..sound },
        Setting { doc: "", ..sound },
        Setting { range: None, ..sound },
        Setting { range: None, kind: Kind::Optional(&Kind::Size), ..sound },
    ];
    for changed in changes {
        assert_eq!(careless(&changed).len(), 1, "{changed:?}");
    }
    assert!(careless(&Setting { range: None, unit: "port", ..sound }).is_empty());
    assert!(careless(&Setting { range: None, kind: Kind::Text, ..sound }).is_empty());
}

#[test]
fn every_setting_is_read() {
    none("unread settings", sources().values().flat_map(|files| unread(files)));
}

#[test]
fn a_setting_is_declared_once() {
    assert!(declared().len() > 20, "the declarations were not found: {:?}", declared());
    none("repeated settings", repeated(&declared()));
}

#[test]
fn pages_and_deployments_name_settings_that_exist() {
    let declared = declared().into_iter().map(|(name, _)| name).collect();
    none(
        "unknown settings",
        source::files().iter().flat_map(|file| unknown(&file.path, &file.text, &declared)),
    );
}

#[test]
fn an_unread_a_repeated_and_an_unknown_setting_are_found() {
    let config = "config::settings! {\n    /// Doc: x.\n    pub struct Config {\n        /// A: b;\n        pub a_size: u64 = \"1\", unit \"x\";\n\
        pub b_life: Duration = \"1s\",\n unit \"y\", range \"1s\" to \"2s\";\n    }\n    groups { pub host: rpc::Host; }\n}\n";
    let names = ["a_size", "b_life"].map(str::to_owned);
    assert_eq!(blocks(&source::mask(config).code)[0].names, names);
    let (path, other) = ("services/x/src/config.rs", "services/x/src/lib.rs");
    let reader = "fn f(c: &C) { c.a_size; }\n#[cfg(test)]\nmod tests { fn g(c: &C) { c.b_life } }\n// b_life";
    assert_eq!(
        unread(&[(path, config), (other, reader)]),
        ["services/x/src/config.rs: nothing reads b_life"]
    );
    assert!(unread(&[(path, &format!("{config}fn h(c: &C) {{ c.b_life }}")), (other, reader)]).is_empty());

    let twice = [("a".to_owned(), "x"), ("a".to_owned(), "y"), ("b".to_owned(), "x")];
    assert_eq!(repeated(&twice), ["a is declared in x and y"]);

    let known = names.into_iter().collect();
    let page =
        "ATHENA_A_SIZE=1 ATHENA_B_LIVE=2 ATHENA_PROFILE=x\nrun --set a_size=1 --set c=2 --set name=value\n";
    assert_eq!(unknown("README.md", page, &known).len(), 2);
    assert!(unknown("services/x/src/lib.rs", page, &known).is_empty());
}
