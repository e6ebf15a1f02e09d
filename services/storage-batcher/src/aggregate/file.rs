//! The rules file: TOML with one `[[rule]]` a collection; `example.toml` beside this file shows every key.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use config::{ByteSize, Value as _};
use toml::{Table, Value};

use super::{
    figure::{Figure, Figures},
    pack,
    rules::{Kept, PACK_BYTES, PACK_ENTITIES, Packing, Rule, Rules, WINDOW_SECONDS},
};

/// The name of all readings that a rule does not name.
const OTHERS: &str = "*";

/// Most readings that a rule names: as many as a sample may have.
const MAX_FIELDS: usize = 32;

/// Longest name of a rule, a collection and a reading, in bytes.
const NAME_BYTES: usize = 256;
const READING_BYTES: usize = 64;

const DAY_SECONDS: u64 = 86_400;
const MAX_LATENESS: Duration = Duration::from_secs(3_600);
const MAX_ENTITIES: i64 = 10_000;
const PACK_RANGE: std::ops::RangeInclusive<u64> = 4 * 1024..=512 * 1024;

/// Why a rules file was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{}, line {line}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Rules say what cannot be.
    #[error("{}: {}", path.display(), all(faults))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that is wrong, in the order of the file.
        faults: Vec<Fault>,
    },
}

/// A field of a rule that says what cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule: its name, or its place such as `rule 2` if it has none.
    pub rule: String,
    /// The field, such as `packing.bytes`.
    pub field: String,
    /// What it must be.
    pub must: String,
}

/// Reads one rule and notes what is wrong with it.
struct Reading<'a> {
    rule: String,
    faults: &'a mut Vec<Fault>,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` of {} {}", self.field, self.rule, self.must)
    }
}

impl Rules {
    /// Reads a file of rules; `lateness` is that of rules that have none.
    ///
    /// # Errors
    /// [`Error`], naming the file and every wrong field of every rule.
    pub fn load(path: &Path, lateness: Duration) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text, lateness).map_err(|problem| match problem {
            Problem::Malformed(line, problem) => Error::Malformed { path: path.to_owned(), line, problem },
            Problem::Wrong(faults) => Error::Wrong { path: path.to_owned(), faults },
        })
    }

    fn parse(text: &str, lateness: Duration) -> Result<Self, Problem> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let (line, problem) = config::malformed(text, &error);
            Problem::Malformed(line, problem)
        })?;
        let mut faults = Vec::new();
        let mut rules = HashMap::new();
        let mut file = Reading { rule: "the file".to_owned(), faults: &mut faults };
        file.known(&table, "", &["rule"]);
        let given: &[Value] = match table.get("rule") {
            None => &[],
            Some(Value::Array(given)) => given,
            Some(_) => {
                file.fault("rule", "must be tables [[rule]]");
                &[]
            }
        };
        for (place, given) in given.iter().enumerate() {
            let mut reading = Reading { rule: format!("rule {}", place + 1), faults: &mut faults };
            let Value::Table(given) = given else {
                reading.fault("rule", "must be a table");
                continue;
            };
            let Some((collection, rule)) = reading.rule(given, lateness) else { continue };
            if rules.contains_key(&collection) {
                reading.fault("collection", "must be another one than that of the rules before");
            }
            rules.insert(collection, rule);
        }
        if faults.is_empty() {
            Ok(Self::new(rules, Rule::built_in(lateness)))
        } else {
            Err(Problem::Wrong(faults))
        }
    }
}

/// Why a text is no rules.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// It is no TOML, from this line on.
    Malformed(usize, String),
    /// Fields say what cannot be.
    Wrong(Vec<Fault>),
}

