//! The way of many observations, tier by tier: pattern, exact cache, bands where asked for, one model call about all that is left.
//!
//! 1. Every observation gets exactly one finding: an analysis, or a failure by name that spares the others.
//! 2. Equal observations of a request are asked about once.
//! 3. The assessment comes with the model call where one is made about a request of several observations, and from `builtin/statistics` at
//!    no cost, labelled so, where none is made, or the model gave none, or there is one observation, which nothing can be said beside.
//! 4. The call fails as a whole only where nothing at all could be answered, or its cost limit forbids the model call.

mod bands;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    batch::{self, Item, Part},
    cache::{
        Key, Lead, Seat,
        bands::{Outcome, Tolerances},
    },
    conversation::Usage,
    error::Error,
    gateway::Gateway,
    generate::statistics_span,
    merge::{Merged, Shared},
    observation::{Analysis, Assessment, ItemFailure, Observation},
    pattern,
    provider::statistics::Survey,
    route::Model,
    served::{self, By, Phases, Served, Terms},
};

/// Observations to analyse together.
#[derive(Clone, Debug, Default)]
pub struct Inquiry {
    /// The model asked for; empty means the configured default.
    pub model: String,
    /// What the caller wants to know; may be empty.
    pub question: String,
    /// At least one, each with an id of its own.
    pub observations: Vec<Observation>,
    /// Whether templates only watch: a model is asked even where one would answer, to compare the two.
    pub watch_only: bool,
    /// How far an answer may be off that serves; by default not at all.
    pub bands: Tolerances,
}

/// One finding for every observation, in order, and an assessment of all.
#[derive(Clone, Debug)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
    /// What came of looking for an answer about close figures, for each; `None` where none was looked for.
    pub banded: Vec<Option<Outcome>>,
    /// The assessment.
    pub assessment: Assessment,
    /// Model calls made for this request, whatever came of them, those it shared among them.
    pub upstream_calls: u32,
    /// The model call; `None` if none was needed or it failed.
    pub served: Option<Served>,
    /// What is wrong with the input.
    pub warnings: Vec<String>,
}

/// What came of one observation.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was found, or why not.
    pub outcome: Result<Analysis, ItemFailure>,
    /// How it came about.
    pub served: Served,
}

/// A request on its way through the tiers.
struct Case<'a> {
    gateway: &'a Arc<Gateway>,
    terms: &'a Terms,
    inquiry: &'a Inquiry,
    model: Model,
    survey: Survey<'a>,
    context: String,
    warnings: Vec<String>,
    begun: Instant,
    /// One for each observation, in order.
    seats: Vec<Seated>,
    calls: u32,
}

/// How far one observation has come.
#[derive(Default)]
struct Seated {
    phases: Phases,
    key: Option<Key>,
    finding: Option<Finding>,
    /// The matches of templates, also of those that may not answer.
    matched: Vec<pattern::Id>,
    banded: Option<Outcome>,
}

/// What the model call brought, and whether it was this request's own.
struct Brought {
    merged: Shared,
    joined: bool,
    wait: Duration,
    /// What calls of their own would have cost all it was asked about, in USD.
    own_usd: f64,
}

impl Gateway {
    /// Analyses observations: what patterns and cache leave open is asked of a model in calls that many observations share, and asked
    /// again where the answer was missing or invalid.
    ///
    /// # Errors
    /// [`Error::NoUpstream`] for a model nobody serves, [`Error::OverBudget`], [`Error::DeadlineExceeded`], or
    /// [`Error::Failed`] when the model did not answer and nothing else did.
    pub async fn analyze(self: &Arc<Self>, terms: &Terms, inquiry: &Inquiry) -> Result<Report, Error> {
        let mut case = Case::open(self, terms, inquiry)?;
        case.try_patterns();
        case.try_cache();
        case.try_bands();
        let brought = case.ask().await?;
        case.note_answers();
        Ok(case.close(brought))
    }

    /// Tells how a request was answered: counts its items, and says so in its span.
    fn account_all(&self, findings: &[Finding], asked: Option<&Served>) {
        let mut saved_usd = 0.0;
        let counts = By::ALL.map(|by| {
            let answered =
                findings.iter().filter(|finding| finding.served.by == by && finding.outcome.is_ok());
            let (count, saved) = answered
                .fold((0, 0.0), |(count, saved), finding| (count + 1, saved + finding.served.saved_usd));
            self.meter.items(by, count, saved);
            saved_usd += saved;
            (by, count)
        });
        served::tell_all(&counts, saved_usd, asked);
    }
}

