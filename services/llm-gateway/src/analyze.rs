//! The way of many observations: patterns, then the exact cache, then one call about all that is left.
//!
//! 1. Every observation gets exactly one finding: an analysis, or a failure by name that spares the others.
//! 2. Equal observations of a request are asked about once.
//! 3. The assessment comes with the model call where one is made, and from `builtin/statistics` at no cost, labelled so, where none
//!    is made or the model gave none.
//! 4. The call fails as a whole only where nothing at all could be answered, or its cost limit forbids the model call.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    batch,
    cache::{Key, Lead, Seat},
    conversation::Usage,
    error::Error,
    merge::{Item, Merged, Remainder, Shared, Target},
    observation::{Analysis, Assessment, ItemFailure, Observation},
    pattern,
    provider::{Kind, Model, statistics::Survey},
    route::Gateway,
    served::{By, Phases, Served, Terms},
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
}

/// One finding for every observation, in order, and an assessment of all.
#[derive(Clone, Debug)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
    /// The assessment.
    pub assessment: Assessment,
    /// Model calls made for this request, whatever came of them.
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

/// An observation that patterns and cache left open.
struct Open {
    place: usize,
    key: Key,
    phases: Phases,
    /// The templates' matches that did not answer it.
    matched: Vec<pattern::Id>,
}

/// What the model call brought, and whether it was this request's own.
struct Brought {
    merged: Shared,
    joined: bool,
    wait: Duration,
}

impl Gateway {
    /// Analyses observations with one call to a model (several where `llm_merge_max_items` splits it), and one more for what was left out.
    ///
    /// # Errors
    /// [`Error::NoUpstream`] for a model nobody serves, [`Error::OverBudget`], [`Error::DeadlineExceeded`], or
    /// [`Error::Failed`] when the model did not answer and nothing else did.
    pub async fn analyze(&self, terms: &Terms, inquiry: &Inquiry) -> Result<Report, Error> {
        let begun = Instant::now();
        let model = self.models.resolve(&inquiry.model)?;
        let survey = Survey::of(&inquiry.observations);
        let warnings = batch::warnings(&inquiry.observations);
        let context = survey.context();
        let mut findings: Vec<Option<Finding>> = vec![None; inquiry.observations.len()];
        let open = self.answer_cheaply(terms, inquiry, &model, &survey, &context, &mut findings);
        let (firsts, twins) = distinct(&open, terms.control.coalesce);
        let rest = Remainder {
            question: &inquiry.question,
            context: &context,
            observations: firsts.iter().filter_map(|first| inquiry.observations.get(first.place)).collect(),
            keys: firsts.iter().map(|first| &first.key).collect(),
            begun,
            calls: AtomicU32::new(0),
        };
        let brought = if rest.keys.is_empty() {
            None
        } else {
            match self.bring(terms, &model, &survey, &rest, &warnings).await {
                Ok(brought) => Some(brought),
                Err(Error::Failed(failure)) if findings.iter().any(Option::is_some) => {
                    tracing::info!(failure = %failure, observations = rest.keys.len(), "answering in part");
                    None
                }
                Err(error) => return Err(error),
            }
        };
        let mut served = None;
        if let Some(brought) = &brought {
            served = Some(self.distribute(brought, &model, &firsts, &rest, &mut findings));
        }
        let upstream_calls = rest.calls.load(Ordering::Relaxed);
        for open in open {
            let twin = twins.get(&open.place).and_then(|first| findings.get(*first)?.as_ref());
            let finding = twin.map_or_else(|| unasked(&model, &open), |twin| copied(twin, &open));
            if let Some(slot) = findings.get_mut(open.place) {
                let finding = slot.get_or_insert(finding);
                if let (Ok(found), false) = (&finding.outcome, model.is_free()) {
                    self.patterns.compare(&terms.tenant, &open.matched, found.salience);
                }
            }
        }
        let findings: Vec<Finding> = findings.into_iter().flatten().collect();
        self.count(&findings);
        let assessment = brought.as_ref().and_then(|brought| brought.merged.assessment.clone());
        Ok(Report {
            findings,
            assessment: assessment.unwrap_or_else(|| survey.assess(&warnings)),
            upstream_calls,
            served,
            warnings,
        })
    }