impl Reading<'_> {
    fn fault(&mut self, field: impl Into<String>, must: impl Into<String>) {
        self.faults.push(Fault { rule: self.rule.clone(), field: field.into(), must: must.into() });
    }

    fn require(&mut self, field: &str, holds: bool, must: &str) {
        if !holds {
            self.fault(field, must);
        }
    }

    /// Notes the keys of `table`, which lies under `above`, that are none of `known`.
    fn known(&mut self, table: &Table, above: &str, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.fault(format!("{above}{key}"), format!("is not known; there are {}", known.join(", ")));
        }
    }

    /// Reads a rule and its collection; `None` if it has no collection.
    fn rule(&mut self, given: &Table, lateness: Duration) -> Option<(Arc<str>, Rule)> {
        let collection = self.text(given, "collection");
        let name = if given.contains_key("name") { self.text(given, "name") } else { collection };
        if let Some(name) = name {
            self.rule = format!("rule {name:?}");
        }
        self.known(given, "", &["name", "collection", "window", "lateness", "fields", "packing"]);
        if let Some(collection) = collection {
            self.require("collection", is_collection(collection), "must be the name of a collection");
        } else if !given.contains_key("collection") {
            self.fault("collection", "must be given");
        }
        let window = self.duration(given, "window", Duration::from_secs(WINDOW_SECONDS.unsigned_abs()));
        let seconds = window.as_secs();
        let divides = window.subsec_nanos() == 0
            && seconds >= 60
            && seconds.is_multiple_of(60)
            && DAY_SECONDS.is_multiple_of(seconds);
        self.require(
            "window",
            divides,
            "must be whole minutes, from 1m to 24h, of which a day is a multiple",
        );
        let lateness = self.duration(given, "lateness", lateness);
        self.require("lateness", lateness <= MAX_LATENESS, "must be at most 1h");
        let kept = self.kept(given);
        let mut rule = Rule {
            name: name.unwrap_or_default().into(),
            window: i64::try_from(seconds).unwrap_or(WINDOW_SECONDS),
            lateness,
            kept,
            packing: None,
        };
        self.packing(given, &mut rule);
        Some((collection?.into(), rule))
    }

    fn text<'t>(&mut self, table: &'t Table, field: &str) -> Option<&'t str> {
        let text = table.get(field)?.as_str().filter(|text| (1..=NAME_BYTES).contains(&text.len()));
        self.require(field, text.is_some(), "must be a text of 1 to 256 bytes");
        text
    }

    fn duration(&mut self, table: &Table, field: &str, otherwise: Duration) -> Duration {
        let Some(given) = table.get(field) else { return otherwise };
        let duration = given.as_str().and_then(Duration::parse);
        self.require(field, duration.is_some(), "must be a duration such as \"15m\"");
        duration.unwrap_or(otherwise)
    }

    fn kept(&mut self, given: &Table) -> Kept {
        let mut kept = Kept::default();
        let fields = match given.get("fields") {
            None => {
                kept.others = Figures::from(Figure::ALL);
                return kept;
            }
            Some(Value::Table(fields)) => fields,
            Some(_) => {
                self.fault("fields", "must be a table of lists");
                return kept;
            }
        };
        self.require("fields", (1..=MAX_FIELDS).contains(&fields.len()), "must name 1 to 32 readings");
        for (name, figures) in fields {
            let figures = self.figures(&format!("fields.{name}"), figures);
            if name == OTHERS {
                kept.others = figures;
            } else {
                let is_reading = (1..=READING_BYTES).contains(&name.len()) && !is_reserved(name);
                self.require(&format!("fields.{name}"), is_reading, "must be the name of a reading");
                kept.named.insert(name.clone(), figures);
            }
        }
        kept
    }

    fn figures(&mut self, field: &str, given: &Value) -> Figures {
        let names = || Figure::ALL.map(Figure::name).join(", ");
        let Some(given) = given.as_array().filter(|given| !given.is_empty()) else {
            self.fault(field, format!("must be a list of one or more of {}", names()));
            return Figures::new();
        };
        let mut figures = Figures::new();
        for (place, given) in given.iter().enumerate() {
            match given.as_str().and_then(Figure::named) {
                Some(figure) => drop(figures.insert(figure)),
                None => self.fault(format!("{field}[{place}]"), format!("must be one of {}", names())),
            }
        }
        figures
    }

    fn packing(&mut self, given: &Table, rule: &mut Rule) {
        let given = match given.get("packing") {
            None => return,
            Some(Value::Table(given)) => given,
            Some(_) => return self.fault("packing", "must be a table"),
        };
        self.known(given, "packing.", &["entities", "bytes"]);
        let entities = given.get("entities").map_or(Some(PACK_ENTITIES), |given| {
            given
                .as_integer()
                .filter(|count| (1..=MAX_ENTITIES).contains(count))
                .and_then(|count| u32::try_from(count).ok())
        });
        self.require("packing.entities", entities.is_some(), "must be a number from 1 to 10000");
        let bytes = given.get("bytes").map_or(Some(PACK_BYTES), |given| {
            let bytes = given.as_str().and_then(ByteSize::parse)?.bytes();
            PACK_RANGE.contains(&bytes).then_some(bytes).and_then(|bytes| usize::try_from(bytes).ok())
        });
        self.require("packing.bytes", bytes.is_some(), "must be a size from \"4KiB\" to \"512KiB\"");
        let (Some(entities), Some(bytes)) = (entities, bytes) else { return };
        // What an entity takes is then known before its first sample, and it never has to move.
        let is_bounded = rule.kept.others.is_empty();
        self.require(
            "fields",
            is_bounded,
            "must name every reading, without \"*\", where buckets are packed",
        );
        if is_bounded {
            let least = pack::least_bytes(rule);
            let must = format!(
                "must be at least {least} bytes, for one entity of the longest name with these fields"
            );
            self.require("packing.bytes", bytes >= least, &must);
        }
        rule.packing = Some(Packing { entities, bytes });
    }
}

fn is_collection(name: &str) -> bool {
    !name.contains('/') && !matches!(name, "." | "..") && !name.starts_with('_') && !is_reserved(name)
}

/// Returns whether Firestore keeps a name for itself.
fn is_reserved(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("__") && name.ends_with("__")
}