impl<'a> Case<'a> {
    fn open(gateway: &'a Arc<Gateway>, terms: &'a Terms, inquiry: &'a Inquiry) -> Result<Self, Error> {
        let begun = Instant::now();
        let model = gateway.models.resolve(&inquiry.model)?;
        let survey = Survey::of(&inquiry.observations);
        // A lone observation has nothing to be compared with.
        let context = if inquiry.observations.len() > 1 { survey.context() } else { String::new() };
        Ok(Self {
            gateway,
            terms,
            inquiry,
            model,
            survey,
            context,
            warnings: batch::warnings(&inquiry.observations),
            begun,
            seats: inquiry.observations.iter().map(|_| Seated::default()).collect(),
            calls: 0,
        })
    }

    fn try_patterns(&mut self) {
        for (seat, seen) in self.seats.iter_mut().zip(&self.inquiry.observations) {
            let trying = Instant::now();
            let consulted = self.gateway.patterns.consult(&self.terms.tenant, seen, !self.inquiry.watch_only);
            seat.phases.pattern = Some(trying.elapsed());
            seat.matched = consulted.matched;
            let Some(answer) = consulted.answer else { continue };
            let mut served = Served::by(By::Pattern, &Arc::from(""), seat.phases);
            (served.pattern, served.match_id) = (answer.pattern, answer.id);
            served.saved_usd =
                self.gateway.own_cost(&self.model, &self.inquiry.question, &self.context, seen);
            let analysis = Analysis {
                summary: answer.text,
                confidence: answer.confidence,
                salience: self.survey.salience(seen),
            };
            seat.finding = Some(Finding { outcome: Ok(analysis), served });
        }
    }

    fn try_cache(&mut self) {
        let gateway = self.gateway;
        for (seat, seen) in self.seats.iter_mut().zip(&self.inquiry.observations) {
            if seat.finding.is_some() {
                continue;
            }
            let looking = Instant::now();
            let key =
                gateway.keys.observation(&self.terms.tenant, &self.model.name, &self.inquiry.question, seen);
            // Statistics compare within their request: stored, they would repeat another one's figures. They are free.
            let free = self.model.is_free();
            let found = if free { None } else { gateway.cache.analysis(&key, self.terms.control) };
            seat.phases.cache = Some(looking.elapsed());
            seat.key = Some(key);
            if let Some(found) = found {
                let mut served = Served::by(By::Exact, &self.model.name, seat.phases);
                served.age = found.age;
                served.saved_usd = found.entry.own_cost_usd;
                seat.finding = Some(Finding { outcome: Ok(found.entry.analysis.clone()), served });
            }
        }
    }

    /// Asks a model about all that is open, equal observations once, and gives each its finding.
    async fn ask(&mut self) -> Result<Option<Brought>, Error> {
        let (firsts, twins) = self.distinct();
        let mut brought = None;
        if !firsts.is_empty() {
            match self.bring(&firsts).await {
                Ok(mut found) => {
                    self.distribute(&mut found, &firsts);
                    brought = Some(found);
                }
                Err(Error::Failed(failure)) if self.seats.iter().any(|seat| seat.finding.is_some()) => {
                    tracing::info!(failure = %failure, observations = firsts.len(), "answering in part");
                }
                Err(error) => return Err(error),
            }
        }
        for (place, first) in twins {
            let twin = self.seats.get(first).and_then(|seat| seat.finding.clone());
            if let (Some(twin), Some(seat)) = (twin, self.seats.get_mut(place)) {
                let mut served = Served::by(By::Coalesced, &twin.served.model, seat.phases);
                served.saved_usd = twin.served.saved_usd + twin.served.cost_usd;
                seat.finding = Some(Finding { outcome: twin.outcome, served });
            }
        }
        Ok(brought)
    }