    /// Answers what patterns and the exact cache can, and returns the rest.
    fn answer_cheaply(
        &self,
        terms: &Terms,
        inquiry: &Inquiry,
        model: &Model,
        survey: &Survey<'_>,
        context: &str,
        findings: &mut [Option<Finding>],
    ) -> Vec<Open> {
        let mut open = Vec::new();
        for (place, (observation, slot)) in inquiry.observations.iter().zip(findings).enumerate() {
            let mut phases = Phases::default();
            let trying = Instant::now();
            let consulted = self.patterns.consult(&terms.tenant, observation, !inquiry.watch_only);
            phases.pattern = Some(trying.elapsed());
            if let Some(answer) = consulted.answer {
                let mut served = Served::by(By::Pattern, &Arc::from(""), phases);
                (served.pattern, served.match_id) = (answer.pattern, answer.id);
                served.saved_usd = self.own_cost(model, &inquiry.question, context, observation);
                let analysis = Analysis {
                    summary: answer.text,
                    confidence: answer.confidence,
                    salience: survey.salience(observation),
                };
                *slot = Some(Finding { outcome: Ok(analysis), served });
                continue;
            }
            let looking = Instant::now();
            let key = self.keys.observation(&terms.tenant, &model.name, &inquiry.question, observation);
            // Statistics compare within their request: stored, they would repeat another one's figures. They are free.
            let found = if model.is_free() { None } else { self.cache.analysis(&key, terms.control) };
            phases.cache = Some(looking.elapsed());
            match found {
                None => open.push(Open { place, key, phases, matched: consulted.matched }),
                Some(found) => {
                    let mut served = Served::by(By::Exact, &model.name, phases);
                    served.age = found.age;
                    served.saved_usd = found.entry.own_cost_usd;
                    *slot = Some(Finding { outcome: Ok(found.entry.analysis.clone()), served });
                }
            }
        }
        open
    }

    /// Asks about what is left: builtin statistics at once, a language model through calls in flight.
    async fn bring(
        &self,
        terms: &Terms,
        model: &Model,
        survey: &Survey<'_>,
        rest: &Remainder<'_>,
        warnings: &[String],
    ) -> Result<Brought, Error> {
        let target = match &model.kind {
            Kind::Statistics => {
                return Ok(Brought::own(self.survey(model, survey, rest, warnings).into()));
            }
            Kind::OpenAi { upstream, model: name } => Target { model, upstream, name },
        };
        if !terms.control.coalesce {
            return self.lead(terms, &target, rest, None).await;
        }
        let key = self.keys.merge(
            &terms.tenant,
            &model.name,
            &format!("{}\n{}", rest.question, rest.context),
            &rest.keys,
        );
        let waiting = Instant::now();
        match terms.bounded(self.merges.board(&key)).await? {
            Seat::Landed(outcome) => Ok(Brought { merged: outcome?, joined: true, wait: waiting.elapsed() }),
            // A call may have landed between the look into the cache and the turn.
            Seat::Lead(lead) => match self.landed_meanwhile(terms, rest) {
                Some(merged) => {
                    lead.land(merged.clone());
                    Ok(Brought { merged, joined: true, wait: waiting.elapsed() })
                }
                None => self.lead(terms, &target, rest, Some(lead)).await,
            },
        }
    }

    /// Returns what the cache holds about all that is left, if it holds all of it.
    fn landed_meanwhile(&self, terms: &Terms, rest: &Remainder<'_>) -> Option<Shared> {
        let found = rest.keys.iter().map(|key| self.cache.analysis(key, terms.control));
        let items = found.map(|found| {
            let outcome = Ok(found?.entry.analysis.clone());
            Some(Item { outcome, usage: Usage::default(), complete: true })
        });
        let items = items.collect::<Option<Vec<Item>>>()?;
        let (usage, elapsed) = (Usage::default(), Duration::ZERO);
        Some(Arc::new(Merged { items, assessment: None, usage, cost_usd: 0.0, elapsed }))
    }

