//! One model call about many observations, and one more about those it left out.
//!
//! More than `llm_merge_max_items` observations are split over calls that go out side by side: one long answer would outlast the timeout.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;

use crate::{
    batch::{self, Prompt},
    cache::{Key, StoredAnalysis},
    conversation::{Answer, Usage},
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

    /// Asks a language model about all, and once more about what was missing or invalid.
    pub(crate) async fn merge(
        &self,
        terms: &Terms,
        target: &Target<'_>,
        rest: &Remainder<'_>,
    ) -> Result<Merged, Error> {
        let begun = Instant::now();
        let all: Vec<(usize, &Observation)> = rest.observations.iter().copied().enumerate().collect();
        let mut merged = Merged::unasked(all.len());
        let prompts = self.prompts(rest, &all, true);
        self.afford(terms, &merged, &prompts)?;
        let asking = self.meter.asking(&target.model.name, rest.begun);
        self.put_all(&prompts, target, terms, rest, &asking, &mut merged).await?;

        let spoiled = |item: &Item| matches!(item.outcome, Err(ItemFailure::Missing | ItemFailure::Invalid));
        let left: Vec<(usize, &Observation)> = {
            let bad = all.iter().zip(&merged.items).filter(|(_, item)| spoiled(item));
            bad.map(|(asked, _)| *asked).collect()
        };
        let again = self.prompts(rest, &left, merged.assessment.is_none());
        if !left.is_empty() && self.afford(terms, &merged, &again).is_ok() {
            tracing::debug!(observations = left.len(), "asking again about what was missing or invalid");
            // What is known stays known; if this fails the rest keeps the reason of the first answer.
            let _ = self.put_all(&again, target, terms, rest, &asking, &mut merged).await;
        }
        merged.elapsed = begun.elapsed();
        Ok(merged)
    }

    /// Splits what is to be asked about into calls; the first is asked for the assessment, if one is wanted.
    fn prompts<'a>(
        &self,
        rest: &Remainder<'a>,
        items: &'a [(usize, &'a Observation)],
        assess: bool,
    ) -> Vec<Prompt<'a>> {
        let parts = items.chunks(self.merge_max_items).enumerate();
        let prompt = |(place, items)| Prompt {
            question: rest.question,
            context: rest.context,
            items,
            assess: assess && place == 0,
        };
        parts.map(prompt).collect()
    }

    fn afford(&self, terms: &Terms, merged: &Merged, prompts: &[Prompt<'_>]) -> Result<(), Error> {
        let estimates = prompts.iter().map(|prompt| self.price.cost(prompt.estimate()));
        terms.afford(merged.cost_usd + estimates.sum::<f64>())
    }

    /// Puts all prompts side by side and takes over what they bring.
    ///
    /// # Errors
    /// [`Error::Failed`] with the first failure if none was answered.
    async fn put_all(
        &self,
        prompts: &[Prompt<'_>],
        target: &Target<'_>,
        terms: &Terms,
        rest: &Remainder<'_>,
        asking: &Asking<'_>,
        merged: &mut Merged,
    ) -> Result<(), Error> {
        let put = |prompt| {
            rest.send(asking);
            target.put(prompt, terms.deadline)
        };
        let answers = join_all(prompts.iter().map(put)).await;
        let (mut answered, mut first) = (false, None);
        for (prompt, answer) in prompts.iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    merged.amend(&answer, prompt.items);
                    merged.settle(&self.price, asking, &answer);
                    answered = true;
                }
                Err(failure) => {
                    let error = self.failed(target.model, failure);
                    first.get_or_insert(error);
                }
            }
        }
        first.filter(|_| !answered).map_or(Ok(()), Err)
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
    fn unasked(count: usize) -> Self {
        let item = Item { outcome: Err(ItemFailure::Upstream), usage: Usage::default(), complete: false };
        Self {
            items: vec![item; count],
            assessment: None,
            usage: Usage::default(),
            cost_usd: 0.0,
            elapsed: Duration::ZERO,
        }
    }

    /// Takes over what an answer says about those it was asked about.
    fn amend(&mut self, answer: &Answer, asked: &[(usize, &Observation)]) {
        let places: Vec<usize> = asked.iter().map(|(place, _)| *place).collect();
        let split = batch::split(&answer.text, &places);
        self.assessment = self.assessment.take().or(split.assessment);
        for (turn, (place, outcome)) in places.iter().zip(split.items).enumerate() {
            if let Some(item) = self.items.get_mut(*place) {
                item.usage = item.usage + share(answer.usage, places.len(), turn);
                item.outcome = outcome;
                item.complete = answer.finish.is_complete();
            }
        }
    }

    fn settle(&mut self, price: &Price, asking: &Asking<'_>, answer: &Answer) {
        let cost_usd = price.cost(answer.usage);
        asking.paid(cost_usd);
        self.usage = self.usage + answer.usage;
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
        self.upstream.complete(self.name, &prompt.conversation(), deadline).await
    }
}

/// What those who wait for a merged call get.
pub(crate) type Shared = Arc<Merged>;

/// Returns the share of one of `count` in a call's tokens; the shares add up to the whole.
fn share(usage: Usage, count: usize, place: usize) -> Usage {
    let (count, place) = (count.max(1) as u64, place as u64);
    let part = |whole: u64| whole / count + u64::from(place < whole % count);
    Usage {
        input: part(usage.input),
        cached_input: part(usage.cached_input),
        output: part(usage.output),
        estimated: usage.estimated,
    }
}

#[cfg(test)]
mod tests {
    use super::{Merged, share};
    use crate::{
        conversation::{Answer, Finish, Usage},
        observation::{ItemFailure, Observation},
    };

    fn answer(items: &serde_json::Value, finish: Finish) -> Answer {
        let text = serde_json::json!({"items": items}).to_string();
        Answer { finish, ..Answer::text(text, Usage { input: 10, output: 5, ..Usage::default() }) }
    }

    fn item(tag: &str) -> serde_json::Value {
        serde_json::json!({"tag": tag, "summary": tag, "confidence": 1, "salience": 0})
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let usage = Usage { input: 11, output: 2, ..Usage::default() };
        let shares: Vec<_> = (0..4).map(|place| share(usage, 4, place)).collect();
        assert_eq!(shares.iter().map(|share| share.input).sum::<u64>(), 11);
        assert_eq!(shares.iter().map(|share| share.output).sum::<u64>(), 2);
    }

    #[test]
    fn a_second_answer_amends_only_what_was_left() {
        let seen = Observation::default();
        let mut merged = Merged::unasked(4);
        let first = answer(&serde_json::json!([item("o1")]), Finish::Stop);
        merged.amend(&first, &[(0, &seen), (1, &seen), (2, &seen)]);
        assert_eq!(merged.items[1].outcome, Err(ItemFailure::Missing));
        assert_eq!(merged.items[3].outcome, Err(ItemFailure::Upstream), "nobody was asked about it");
        let second = answer(&serde_json::json!([item("o3"), {"tag": "o2"}]), Finish::Length);
        merged.amend(&second, &[(1, &seen), (2, &seen)]);
        assert_eq!(merged.items[0].outcome.as_ref().unwrap().summary, "o1");
        assert_eq!(merged.items[1].outcome, Err(ItemFailure::Invalid));
        assert_eq!(merged.items[2].outcome.as_ref().unwrap().summary, "o3");
        assert!(merged.items[0].complete && !merged.items[2].complete, "a cut answer is not stored");
    }
}
