//! Templates that answer without a model: data, read again when it changes, whose confidence is learned from what came of it.
//!
//! 1. A condition is CEL over the observation's values and over figures of their history, such as `apr_mean_30d`. A missing value is a
//!    reason to skip a template, never a zero. What is observed now is no part of its own history.
//! 2. A template begins in the shadow: it matches and is judged, and does not answer until its file says `mode = "active"`.
//! 3. What came of a match is reported by a caller, or judged by the template's own `outcome` over the subject's next day. The first
//!    word stands.
//! 4. The confidence of an answer is a logistic score over the value's own history ([`Score`]) where the template states what to watch, and
//!    else the share of its outcomes that came true. The file's figures are the prior.
//! 5. A template retires when the bound on its error exceeds `max_error`. It is then watched on in the shadow, and answers again
//!    with another version, or by an administrator's word.
//! 6. Every tenant has a ledger of its own: none learns from another's outcomes, and none can spoil another's templates.

mod condition;
mod figure;
mod history;
mod ledger;
mod library;
mod matches;
mod phrase;
mod posterior;
mod score;
mod source;
mod spike;
mod store;
mod template;
mod track;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use clock::Clock;
use parking_lot::{Mutex, RwLock};
use telemetry::{Counter, KeyValue, Telemetry, names};

pub use self::{
    condition::Verdict,
    history::Limits,
    ledger::{Answer, Consulted, Told},
    library::{Explanation, Library},
    matches::Id,
    posterior::{Outcomes, Posterior},
    score::{INPUTS, Inputs, Score},
    source::{Source, Standing},
    spike::Watch,
    store::{Error as StoreError, Store},
    template::{Error, Mode, Severity, Template},
    track::Track,
};
use self::{
    history::DAY,
    ledger::{Ledger, Seen},
};
use crate::observation::Observation;

/// How patterns are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How much history is kept of each tenant.
    pub history: Limits,
    /// Most matches kept of each tenant whose outcome is awaited or known.
    pub matches: usize,
    /// The share of answers about which a model is asked as well, 0 to 1.
    pub verify: f64,
    /// Whether scores go on answering as they did until [`Patterns::publish`]; for measurements.
    pub publish_by_hand: bool,
}

/// The templates, and all that is known about them.
#[derive(Debug)]
pub struct Patterns {
    library: RwLock<Arc<Library>>,
    source: Source,
    options: Options,
    clock: Clock,
    tenants: Mutex<HashMap<Arc<str>, Arc<Mutex<Ledger>>>>,
    store: Option<Store>,
    outcomes: Counter,
}

/// A template and its record.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The template.
    pub template: Template,
    /// What is known about it.
    pub track: Track,
}

/// What a template made of an observation in a dry run.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The template.
    pub template: Template,
    /// Why it matched or not.
    pub explanation: Explanation,
    /// What it would say, where it matched.
    pub answer: String,
    /// How sure it would be.
    pub confidence: f64,
    /// Why it may not answer though it matched; empty if it may.
    pub silent: String,
}

/// What names a match other than its id.
#[derive(Clone, Debug)]
pub struct Named {
    /// The template.
    pub pattern: String,
    /// The observation's type.
    pub kind: String,
    /// The observation's subject.
    pub subject: String,
    /// The observation's id.
    pub id: String,
    /// When it was seen; `None` means now.
    pub time: Option<SystemTime>,
}

impl Patterns {
    /// Compiles the templates of `source`, and takes up what an earlier process left in `store`.
    ///
    /// # Errors
    /// [`Error`] if the templates are wrong.
    pub fn new(
        source: Source,
        options: Options,
        store: Option<Store>,
        clock: Clock,
        telemetry: &Telemetry,
    ) -> Result<Self, Error> {
        let library = RwLock::new(Arc::new(source.first(options.history.points)?));
        let mut tenants = HashMap::new();
        if let Some(store) = &store {
            for (tenant, kept) in store.take_kept() {
                let mut ledger = Ledger::new(tenant.clone(), &options, true);
                ledger.restore(kept);
                tenants.insert(tenant, Arc::new(Mutex::new(ledger)));
            }
        }
        let outcomes = telemetry.counter(names::LLM_PATTERN_OUTCOMES);
        Ok(Self { library, source, options, clock, tenants: Mutex::new(tenants), store, outcomes })
    }