fn all(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Error, Problem};
    use crate::aggregate::{
        figure::{Figure, Figures},
        rules::{Packing, Rule, Rules},
    };

    const LATENESS: Duration = Duration::from_secs(60);

    fn wrong(text: &str) -> Vec<String> {
        match Rules::parse(text, LATENESS) {
            Err(Problem::Wrong(faults)) => faults.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_shows_every_key() {
        let rules = Rules::parse(include_str!("example.toml"), LATENESS).unwrap();
        let pools = rules.of("pool_metrics");
        assert_eq!((&*pools.name, pools.window, pools.lateness), ("pools", 900, Duration::from_secs(120)));
        assert_eq!(pools.kept.of("volume"), &Figures::from([Figure::Sum, Figure::Count]));
        assert_eq!(pools.kept.of("spread"), &Figures::new());
        assert_eq!(pools.packing, Some(Packing { entities: 500, bytes: 100 * 1024 }));
        let gas = rules.of("gas");
        assert_eq!((gas.window, gas.lateness, gas.packing), (3_600, LATENESS, None));
        assert_eq!(gas.kept.of("gwei"), &Figures::from([Figure::Max, Figure::TimeWeightedMean]));
        assert_eq!(gas.kept.of("blob"), &Figures::from([Figure::Last]));
        assert_eq!(rules.longest_window(), 3_600);
    }

    #[test]
    fn a_collection_without_a_rule_has_the_built_in_one() {
        let rules = Rules::parse("", LATENESS).unwrap();
        assert_eq!(rules.of("pool_metrics"), &Rule::built_in(LATENESS));
        assert_eq!(rules, Rules::built_in(LATENESS));
        let rules = Rules::parse("[[rule]]\ncollection = \"gas\"", LATENESS).unwrap();
        assert_eq!(rules.of("gas").kept, Rule::built_in(LATENESS).kept);
    }

    #[test]
    fn every_wrong_field_is_named_with_its_rule() {
        let text = r#"
            other = 1
            [[rule]]
            window = "7m"
            [[rule]]
            name = "pools"
            collection = "pool/metrics"
            lateness = "2h"
            widow = "15m"
            fields.apr = ["min", "mean"]
            fields.tvl = "min"
            fields.__x__ = ["min"]
            packing = { bytes = "1GiB", entities = 0, size = 3 }
            [[rule]]
            collection = "gas"
            window = 15
            fields = 1
            packing = true
        "#;
        let found = wrong(text);
        let expected = [
            "`other` of the file is not known; there are rule",
            "`collection` of rule 1 must be given",
            "`window` of rule 1 must be whole minutes, from 1m to 24h, of which a day is a multiple",
            "`widow` of rule \"pools\" is not known; there are name, collection, window, lateness, fields, packing",
            "`collection` of rule \"pools\" must be the name of a collection",
            "`lateness` of rule \"pools\" must be at most 1h",
            "`fields.__x__` of rule \"pools\" must be the name of a reading",
            "`fields.apr[1]` of rule \"pools\" must be one of min, max, avg, last, sum, count, time_weighted_mean",
            "`fields.tvl` of rule \"pools\" must be a list of one or more of min, max, avg, last, sum, count, time_weighted_mean",
            "`packing.size` of rule \"pools\" is not known; there are entities, bytes",
            "`packing.entities` of rule \"pools\" must be a number from 1 to 10000",
            "`packing.bytes` of rule \"pools\" must be a size from \"4KiB\" to \"512KiB\"",
            "`window` of rule \"gas\" must be a duration such as \"15m\"",
            "`fields` of rule \"gas\" must be a table of lists",
            "`packing` of rule \"gas\" must be a table",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn two_rules_of_one_collection_are_refused() {
        let found = wrong("[[rule]]\ncollection = \"gas\"\n[[rule]]\nname = \"two\"\ncollection = \"gas\"");
        assert_eq!(found, ["`collection` of rule \"two\" must be another one than that of the rules before"]);
    }

    #[test]
    fn packing_needs_to_know_what_an_entity_takes() {
        let found = wrong("[[rule]]\ncollection = \"gas\"\npacking = {}");
        assert_eq!(
            found,
            ["`fields` of rule \"gas\" must name every reading, without \"*\", where buckets are packed"]
        );
        let fields: String = (0..32)
            .map(|field| {
                format!("fields.a{field} = [\"min\", \"max\", \"avg\", \"sum\", \"last\", \"count\"]\n")
            })
            .collect();
        let found = wrong(&format!("[[rule]]\ncollection = \"gas\"\n{fields}packing.bytes = \"4KiB\""));
        assert!(
            found.len() == 1 && found[0].starts_with("`packing.bytes` of rule \"gas\" must be at least"),
            "{found:?}"
        );
    }

    #[test]
    fn a_file_that_is_no_toml_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        assert!(matches!(Rules::load(&path, LATENESS), Err(Error::Read { .. })));
        std::fs::write(&path, "[[rule]]\ncollection = gas").unwrap();
        let error = Rules::load(&path, LATENESS).unwrap_err();
        assert!(matches!(error, Error::Malformed { line: 2, .. }), "{error}");
        assert!(error.to_string().contains("rules.toml, line 2: "), "{error}");
    }
}
