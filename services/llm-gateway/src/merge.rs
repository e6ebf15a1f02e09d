//! One model call about many observations, and one more about those it left out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    batch::{self, Prompt},
    cache::{Key, StoredAnalysis},
    conversation::{Answer, Finish, Usage},
    error::Error,
    meter::Asking,
    observation::{Analysis, Assessment, ItemFailure, Observation},
    price::Price,
    provider::{Failure, Model, openai::Upstream, statistics::Survey},
    route::{Gateway, statistics_span},
    served::Terms,
};

/// What came of asking about observations together.
#[derive(Debug)]
pub struct Merged {
    /// One for each observation asked about, in order.
    pub items: Vec<Item>,
    /// The model's assessment, if it gave one.
    pub assessment: Option<Assessment>,
    /// Tokens used by all of them.
    pub usage: Usage,
    /// What they cost, in USD.
    pub cost_usd: f64,
    /// Wall time they took.
    pub elapsed: Duration,
}

/// What came of asking about one observation.
#[derive(Clone, Debug)]
pub struct Item {
    /// What was found, or why not.
    pub outcome: Result<Analysis, ItemFailure>,
    /// Its share of the tokens.
    pub usage: Usage,
    /// Whether it comes from a complete answer.
    pub complete: bool,
}

/// What is to be asked about.
#[derive(Debug)]
pub(crate) struct Remainder<'a> {
    pub(crate) question: &'a str,
    pub(crate) context: &'a str,
    pub(crate) observations: Vec<&'a Observation>,
    pub(crate) keys: Vec<&'a Key>,
    /// When the request began.
    pub(crate) begun: Instant,
    /// Model calls made for it so far, whatever came of them.
    pub(crate) calls: AtomicU32,
}

/// The language model that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) model: &'a Model,
    pub(crate) upstream: &'a Upstream,
    pub(crate) name: &'a str,
}

impl Gateway {
    /// Asks builtin statistics: their survey covers the whole request.
    pub(crate) fn survey(
        &self,
        model: &Model,
        survey: &Survey<'_>,
        rest: &Remainder<'_>,
        warnings: &[String],
    ) -> Merged {
        let asking = self.meter.asking(&model.name, rest.begun);
        rest.send(&asking);
        let sent = Instant::now();
        let analyse = |seen: &&Observation| Item {
            outcome: Ok(survey.analyse(seen)),
            usage: Usage::default(),
            complete: true,
        };
        let (items, assessment) = statistics_span()
            .in_scope(|| (rest.observations.iter().map(analyse).collect(), survey.assess(warnings)));
        asking.paid(0.0);
        Merged {
            items,
            assessment: Some(assessment),
            usage: Usage::default(),
            cost_usd: 0.0,
            elapsed: sent.elapsed(),
        }
    }

    /// Asks a language model about all at once, and once more about what was missing or invalid.
    pub(crate) async fn merge(
        &self,
        terms: &Terms,
        target: &Target<'_>,
        rest: &Remainder<'_>,
    ) -> Result<Merged, Error> {
        let model = target.model;
        let all: Vec<(usize, &Observation)> = rest.observations.iter().copied().enumerate().collect();
        let prompt = Prompt { question: rest.question, context: rest.context, items: &all, assess: true };
        terms.afford(self.price.cost(prompt.estimate()))?;
        let asking = self.meter.asking(&model.name, rest.begun);
        let sent = Instant::now();
        rest.send(&asking);
        let answer = target.put(&prompt, terms.deadline).await;
        let answer = answer.map_err(|failure| self.failed(model, failure))?;
        let mut merged = Merged::from_answer(&answer, all.len());
        merged.settle(&self.price, &asking, &answer);

        let left: Vec<(usize, &Observation)> = {
            let bad = all.iter().zip(&merged.items).filter(|(_, item)| item.outcome.is_err());
            bad.map(|(asked, _)| *asked).collect()
        };
        let again = Prompt { items: &left, assess: merged.assessment.is_none(), ..prompt };
        let affordable = terms.afford(merged.cost_usd + self.price.cost(again.estimate())).is_ok();
        if !left.is_empty() && affordable {
            tracing::debug!(observations = left.len(), "asking again about what was missing or invalid");
            rest.send(&asking);
            match target.put(&again, terms.deadline).await {
                Ok(answer) => {
                    merged.amend(&answer, &left);
                    merged.settle(&self.price, &asking, &answer);
                }
                // What is known stays known; the rest keeps the reason of the first answer.
                Err(failure) => {
                    self.failed(model, failure);
                }
            }
        }
        merged.elapsed = sent.elapsed();
        Ok(merged)
    }

    /// Stores what was found in complete answers.
    pub(crate) fn keep_items(&self, terms: &Terms, model: &Model, rest: &Remainder<'_>, merged: &Merged) {
        for ((item, key), observation) in merged.items.iter().zip(&rest.keys).zip(&rest.observations) {
            match &item.outcome {
                Ok(analysis) if item.complete => {
                    let own_cost_usd = self.own_cost(model, rest.question, rest.context, observation);
                    let stored = StoredAnalysis { analysis: analysis.clone(), own_cost_usd };
                    self.cache.store_analysis(key, stored, terms.control);
                }
                _ => self.cache.refuse(),
            }
        }
    }