    /// Tries the templates on an observation of `tenant` and remembers it; without `may_answer` none answers.
    #[must_use]
    pub fn consult(&self, tenant: &Arc<str>, observation: &Observation, may_answer: bool) -> Consulted {
        let library = self.library();
        if library.looking_at(&observation.kind).next().is_none() {
            return Consulted::default();
        }
        self.within(tenant, |ledger| ledger.consult(&library, &self.seen(observation), may_answer))
    }

    /// Compares a model's answer with the templates that matched. They agree where both say that the observation is remarkable, or
    /// neither does: a salience of at least 0.5, and the severity `warning` or `critical`. Their words are not compared.
    pub fn compare(&self, tenant: &Arc<str>, matched: &[Id], salience: f64) {
        if !matched.is_empty() {
            let library = self.library();
            self.within(tenant, |ledger| ledger.compare(&library, matched, salience >= 0.5));
        }
    }

    /// Returns whether a model is to be asked about a match as well; the same ones are drawn again.
    #[must_use]
    pub fn is_drawn(&self, id: Id) -> bool {
        id.is_drawn(self.options.verify)
    }

    /// Tells what came of a match; returns once that is on disk, where anything is. `None` if the tenant has no such match.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; it counts all the same until the process ends, and can be told again.
    pub async fn report(
        &self,
        tenant: &Arc<str>,
        id: Id,
        came_true: bool,
    ) -> Result<Option<Told>, StoreError> {
        let library = self.library();
        let told = self.within(tenant, |ledger| ledger.report(&library, id, came_true));
        if told.is_some() {
            self.flush().await?;
        }
        Ok(told)
    }

    /// Returns the id that a match has; `None` if no template has the name.
    #[must_use]
    pub fn id_of(&self, tenant: &str, named: &Named) -> Option<Id> {
        let library = self.library();
        let version = library.entry(&named.pattern)?.template.version;
        let Named { kind, subject, id, .. } = named;
        let subject = (kind.as_str().into(), subject.as_str().into(), id.as_str().into());
        let time = named.time.unwrap_or_else(|| self.clock.now());
        Some(Id::of(tenant, &named.pattern, version, &subject, seconds(time).div_euclid(DAY)))
    }

    /// Lets a template answer again and forgets what came of it; `false` if no template has the name.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; it answers all the same until the process ends.
    pub async fn reinstate(&self, tenant: &Arc<str>, pattern: &str) -> Result<bool, StoreError> {
        let library = self.library();
        let done = self.within(tenant, |ledger| ledger.reinstate(&library, pattern));
        if done {
            tracing::info!(pattern, tenant = &**tenant, "template reinstated");
            self.flush().await?;
        }
        Ok(done)
    }

    /// Evaluates every template for `tenant`; counts and remembers nothing.
    #[must_use]
    pub fn evaluate(&self, tenant: &Arc<str>, observation: &Observation) -> Vec<Tried> {
        let (library, seen) = (self.library(), self.seen(observation));
        self.within(tenant, |ledger| {
            let (series, day) = (ledger.history.series(&seen.subject()), seen.day());
            let facts = library.facts(seen.kind, seen.values, series, day);
            let scope = condition::scope(library.env(), &facts);
            let mut is_taken = false;
            let mut tried = |entry: &library::Entry| {
                let template = entry.template.clone();
                let mut explanation = entry.explain(&facts, &scope);
                if !template.looks_at(&observation.kind) {
                    let types = template.types.join(", ");
                    explanation.verdict = Verdict::Skipped(format!("looks at {types} only"));
                }
                let holds = explanation.verdict == Verdict::Holds;
                let silent = match (holds, template.mode, &ledger.record(&template).retired) {
                    (true, Mode::Shadow, _) => "it is in the shadow".into(),
                    (true, Mode::Active, Some(why)) => format!("it has retired: {why}"),
                    (true, Mode::Active, None) if is_taken => "an earlier template answers".into(),
                    _ => String::new(),
                };
                is_taken |= holds && silent.is_empty();
                let answer = if holds { entry.answer(seen.name, &facts) } else { String::new() };
                let confidence = ledger.confidence(&template, &seen);
                Tried { template, explanation, answer, confidence, silent }
            };
            library.entries().iter().map(&mut tried).collect()
        })
    }