    /// Returns the places of the first of every group of equal observations that are open, and of every other with that of its first.
    fn distinct(&self) -> (Vec<usize>, Vec<(usize, usize)>) {
        let (mut firsts, mut twins, mut seen) = (Vec::new(), Vec::new(), HashMap::new());
        let open = self.seats.iter().enumerate().filter(|(_, seat)| seat.finding.is_none());
        for (place, key) in open.filter_map(|(place, seat)| Some((place, seat.key.as_ref()?))) {
            match seen.get(key) {
                Some(first) if self.terms.control.coalesce => twins.push((place, *first)),
                _ => {
                    seen.insert(key, place);
                    firsts.push(place);
                }
            }
        }
        (firsts, twins)
    }

    /// Asks about the observations at `places`: builtin statistics at once, a language model through calls in flight.
    async fn bring(&mut self, places: &[usize]) -> Result<Brought, Error> {
        if self.model.is_free() {
            return Ok(Brought::own(self.survey_of(places)));
        }
        let keys: Vec<Key> = places.iter().filter_map(|place| self.seats.get(*place)?.key.clone()).collect();
        if !self.terms.control.coalesce {
            return self.lead(places, keys, None).await;
        }
        let whole = format!("{}\n{}", self.inquiry.question, self.context);
        let identity = self.gateway.keys.merge(
            &self.terms.tenant,
            &self.model.name,
            &whole,
            &keys.iter().collect::<Vec<_>>(),
        );
        let waiting = Instant::now();
        match self.terms.bounded(self.gateway.merges.board(&identity)).await? {
            Seat::Landed(outcome) => Ok(Brought::joined(outcome?, waiting.elapsed())),
            // A call may have landed between the look into the cache and the turn.
            Seat::Lead(lead) => match self.landed_meanwhile(&keys) {
                Some(merged) => {
                    lead.land(merged.clone());
                    Ok(Brought::joined(merged, waiting.elapsed()))
                }
                None => self.lead(places, keys, Some(lead)).await,
            },
        }
    }

    /// Asks builtin statistics: their survey covers the whole request.
    fn survey_of(&mut self, places: &[usize]) -> Shared {
        self.calls += 1;
        let asking = self.gateway.meter.asking(&self.model.name, self.begun);
        asking.sent();
        let sent = Instant::now();
        let analyse = |seen: &Observation| Item {
            outcome: Ok(self.survey.analyse(seen)),
            usage: Usage::default(),
            cost_usd: 0.0,
            complete: true,
            merged: places.len() > 1,
        };
        let seen = places.iter().filter_map(|place| self.inquiry.observations.get(*place));
        let (items, assessment) =
            statistics_span().in_scope(|| (seen.map(analyse).collect(), self.survey.assess(&self.warnings)));
        asking.paid(0.0);
        Arc::new(Merged {
            items,
            assessment: Some(assessment),
            calls: 1,
            elapsed: sent.elapsed(),
            ..Merged::default()
        })
    }

    /// Returns what the cache holds about all that is left, if it holds all of it.
    fn landed_meanwhile(&self, keys: &[Key]) -> Option<Shared> {
        let found = keys.iter().map(|key| self.gateway.cache.analysis_again(key, self.terms.control));
        let items = found.map(|found| {
            let outcome = Ok(found?.entry.analysis.clone());
            Some(Item { outcome, usage: Usage::default(), cost_usd: 0.0, complete: true, merged: true })
        });
        let items = items.collect::<Option<Vec<Item>>>()?;
        Some(Arc::new(Merged { items, ..Merged::default() }))
    }

    async fn lead(
        &mut self,
        places: &[usize],
        keys: Vec<Key>,
        lead: Option<Lead<Shared>>,
    ) -> Result<Brought, Error> {
        let seen = places.iter().filter_map(|place| self.inquiry.observations.get(*place).cloned());
        let part = Part {
            context: self.context.clone(),
            observations: seen.collect(),
            assess: self.inquiry.observations.len() > 1,
        };
        let merged = self.gateway.share(self.terms, &self.model, &self.inquiry.question, part, keys).await?;
        self.calls += merged.calls;
        if let Some(failure) = &merged.failure {
            if let Some(lead) = lead {
                lead.fail(failure.clone());
            }
            return Err(Error::Failed(failure.clone()));
        }
        // What its own limit left unasked is no answer for the next in line, which may have another.
        if let Some(lead) = lead.filter(|_| !merged.declined) {
            lead.land(merged.clone());
        }
        Ok(Brought::own(merged))
    }