    /// Estimates what a call about `observation` alone would cost, in USD.
    pub(crate) fn own_cost(
        &self,
        model: &Model,
        question: &str,
        context: &str,
        observation: &Observation,
    ) -> f64 {
        if model.is_free() || self.price == Price::default() {
            return 0.0;
        }
        self.price.cost(Prompt { question, context, items: &[(0, observation)], assess: false }.estimate())
    }
}

impl Merged {
    fn from_answer(answer: &Answer, count: usize) -> Self {
        let places: Vec<usize> = (0..count).collect();
        let split = batch::split(&answer.text, &places);
        let complete = answer.finish == Finish::Stop;
        let items = split.items.into_iter().enumerate().map(|(place, outcome)| Item {
            outcome,
            usage: share(answer.usage, count, place),
            complete,
        });
        Self {
            items: items.collect(),
            assessment: split.assessment,
            usage: Usage::default(),
            cost_usd: 0.0,
            elapsed: Duration::ZERO,
        }
    }

    /// Takes over what a second answer says about those that were left.
    fn amend(&mut self, answer: &Answer, left: &[(usize, &Observation)]) {
        let places: Vec<usize> = left.iter().map(|(place, _)| *place).collect();
        let split = batch::split(&answer.text, &places);
        self.assessment = self.assessment.take().or(split.assessment);
        for (turn, (place, outcome)) in places.iter().zip(split.items).enumerate() {
            if let Some(item) = self.items.get_mut(*place) {
                item.usage = sum(item.usage, share(answer.usage, places.len(), turn));
                item.outcome = outcome;
                item.complete = answer.finish == Finish::Stop;
            }
        }
    }

    fn settle(&mut self, price: &Price, asking: &Asking<'_>, answer: &Answer) {
        let cost_usd = price.cost(answer.usage);
        asking.paid(cost_usd);
        self.usage = sum(self.usage, answer.usage);
        self.cost_usd += cost_usd;
    }
}

impl Remainder<'_> {
    /// Counts a call as it is sent.
    fn send(&self, asking: &Asking<'_>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        asking.sent();
    }
}

impl Target<'_> {
    async fn put(&self, prompt: &Prompt<'_>, deadline: Option<Instant>) -> Result<Answer, Failure> {
        self.upstream.complete(self.name, &prompt.conversation(), Some(&prompt.schema()), deadline).await
    }
}

/// Returns the share of one of `count` in a call's tokens; the shares add up to the whole.
fn share(usage: Usage, count: usize, place: usize) -> Usage {
    let (count, place) = (count.max(1) as u64, place as u64);
    let part = |whole: u64| whole / count + u64::from(place < whole % count);
    Usage { input: part(usage.input), output: part(usage.output), estimated: usage.estimated }
}

fn sum(one: Usage, two: Usage) -> Usage {
    Usage {
        input: one.input + two.input,
        output: one.output + two.output,
        estimated: one.estimated || two.estimated,
    }
}

/// What those who wait for a merged call get.
pub(crate) type Shared = Arc<Merged>;

#[cfg(test)]
mod tests {
    use super::{Merged, share};
    use crate::{
        conversation::{Answer, Finish, Usage},
        observation::{ItemFailure, Observation},
    };

    fn answer(items: &serde_json::Value, finish: Finish) -> Answer {
        let text = serde_json::json!({"items": items}).to_string();
        Answer { text: text.into(), finish, usage: Usage { input: 10, output: 5, estimated: false } }
    }

    fn item(tag: &str) -> serde_json::Value {
        serde_json::json!({"tag": tag, "summary": tag, "confidence": 1, "salience": 0})
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let usage = Usage { input: 11, output: 2, estimated: false };
        let shares: Vec<_> = (0..4).map(|place| share(usage, 4, place)).collect();
        assert_eq!(shares.iter().map(|share| share.input).sum::<u64>(), 11);
        assert_eq!(shares.iter().map(|share| share.output).sum::<u64>(), 2);
    }

    #[test]
    fn a_second_answer_amends_only_what_was_left() {
        let mut merged = Merged::from_answer(&answer(&serde_json::json!([item("o1")]), Finish::Stop), 3);
        assert_eq!(merged.items[1].outcome, Err(ItemFailure::Missing));
        let seen = Observation::default();
        let second = answer(&serde_json::json!([item("o3"), {"tag": "o2"}]), Finish::Length);
        merged.amend(&second, &[(1, &seen), (2, &seen)]);
        assert_eq!(merged.items[0].outcome.as_ref().unwrap().summary, "o1");
        assert_eq!(merged.items[1].outcome, Err(ItemFailure::Invalid));
        assert_eq!(merged.items[2].outcome.as_ref().unwrap().summary, "o3");
        assert!(merged.items[0].complete && !merged.items[2].complete, "a cut answer is not stored");
    }
}
