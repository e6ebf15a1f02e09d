//! The routes file: upstreams, models, prices and tenants' limits, as TOML; `example.toml` beside this file shows every key.
//!
//! What it says is checked as a whole before anything is served; an unknown key is refused, so that a slip does not stay unseen.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use rpc::limit::Bounds;
use telemetry::Telemetry;

use super::{
    Bounding, Choice, FileError, Target, Upstream,
    error::Source,
    prices::Prices,
    table::{File, Named, Way},
};
use crate::{
    provider::{Endpoint, Options, SetupError, Telling},
    tenant::Limits,
};

/// A routes file that was read and checked.
#[derive(Debug, Default)]
pub struct Routes {
    /// What tenants may use, in the order of the file.
    pub tenants: Vec<Limits>,
    upstreams: Vec<(String, Options, Bounds)>,
    models: Vec<Named>,
}

/// What a routes file makes.
#[derive(Debug)]
pub struct Built {
    /// The upstreams, in the order of the file.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The models by name.
    pub models: Vec<(String, Target)>,
}

impl Routes {
    /// Reads a file and the key files it names, which are looked for beside it.
    ///
    /// # Errors
    /// [`FileError`] names the file, the line, the table and the field that is wrong.
    pub async fn load(path: &Path) -> Result<Self, FileError> {
        let read = async |path: PathBuf| {
            let text = tokio::fs::read_to_string(&path).await;
            text.map_err(|source| FileError::Read { path, source })
        };
        let text = read(path.to_owned()).await?;
        let source = Source { path, text: &text };
        let mut file: File = toml::from_str(&text).map_err(|error| source.malformed(&error))?;
        for table in &mut file.upstream {
            let offset = table.span().start;
            let upstream = table.get_mut();
            match (&upstream.key, &upstream.key_file) {
                (Some(_), Some(_)) => {
                    return Err(source.wrong(
                        offset,
                        "upstream",
                        "key_file",
                        "stands beside `key`: give one of them",
                    ));
                }
                (None, Some(key_file)) => {
                    let beside = path.parent().unwrap_or(Path::new("")).join(key_file);
                    upstream.key = Some(read(beside).await?.trim().to_owned());
                }
                _ => {}
            }
        }
        Self::check(file, source)
    }