    /// Gives every observation asked about its finding.
    fn distribute(&mut self, brought: &mut Brought, places: &[usize]) {
        for (place, item) in places.iter().zip(&brought.merged.items) {
            let Some(seen) = self.inquiry.observations.get(*place) else { continue };
            let own = self.gateway.own_cost(&self.model, &self.inquiry.question, &self.context, seen);
            let Some(seat) = self.seats.get_mut(*place) else { continue };
            brought.own_usd += own;
            let mut served =
                Served::by(brought.by(item.merged), &self.model.name, brought.phases(seat.phases));
            if !brought.joined {
                served.usage = item.usage;
                served.cost_usd = item.cost_usd;
                served.upstream = brought.merged.upstream.clone();
            }
            served.saved_usd = saved(item, own, served.cost_usd);
            seat.finding = Some(Finding { outcome: item.outcome.clone(), served });
        }
    }

    fn close(self, brought: Option<Brought>) -> Report {
        let unasked = |seat: &Seated| Finding {
            outcome: Err(ItemFailure::Upstream),
            served: Served::by(By::Upstream, &self.model.name, seat.phases),
        };
        let findings: Vec<Finding> =
            self.seats.iter().map(|seat| seat.finding.clone().unwrap_or_else(|| unasked(seat))).collect();
        let served = brought.as_ref().map(|brought| self.whole(brought));
        self.gateway.account_all(&findings, served.as_ref());
        let phases = self.seats.iter().fold(Phases::default(), |sum, seat| sum + seat.phases);
        let phases = brought.as_ref().map_or(phases, |brought| brought.phases(phases));
        self.gateway.meter.phases(&phases, self.begun.elapsed());
        for (seat, finding) in self.seats.iter().zip(&findings) {
            // A template is no second opinion about itself, nor are statistics.
            if let (Ok(found), false) =
                (&finding.outcome, finding.served.by == By::Pattern || self.model.is_free())
            {
                self.gateway.patterns.compare(&self.terms.tenant, &seat.matched, found.salience);
            }
        }
        let assessment = brought.as_ref().and_then(|brought| brought.merged.assessment.clone());
        Report {
            assessment: assessment.unwrap_or_else(|| self.survey.assess(&self.warnings)),
            upstream_calls: self.calls,
            served,
            findings,
            banded: self.seats.into_iter().map(|seat| seat.banded).collect(),
            warnings: self.warnings,
        }
    }

    /// Sums up how the model call came about.
    fn whole(&self, brought: &Brought) -> Served {
        let merged = brought.merged.items.iter().any(|item| item.merged);
        let by = brought.by(merged);
        let mut whole = Served::by(by, &self.model.name, brought.phases(Phases::default()));
        if !brought.joined {
            whole.usage = brought.merged.items.iter().fold(Usage::default(), |sum, item| sum + item.usage);
            whole.cost_usd = brought.merged.items.iter().map(|item| item.cost_usd).sum();
            whole.upstream = brought.merged.upstream.clone();
            whole.attempts = brought.merged.attempts;
        }
        whole.saved_usd = (brought.own_usd - whole.cost_usd).max(0.0);
        whole
    }
}

impl Brought {
    fn own(merged: Shared) -> Self {
        Self { merged, joined: false, wait: Duration::ZERO, own_usd: 0.0 }
    }

    fn joined(merged: Shared, wait: Duration) -> Self {
        Self { merged, joined: true, wait, own_usd: 0.0 }
    }

    fn by(&self, merged: bool) -> By {
        match (self.joined, merged) {
            (true, _) => By::Coalesced,
            (false, true) => By::Merged,
            (false, false) => By::Upstream,
        }
    }

    fn phases(&self, before: Phases) -> Phases {
        if self.joined {
            Phases { coalesced_wait: Some(self.wait), ..before }
        } else {
            Phases { upstream: Some(self.merged.elapsed), ..before }
        }
    }
}

/// An observation without a call of its own saved what one would have cost; a failure saved nothing.
fn saved(item: &Item, own_usd: f64, cost_usd: f64) -> f64 {
    if item.outcome.is_ok() { (own_usd - cost_usd).max(0.0) } else { 0.0 }
}
