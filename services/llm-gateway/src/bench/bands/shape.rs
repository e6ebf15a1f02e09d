//! Ways to find an earlier answer about close figures: the gateway's, and those it was chosen over.
//!
//! - [`Grid`]: figures are rounded to bands on a log scale. Where a band spans `1 + tolerance` its answers are as close as the gateway's; where
//!   it spans `(1 + tolerance)²` its middle reaches as far to either side.
//! - [`LastSeen`]: figures are compared with those seen last, whatever the answer served then is about.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use clock::{Clock, Hand};
use jiff::civil::Date;

use super::{About, Trial};
use crate::{
    bench::pool_days::days_between,
    cache::{
        Exact, Key, Keys, Room, StoredAnalysis,
        bands::{Bands, Limits, Tolerance, Tolerances},
    },
    observation::Analysis,
    served::Control,
};

/// Answers kept of a pool: the default of `llm_band_answers`.
const ANSWERS: usize = 4;
/// Room for every answer of a recording: what is evicted is not measured here.
const ROOM: u64 = 1_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A way to find an earlier answer.
pub(super) trait Shape {
    /// Returns the answer served for what is seen now.
    fn find(&mut self, now: &About) -> Option<About>;
    /// Stores an answer that was made.
    fn store(&mut self, made: &About);
}

/// The gateway's index over its exact cache, whose clock follows the recorded days.
pub(super) struct Ours {
    keys: Keys,
    exact: Exact,
    bands: Bands,
    hand: Hand,
    day: Option<Date>,
    tolerances: Tolerances,
    /// By the words under which they are stored.
    made: Vec<About>,
}

impl Ours {
    pub(super) fn new(trial: &Trial<'_>) -> Self {
        let ttl = DAY * trial.most_days.unsigned_abs();
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        let room = Room { max_bytes: u64::MAX, ..Room::fixed(ROOM, ttl) };
        let limits = Limits { entities: ROOM, answers: ANSWERS, max_bytes: u64::MAX, ttl };
        Self {
            keys: Keys::new([0; 32]),
            exact: Exact::new(room, clock.clone(), None),
            bands: Bands::new(limits, clock),
            hand,
            day: None,
            tolerances: Tolerances {
                others: Tolerance::new(trial.tolerance, 0.0).unwrap_or_default(),
                ignored: trial.ignored.iter().map(|name| (*name).to_owned()).collect(),
                ..Tolerances::default()
            },
            made: Vec::new(),
        }
    }

    fn keys(&self, about: &About) -> (Key, Key) {
        let (tenant, model): (Arc<str>, Arc<str>) = ("bench".into(), "bench".into());
        (
            self.keys.entity(&tenant, &model, "", &about.seen),
            self.keys.observation(&tenant, &model, "", &about.seen),
        )
    }
}

impl Shape for Ours {
    fn find(&mut self, now: &About) -> Option<About> {
        let passed = self.day.replace(now.date).map_or(0, |day| days_between(day, now.date));
        self.hand.advance(DAY * passed.unsigned_abs());
        let (entity, answer) = self.keys(now);
        let read = |answer: &Key| self.exact.analysis(answer, Control::default());
        let found = match read(&answer) {
            Some(found) => found,
            None => self.bands.find(&entity, &now.seen, &self.tolerances, read).ok()?.found,
        };
        self.made.get(found.entry.analysis.summary.parse::<usize>().ok()?).cloned()
    }

    fn store(&mut self, made: &About) {
        let (entity, answer) = self.keys(made);
        let summary = self.made.len().to_string();
        self.made.push(made.clone());
        let analysis = Analysis { summary, confidence: 1.0, salience: 0.0 };
        let stored = StoredAnalysis { analysis, own_cost_usd: 0.0 };
        self.exact.store_analysis(&answer, stored, Control::default());
        self.bands.note(&entity, &made.seen, &answer);
    }
}

/// Bands on a log scale with edges between them.
pub(super) struct Grid<'a> {
    trial: Trial<'a>,
    span: f64,
    answers: HashMap<(String, BTreeMap<String, i64>), About>,
}

impl<'a> Grid<'a> {
    pub(super) fn new(trial: &Trial<'a>, span: f64) -> Self {
        Self { trial: *trial, span, answers: HashMap::new() }
    }

    fn bands(&self, about: &About) -> (String, BTreeMap<String, i64>) {
        let values =
            about.seen.values.iter().filter(|(name, _)| !self.trial.ignored.contains(&name.as_str()));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a logarithm over at least ln 1.01 is below 10^5"
        )]
        let band = |value: f64| {
            let band = (value.abs().ln() / self.span.ln()).floor() as i64;
            if value == 0.0 { i64::MAX } else { 2 * band + i64::from(value < 0.0) }
        };
        (about.seen.id.clone(), values.map(|(name, value)| (name.clone(), band(*value))).collect())
    }
}

impl Shape for Grid<'_> {
    fn find(&mut self, now: &About) -> Option<About> {
        self.answers.get(&self.bands(now)).filter(|then| self.trial.is_young(now, then)).cloned()
    }

    fn store(&mut self, made: &About) {
        self.answers.insert(self.bands(made), made.clone());
    }
}

/// The last answer about a pool, as long as no step from one sight of it to the next exceeds the tolerance.
pub(super) struct LastSeen<'a> {
    trial: Trial<'a>,
    /// By pool: what was seen last, and the answer served then.
    pools: HashMap<String, (About, About)>,
}

impl<'a> LastSeen<'a> {
    pub(super) fn new(trial: &Trial<'a>) -> Self {
        Self { trial: *trial, pools: HashMap::new() }
    }
}

impl Shape for LastSeen<'_> {
    fn find(&mut self, now: &About) -> Option<About> {
        let (last, answer) = self.pools.get_mut(&now.seen.id)?;
        if !self.trial.is_young(now, last) || self.trial.farthest(now, last) > self.trial.tolerance {
            return None;
        }
        *last = now.clone();
        Some(answer.clone())
    }

    fn store(&mut self, made: &About) {
        self.pools.insert(made.seen.id.clone(), (made.clone(), made.clone()));
    }
}