    async fn lead(
        &self,
        terms: &Terms,
        target: &Target<'_>,
        rest: &Remainder<'_>,
        lead: Option<Lead<Shared>>,
    ) -> Result<Brought, Error> {
        match self.merge(terms, target, rest).await {
            Ok(merged) => {
                self.keep_items(terms, target.model, rest, &merged);
                let merged = Arc::new(merged);
                if let Some(lead) = lead {
                    lead.land(merged.clone());
                }
                Ok(Brought::own(merged))
            }
            Err(error) => {
                if let (Some(lead), Error::Failed(failure)) = (lead, &error) {
                    lead.fail(failure.clone());
                }
                Err(error)
            }
        }
    }

    /// Gives every observation asked about its finding, and returns how the call came about.
    fn distribute(
        &self,
        brought: &Brought,
        model: &Model,
        firsts: &[&Open],
        rest: &Remainder<'_>,
        findings: &mut [Option<Finding>],
    ) -> Served {
        let alone = if firsts.len() > 1 { By::Merged } else { By::Upstream };
        let by = if brought.joined { By::Coalesced } else { alone };
        let mut whole = Served::by(by, &model.name, brought.phases(Phases::default()));
        if !brought.joined {
            whole.usage = brought.merged.usage;
            whole.cost_usd = brought.merged.cost_usd;
        }
        let mut own_usd = 0.0;
        for ((first, item), observation) in firsts.iter().zip(&brought.merged.items).zip(&rest.observations) {
            let mut served = Served::by(by, &model.name, brought.phases(first.phases));
            if !brought.joined {
                served.usage = item.usage;
                served.cost_usd = if model.is_free() { 0.0 } else { self.price.cost(item.usage) };
            }
            let own = self.own_cost(model, rest.question, rest.context, observation);
            own_usd += own;
            served.saved_usd = saved(item, own, served.cost_usd);
            if let Some(slot) = findings.get_mut(first.place) {
                *slot = Some(Finding { outcome: item.outcome.clone(), served });
            }
        }
        whole.saved_usd = (own_usd - whole.cost_usd).max(0.0);
        whole
    }

    fn count(&self, findings: &[Finding]) {
        for by in [By::Pattern, By::Exact, By::Semantic, By::Coalesced, By::Merged, By::Upstream] {
            let answered =
                findings.iter().filter(|finding| finding.served.by == by && finding.outcome.is_ok());
            let (count, saved) = answered
                .fold((0, 0.0), |(count, saved), finding| (count + 1, saved + finding.served.saved_usd));
            self.meter.items(by, count, saved);
        }
    }
}

impl Brought {
    fn own(merged: Shared) -> Self {
        Self { merged, joined: false, wait: Duration::ZERO }
    }

    fn phases(&self, before: Phases) -> Phases {
        if self.joined {
            Phases { coalesced_wait: Some(self.wait), ..before }
        } else {
            Phases { upstream: Some(self.merged.elapsed), ..before }
        }
    }
}

/// Returns the first of every group of equal observations, and for each other one where its first stands.
fn distinct(open: &[Open], coalesce: bool) -> (Vec<&Open>, HashMap<usize, usize>) {
    let (mut firsts, mut twins, mut seen) = (Vec::new(), HashMap::new(), HashMap::new());
    for one in open {
        match seen.get(&one.key) {
            Some(first) if coalesce => {
                twins.insert(one.place, *first);
            }
            _ => {
                seen.insert(&one.key, one.place);
                firsts.push(one);
            }
        }
    }
    (firsts, twins)
}

/// An observation without a call of its own saved what one would have cost; a failure saved nothing.
fn saved(item: &Item, own_usd: f64, cost_usd: f64) -> f64 {
    if item.outcome.is_ok() { (own_usd - cost_usd).max(0.0) } else { 0.0 }
}

fn copied(twin: &Finding, open: &Open) -> Finding {
    let mut served = Served::by(By::Coalesced, &twin.served.model, open.phases);
    served.saved_usd = twin.served.saved_usd + twin.served.cost_usd;
    Finding { outcome: twin.outcome.clone(), served }
}

fn unasked(model: &Model, open: &Open) -> Finding {
    Finding {
        outcome: Err(ItemFailure::Upstream),
        served: Served::by(By::Upstream, &model.name, open.phases),
    }
}