    /// Returns the templates in the order in which they are tried, with what is known about them for `tenant`.
    #[must_use]
    pub fn list(&self, tenant: &Arc<str>) -> Vec<Listed> {
        let library = self.library();
        self.within(tenant, |ledger| {
            let templates = library.entries().iter().map(|entry| entry.template.clone());
            templates.map(|template| Listed { track: ledger.record(&template), template }).collect()
        })
    }

    /// Returns where the templates come from, and what is wrong with their file.
    #[must_use]
    pub fn status(&self) -> Standing {
        self.source.status()
    }

    /// Returns how many subjects have a history for `tenant`, and their bytes by estimate.
    #[must_use]
    pub fn remembered(&self, tenant: &Arc<str>) -> (usize, usize) {
        self.within(tenant, |ledger| ledger.history.size())
    }

    /// Looks at the file and takes its templates if they changed and can be used; blocks while it reads.
    pub fn look(&self) {
        if let Some(library) = self.source.changed(self.options.history.points) {
            *self.library.write() = Arc::new(library);
        }
    }

    /// Lets all that the scores of `tenant` have learned answer from now on, where that is done by hand.
    pub fn publish(&self, tenant: &Arc<str>) {
        self.within(tenant, Ledger::publish);
    }

    /// Writes what changed, where anything is kept on disk.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; it is tried again with the next call.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let ledgers = self.tenants.lock().iter().map(|(name, one)| (name.clone(), one.clone())).collect();
        store.write(ledgers).await
    }

    /// Writes what changed and lets go of the file.
    pub async fn close(&self) {
        if let Err(error) = self.flush().await {
            tracing::error!(error = &error as &dyn std::error::Error, "what patterns learned is not written");
        }
        if let Some(store) = &self.store {
            store.close().await;
        }
    }

    fn library(&self) -> Arc<Library> {
        Arc::clone(&self.library.read())
    }

    fn seen<'a>(&self, observation: &'a Observation) -> Seen<'a> {
        Seen {
            kind: &observation.kind,
            name: &observation.subject,
            id: &observation.id,
            at: seconds(observation.time.unwrap_or_else(|| self.clock.now())),
            values: &observation.values,
        }
    }

    /// Runs `work` on the tenant's ledger, then counts and logs what came of it.
    fn within<T>(&self, tenant: &Arc<str>, work: impl FnOnce(&mut Ledger) -> T) -> T {
        let ledger = {
            let mut tenants = self.tenants.lock();
            let fresh = || Ledger::new(tenant.clone(), &self.options, self.store.is_some());
            Arc::clone(tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Mutex::new(fresh()))))
        };
        let (done, counted) = {
            let mut ledger = ledger.lock();
            (work(&mut ledger), ledger.counted())
        };
        for outcome in counted {
            let attributes = [
                KeyValue::new(names::PATTERN, outcome.pattern.clone()),
                KeyValue::new(names::CAME_TRUE, outcome.came_true),
            ];
            self.outcomes.add(1, &attributes);
            if let Some(reason) = outcome.retired {
                tracing::warn!(pattern = outcome.pattern, tenant = &**tenant, reason, "template retired");
            }
        }
        done
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: Limits { subjects: 10_000, points: 40, bytes: 64 << 20 },
            matches: 10_000,
            verify: 0.0,
            publish_by_hand: false,
        }
    }
}

/// Returns whole seconds since 1970, negative before.
fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

#[cfg(test)]
mod tests;
