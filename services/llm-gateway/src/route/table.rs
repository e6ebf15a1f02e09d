//! The tables of a routes file, and what each of them may say.

use std::{path::PathBuf, time::Duration};

use config::{Secret, Value as _};
use rpc::limit::Bounds;
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use super::{
    FileError,
    prices::{Prices, Row},
};
use crate::{
    cache::semantic::Mode,
    price::Price,
    provider::{self, Dialect, Options},
    tenant::Limits,
};

/// A choice of a model, before there are upstreams.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) upstream: usize,
    pub(super) model: String,
    pub(super) weight: u32,
    pub(super) stage: usize,
    pub(super) price: Option<Price>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) upstream: Vec<Spanned<UpstreamTable>>,
    #[serde(default)]
    pub(super) model: Vec<Spanned<ModelTable>>,
    #[serde(default)]
    pub(super) price: Vec<Spanned<PriceTable>>,
    #[serde(default)]
    pub(super) tenant: Vec<Spanned<Limits>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTable {
    pub(super) name: String,
    dialect: Dialect,
    url: String,
    pub(super) key: Option<String>,
    pub(super) key_file: Option<PathBuf>,
    #[serde(default = "Time::timeout")]
    timeout: Time,
    #[serde(default = "most_running")]
    max_concurrent: usize,
    #[serde(default = "most_queued")]
    max_queued: usize,
    #[serde(default = "Time::queue_wait")]
    max_queue_wait: Time,
    #[serde(default = "most_tokens")]
    max_output_tokens: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelTable {
    pub(super) name: String,
    upstreams: Vec<WayTable>,
    #[serde(default)]
    fallback: Vec<WayTable>,
    /// Whether answers to questions that ask the same serve; as the setting has it where it does not say.
    semantic: Option<Mode>,
}

/// A model that was checked.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) ways: Vec<Way>,
    pub(super) semantic: Option<Mode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WayTable {
    upstream: String,
    model: String,
    #[serde(default = "one")]
    weight: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceTable {
    upstream: Option<String>,
    model: String,
    input: f64,
    cached_input: Option<f64>,
    output: f64,
    source: String,
    date: String,
}

/// A duration as settings write it: `30s`.
struct Time(Duration);

impl Time {
    fn timeout() -> Self {
        Self(Duration::from_secs(30))
    }

    fn queue_wait() -> Self {
        Self(Duration::from_secs(5))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Duration::parse(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("must be a duration such as `30s` or `500ms`"))
    }
}

fn most_running() -> usize {
    256
}

fn most_queued() -> usize {
    256
}

fn most_tokens() -> u32 {
    8_192
}

fn one() -> u32 {
    1
}

impl UpstreamTable {
    pub(super) fn check(
        self,
        wrong: impl Fn(&'static str, &str) -> FileError,
    ) -> Result<(String, Options, Bounds), FileError> {
        let is_of_a_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(is_of_a_name) {
            return Err(wrong("name", "must be 1 to 64 of a to z, 0 to 9, `-` and `_`"));
        }
        if provider::address(&self.url).is_err() {
            return Err(wrong(
                "url",
                "must begin with http:// or https://, be ASCII, and hold neither user nor password",
            ));
        }
        let key = self.key.filter(|key| !key.is_empty());
        if key.as_ref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(wrong("key", "must be visible ASCII"));
        }
        let range = Duration::from_millis(100)..=Duration::from_secs(600);
        if !range.contains(&self.timeout.0) {
            return Err(wrong("timeout", "must be 100ms to 10m"));
        }
        if !(1..=100_000).contains(&self.max_concurrent) {
            return Err(wrong("max_concurrent", "must be 1 to 100000"));
        }
        if self.max_queued > 100_000 {
            return Err(wrong("max_queued", "must be 0 to 100000"));
        }
        if !(Duration::from_millis(1)..=*range.end()).contains(&self.max_queue_wait.0) {
            return Err(wrong("max_queue_wait", "must be 1ms to 10m"));
        }
        if self.max_output_tokens == 0 {
            return Err(wrong("max_output_tokens", "must be at least 1"));
        }
        let options = Options {
            dialect: self.dialect,
            url: self.url,
            key: key.and_then(|key| Secret::parse(&key)),
            timeout: self.timeout.0,
            max_output_tokens: self.max_output_tokens,
        };
        let bounds =
            Bounds { running: self.max_concurrent, queued: self.max_queued, wait: self.max_queue_wait.0 };
        Ok((self.name, options, bounds))
    }
}

impl ModelTable {
    pub(super) fn check(
        self,
        place: impl Fn(&str) -> Option<usize>,
        prices: &Prices,
        is_budgeted: bool,
        wrong: impl Fn(&'static str, String) -> FileError,
    ) -> Result<Named, FileError> {
        // What begins with `openai/` is the upstream's of the settings: two models of one name would share their answers.
        let is_taken = ["builtin/", "openai/"].iter().any(|taken| self.name.starts_with(taken));
        if self.name.is_empty() || self.name.len() > 256 || is_taken {
            return Err(wrong(
                "name",
                "must be 1 to 256 bytes and not begin with `builtin/` or `openai/`".into(),
            ));
        }
        if self.upstreams.is_empty() {
            return Err(wrong("upstreams", "must name at least one upstream".into()));
        }
        let first = self.upstreams.into_iter().map(|way| ("upstreams", 0, way));
        let later = (1..).zip(self.fallback).map(|(stage, way)| ("fallback", stage, way));
        let ways = first.chain(later).map(|(field, stage, way)| {
            let upstream = place(&way.upstream).ok_or_else(|| {
                wrong(field, format!("names the upstream `{}`, which is none", way.upstream))
            })?;
            if way.model.is_empty() || !(1..=1_000_000).contains(&way.weight) {
                return Err(wrong(field, "must have a `model`, and a `weight` of 1 to 1000000".into()));
            }
            let price = prices.of(&way.upstream, &way.model);
            if is_budgeted && price.is_none() {
                let asked = format!("{}/{}", way.upstream, way.model);
                return Err(wrong(
                    field,
                    format!("needs a [[price]] for `{asked}`: a tenant has `usd_per_day`"),
                ));
            }
            Ok(Way { upstream, model: way.model, weight: way.weight, stage, price })
        });
        Ok(Named { ways: ways.collect::<Result<_, _>>()?, name: self.name, semantic: self.semantic })
    }
}

impl PriceTable {
    pub(super) fn check(
        self,
        place: impl Fn(&str) -> Option<usize>,
        wrong: impl Fn(&'static str, &str) -> FileError,
    ) -> Result<Row, FileError> {
        if self.upstream.as_ref().is_some_and(|name| place(name).is_none()) {
            return Err(wrong("upstream", "must be the name of an upstream"));
        }
        let cached_input = self.cached_input.unwrap_or(self.input);
        for (field, usd) in [("input", self.input), ("cached_input", cached_input), ("output", self.output)] {
            if !(0.0..=100_000.0).contains(&usd) {
                return Err(wrong(field, "must be 0 to 100000 USD per million tokens"));
            }
        }
        for (field, text) in [("model", &self.model), ("source", &self.source), ("date", &self.date)] {
            if text.trim().is_empty() {
                return Err(wrong(field, "must not be empty"));
            }
        }
        let price = Price {
            input_per_mtok: self.input,
            cached_input_per_mtok: cached_input,
            output_per_mtok: self.output,
        };
        Ok(Row { upstream: self.upstream, model: self.model, price })
    }
}