    /// Returns the names of its models.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|model| model.name.as_str())
    }

    /// Makes the upstreams and the targets of its models; `retries` and `bounding` are the settings', but for what the file says itself,
    /// and `telling` says what is traced of them.
    ///
    /// # Errors
    /// [`SetupError`] where an upstream cannot be reached as it is set up.
    pub fn build(
        &self,
        retries: u32,
        bounding: &Bounding,
        telling: &Telling,
        telemetry: &Telemetry,
    ) -> Result<Built, SetupError> {
        let upstreams = self.upstreams.iter().map(|(name, options, bounds)| {
            let bounding = Bounding { bounds: *bounds, ..bounding.clone() };
            Ok(Upstream::new(name, Endpoint::new(name, options, telling, telemetry)?, bounding, telemetry))
        });
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        let models = self.models.iter().map(|Named { name, ways, semantic }| {
            let choice = |way: &Way| {
                let upstream = upstreams.get(way.upstream)?.clone();
                let price = way.price.unwrap_or_default();
                Some(Choice {
                    upstream,
                    model: way.model.as_str().into(),
                    weight: way.weight,
                    stage: way.stage,
                    price,
                })
            };
            let target = Target::new(ways.iter().filter_map(choice).collect(), retries);
            (name.clone(), target.semantic(*semantic))
        });
        let models = models.collect();
        Ok(Built { upstreams, models })
    }

    fn check(file: File, source: Source<'_>) -> Result<Self, FileError> {
        let mut upstreams = Vec::new();
        let mut names = HashSet::new();
        for table in file.upstream {
            let offset = table.span().start;
            let upstream = table.into_inner();
            if !names.insert(upstream.name.clone()) {
                return Err(source.wrong(offset, "upstream", "name", "is taken"));
            }
            upstreams
                .push(upstream.check(|field, problem| source.wrong(offset, "upstream", field, problem))?);
        }
        let place = |name: &str| upstreams.iter().position(|(named, ..)| named == name);
        let mut rows = Vec::new();
        for table in file.price {
            let offset = table.span().start;
            rows.push(
                table
                    .into_inner()
                    .check(place, |field, problem| source.wrong(offset, "price", field, problem))?,
            );
        }
        let prices = Prices::new(rows);
        let is_budgeted = file.tenant.iter().any(|tenant| tenant.get_ref().usd_per_day.is_some());
        let (mut models, mut names) = (Vec::new(), HashSet::new());
        for table in file.model {
            let offset = table.span().start;
            let model = table.into_inner();
            if !names.insert(model.name.clone()) {
                return Err(source.wrong(offset, "model", "name", "is taken"));
            }
            let wrong = |field, problem: String| source.wrong(offset, "model", field, problem);
            models.push(model.check(place, &prices, is_budgeted, wrong)?);
        }
        let (mut tenants, mut names) = (Vec::new(), HashSet::new());
        for table in file.tenant {
            let offset = table.span().start;
            let tenant = table.into_inner();
            if !names.insert(tenant.name.clone()) {
                return Err(source.wrong(offset, "tenant", "name", "is taken"));
            }
            if let Some((field, problem)) = tenant.problem() {
                return Err(source.wrong(offset, "tenant", field, problem));
            }
            tenants.push(tenant);
        }
        Ok(Self { tenants, upstreams, models })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::Secret;

    use super::*;

    const SOUND: &str = r#"
[[upstream]]
name = "one"
dialect = "openai"
url = "http://one/v1"
key_file = "one.key"
timeout = "2s"

[[upstream]]
name = "two"
dialect = "anthropic"
url = "http://two/v1"
key = "k2"

[[model]]
name = "fast"
upstreams = [{ upstream = "one", model = "small", weight = 3 }, { upstream = "two", model = "haiku" }]
fallback = [{ upstream = "two", model = "sonnet" }]

[[price]]
upstream = "one"
model = "small"
input = 1.0
output = 2.0
source = "an example"
date = "2026-11-25"

[[price]]
model = "*"
input = 3.0
cached_input = 0.3
output = 15.0
source = "an example"
date = "2026-11-25"

[[tenant]]
name = "acme"
requests_per_minute = 60
usd_per_day = 5.0
"#;

    async fn load(text: &str) -> Result<Routes, FileError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one.key"), "k1\n").unwrap();
        std::fs::write(folder.path().join("routes.toml"), text).unwrap();
        Routes::load(&folder.path().join("routes.toml")).await
    }

    #[tokio::test]
    async fn a_sound_file_becomes_upstreams_and_targets() {
        let routes = load(SOUND).await.unwrap();
        assert_eq!(routes.models().collect::<Vec<_>>(), ["fast"]);
        assert_eq!(routes.upstreams[0].1.key.as_ref().map(Secret::expose), Some("k1"));
        assert_eq!(routes.upstreams[0].1.timeout, Duration::from_secs(2));
        let bounding = Bounding {
            bounds: routes.upstreams[0].2,
            retry_percent: 20,
            breaker: rpc::BreakerOptions::default(),
        };
        let silent = Telemetry::silent("test");
        let telling = Telling::new(&silent, 0);
        let Built { upstreams, models } = routes.build(2, &bounding, &telling, &silent).unwrap();
        assert_eq!(upstreams.iter().map(|upstream| &**upstream.name()).collect::<Vec<_>>(), ["one", "two"]);
        let target = &models[0].1;
        assert_eq!(target.dearest().output_per_mtok, 15.0);
        assert!((target.expected().input_per_mtok - 1.5).abs() < 1e-12, "three of four calls cost 1");
        assert_eq!(routes.tenants[0].usd_per_day, Some(5.0));
    }

    #[tokio::test]
    async fn the_example_is_sound() {
        let text = include_str!("example.toml").replace("openai.key", "one.key");
        let routes = load(&text).await.unwrap();
        assert_eq!((routes.upstreams.len(), routes.models.len(), routes.tenants.len()), (2, 1, 1));
        assert!(routes.tenants[0].usd_per_day.is_some());
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_with_its_line_and_field() {
        let cases = [
            ("timeout = \"2s\"", "timeout = \"soon\"", "line 7: must be a duration"),
            ("timeout = \"2s\"", "timeuot = \"2s\"", "line 7: unknown field `timeuot`"),
            ("timeout = \"2s\"", "timeout = \"1ms\"", "line 2: `timeout` of [[upstream]] must be 100ms"),
            ("http://one/v1", "ftp://one", "`url` of [[upstream]]"),
            ("key_file = \"one.key\"", "key_file = \"x\"\nkey = \"y\"", "`key_file` of [[upstream]]"),
            ("key_file = \"one.key\"", "key_file = \"nowhere.key\"", "nowhere.key cannot be read"),
            ("name = \"two\"", "name = \"one\"", "line 9: `name` of [[upstream]] is taken"),
            ("dialect = \"anthropic\"", "dialect = \"french\"", "unknown variant `french`"),
            (
                "upstream = \"two\", model = \"sonnet\"",
                "upstream = \"three\", model = \"x\"",
                "line 15: `fallback` of [[model]] names the upstream `three`",
            ),
            (
                "name = \"fast\"",
                "name = \"openai/fast\"",
                "`name` of [[model]] must be 1 to 256 bytes and not begin",
            ),
            ("weight = 3", "weight = 0", "`upstreams` of [[model]]"),
            ("model = \"*\"", "model = \"x\"", "needs a [[price]] for `two/haiku`"),
            ("input = 3.0", "input = -3.0", "`input` of [[price]]"),
            ("date = \"2026-11-25\"\n\n[[tenant]]", "date = \"\"\n\n[[tenant]]", "`date` of [[price]]"),
            ("usd_per_day = 5.0", "usd_per_day = -5.0", "`usd_per_day` of [[tenant]]"),
        ];
        for (sound, broken, expected) in cases {
            assert!(SOUND.contains(sound), "{sound}");
            let error = load(&SOUND.replacen(sound, broken, 1)).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{broken}: {error}");
        }
    }
}
