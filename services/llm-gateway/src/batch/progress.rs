//! How far the analysis of parts that share calls has come.
//!
//! ```text
//! Together: all ─▶ Again: missing and invalid ones, merged ─▶ Singly: what is left, each in a call of its own ─▶ Over
//! ```
//!
//! 1. Every observation ends with one analysis, or a failure by name: `missing`, `invalid`, or `upstream` where its calls failed.
//! 2. A later answer changes only what it was asked about, and only what was not answered.
//! 3. What a call took is shared out over what it asked about, to the last token.

use std::sync::Arc;

use super::{
    merger::Limits,
    prompt::{Call, Line, Part, Prompt},
    split, weight,
};
use crate::{
    conversation::{Answer, Usage},
    observation::{Analysis, Assessment, ItemFailure},
    provider::Failure,
    route::Asked,
};

/// What came of one observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What was found, or why not.
    pub outcome: Result<Analysis, ItemFailure>,
    /// Its share of the tokens.
    pub usage: Usage,
    /// Its share of what they cost, in USD.
    pub cost_usd: f64,
    /// Whether it comes from a complete answer.
    pub complete: bool,
    /// Whether the call that said so asked about others too.
    pub merged: bool,
}

/// What came of one part so far.
#[derive(Clone, Debug)]
pub struct Course {
    /// One for each of its observations, in order.
    pub items: Vec<Item>,
    /// The model's assessment, if it gave one.
    pub assessment: Option<Assessment>,
    /// Calls that asked about it, whatever came of them.
    pub calls: u32,
    /// Why its first call to fail did.
    pub failure: Option<Failure>,
    /// Whether any of its calls was answered.
    pub answered: bool,
    /// The upstream that answered last; empty if none did.
    pub upstream: Arc<str>,
    /// Requests sent to upstreams until they answered.
    pub attempts: u32,
    /// Whether something was left that its caller would not have asked about.
    pub declined: bool,
    /// Whether it takes no further part.
    done: bool,
}

/// Where all parts together are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Together,
    Again,
    Singly,
    Over,
}

/// Parts that share calls, and what came of them.
#[derive(Debug)]
pub struct Progress {
    question: String,
    parts: Vec<Part>,
    courses: Vec<Course>,
    limits: Limits,
    next: Round,
}

impl Progress {
    /// Begins with nothing asked.
    #[must_use]
    pub fn new(question: String, parts: Vec<Part>, limits: Limits) -> Self {
        let courses = parts.iter().map(|part| Course::unasked(part.observations.len())).collect();
        Self { question, parts, courses, limits, next: Round::Together }
    }

    /// Plans the calls of the next round; none when all is over. `stays` says of a part, and the estimate of asking about what it lacks,
    /// whether it takes part: who does not is done.
    pub fn plan(&mut self, stays: impl Fn(usize, &Course, Usage) -> bool) -> Vec<Call> {
        while self.next != Round::Over {
            let round = self.next;
            self.next = round.following();
            let mut lines = Vec::new();
            for (place, (part, course)) in self.parts.iter().zip(&mut self.courses).enumerate() {
                let open = if course.done { Vec::new() } else { course.open(place, round) };
                let estimate = estimate(&self.question, part, &open, round, self.limits);
                course.declined |= !open.is_empty() && !stays(place, course, estimate);
                course.done = open.is_empty() || course.declined;
                if !course.done {
                    lines.extend(open);
                }
            }
            if round == Round::Singly {
                lines.truncate(self.limits.max_singles);
            }
            if !lines.is_empty() {
                return self.pack(&lines, round);
            }
        }
        Vec::new()
    }

    /// Puts a call into words.
    #[must_use]
    pub fn prompt(&self, call: &Call, seed: u64) -> Prompt {
        call.prompt(&self.question, &self.parts, seed)
    }

    /// Notes that a call is sent.
    pub fn sent(&mut self, call: &Call) {
        for part in call.parts() {
            if let Some(course) = self.courses.get_mut(part) {
                course.calls += 1;
            }
        }
    }

    /// Takes over what an answer to `call`, put into the words of `prompt`, says.
    pub fn take(&mut self, call: &Call, prompt: &Prompt, answer: &Answer) {
        let split = split(&answer.text, &prompt.marks, &prompt.assess);
        let shares = self.shares(call, answer.usage);
        for ((line, outcome), share) in call.lines.iter().zip(split.items).zip(shares) {
            let Some(course) = self.courses.get_mut(line.part) else { continue };
            course.answered = true;
            let Some(item) = course.items.get_mut(line.place) else { continue };
            item.usage = item.usage + share;
            item.outcome = outcome;
            item.complete = answer.finish.is_complete();
            item.merged = call.lines.len() > 1;
        }
        for (part, assessment) in call.assess.iter().zip(split.assessments) {
            if let Some(course) = self.courses.get_mut(*part) {
                course.assessment = course.assessment.take().or(assessment);
            }
        }
    }

    /// Shares out what a call cost that used so many tokens, and notes who answered.
    pub fn charge(&mut self, call: &Call, usage: Usage, asked: &Asked) {
        for (line, share) in call.lines.iter().zip(self.shares(call, usage)) {
            let course = self.courses.get_mut(line.part);
            if let Some(item) = course.and_then(|course| course.items.get_mut(line.place)) {
                item.cost_usd += asked.price.cost(share);
            }
        }
        for part in call.parts() {
            if let Some(course) = self.courses.get_mut(part) {
                course.upstream = asked.by.clone();
                course.attempts += asked.attempts;
            }
        }
    }

    /// Estimates what a call takes.
    #[must_use]
    pub fn likely(&self, call: &Call) -> Usage {
        let of_part = |place: usize| {
            let part = self.parts.get(place)?;
            Some(weight::part(part, call.assess.contains(&place)))
        };
        let parts = call.parts().into_iter().filter_map(of_part);
        let items = call.lines.iter().filter_map(|line| line.seen(&self.parts)).map(weight::item);
        let fixed = weight::overhead(&self.question, !call.assess.is_empty());
        parts.chain(items).fold(fixed, |sum, one| sum + one)
    }

    /// Notes that a call failed: what it asked about keeps what is known.
    pub fn fail(&mut self, call: &Call, failure: &Failure) {
        for part in call.parts() {
            if let Some(course) = self.courses.get_mut(part) {
                course.failure.get_or_insert_with(|| failure.clone());
            }
        }
    }

    /// Returns what came of each part.
    #[must_use]
    pub fn courses(&self) -> &[Course] {
        &self.courses
    }

    /// Returns what all want to know.
    #[must_use]
    pub fn question(&self) -> &str {
        &self.question
    }

    /// Returns the part at `place`.
    #[must_use]
    pub fn part(&self, place: usize) -> Option<&Part> {
        self.parts.get(place)
    }

    /// Splits lines over calls of about the same size, within the limits; a line too large for any has a call of its own.
    fn pack(&self, lines: &[Line], round: Round) -> Vec<Call> {
        let most = if round == Round::Singly { 1 } else { self.limits.max_items.max(1) };
        let most = lines.len().div_ceil(lines.len().div_ceil(most));
        let mut assessed = Vec::new();
        let (mut calls, mut tokens): (Vec<Call>, u64) = (Vec::new(), 0);
        for line in lines {
            let Some((part, seen)) = self.parts.get(line.part).zip(line.seen(&self.parts)) else { continue };
            let course = self.courses.get(line.part);
            let lacking = course.is_none_or(|course| course.assessment.is_none());
            let assess = part.assess && lacking && round != Round::Singly && !assessed.contains(&line.part);
            let own = total(weight::item(seen));
            let joins = calls.last().is_some_and(|call| {
                let added = if call.asks(line.part) { 0 } else { total(weight::part(part, assess)) };
                call.lines.len() < most && tokens + own + added <= self.limits.max_tokens
            });
            if !joins {
                calls.push(Call::default());
                tokens = total(weight::overhead(&self.question, part.assess));
            }
            if let Some(call) = calls.last_mut() {
                if !call.asks(line.part) {
                    tokens += total(weight::part(part, assess));
                }
                if assess {
                    call.assess.push(line.part);
                    assessed.push(line.part);
                }
                call.lines.push(*line);
                tokens += own;
            }
        }
        calls
    }

    /// Shares out what a call took: by the size of each observation, and of what its part adds.
    fn shares(&self, call: &Call, usage: Usage) -> Vec<Usage> {
        let weigh = |line: &Line| {
            let (Some(part), Some(seen)) = (self.parts.get(line.part), line.seen(&self.parts)) else {
                return Usage::default();
            };
            let company = call.lines.iter().filter(|other| other.part == line.part).count().max(1) as u64;
            let (own, added) = (weight::item(seen), weight::part(part, call.assess.contains(&line.part)));
            let (input, output) = (own.input + added.input / company, own.output + added.output / company);
            Usage { input, output, ..own }
        };
        let weights: Vec<Usage> = call.lines.iter().map(weigh).collect();
        let split = |whole, of: fn(&Usage) -> u64| {
            weight::apportion(whole, &weights.iter().map(of).collect::<Vec<u64>>())
        };
        let cached_input = usage.cached_input.min(usage.input);
        let fresh = split(usage.input - cached_input, |weight| weight.input).into_iter();
        let cached = split(cached_input, |weight| weight.input).into_iter();
        let written = split(usage.output, |weight| weight.output).into_iter();
        let share = |((fresh, cached_input), output)| Usage {
            input: fresh + cached_input,
            cached_input,
            output,
            estimated: usage.estimated,
        };
        fresh.zip(cached).zip(written).map(share).collect()
    }
}

impl Course {
    fn unasked(count: usize) -> Self {
        let outcome = Err(ItemFailure::Upstream);
        let item = Item { outcome, usage: Usage::default(), cost_usd: 0.0, complete: false, merged: false };
        Self {
            items: vec![item; count],
            assessment: None,
            calls: 0,
            failure: None,
            answered: false,
            upstream: Arc::from(""),
            attempts: 0,
            declined: false,
            done: false,
        }
    }

    /// Returns whether it takes no further part.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Returns whether every observation is answered.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.items.iter().all(|item| item.outcome.is_ok())
    }

    /// Returns what all its observations cost, in USD.
    #[must_use]
    pub fn cost_usd(&self) -> f64 {
        self.items.iter().map(|item| item.cost_usd).sum()
    }

    /// Returns the lines that `round` is for: all at first, then those whose answer was missing or invalid.
    fn open(&self, part: usize, round: Round) -> Vec<Line> {
        let wanted = |item: &Item| match item.outcome {
            Ok(_) => false,
            Err(ItemFailure::Upstream) => round == Round::Together,
            Err(ItemFailure::Missing | ItemFailure::Invalid) => round != Round::Together,
        };
        let open = self.items.iter().enumerate().filter(|(_, item)| wanted(item));
        open.map(|(place, _)| Line { part, place }).collect()
    }
}

impl Call {
    fn asks(&self, part: usize) -> bool {
        self.lines.last().is_some_and(|line| line.part == part)
    }
}

impl Round {
    fn following(self) -> Self {
        match self {
            Self::Together => Self::Again,
            Self::Again => Self::Singly,
            Self::Singly | Self::Over => Self::Over,
        }
    }
}

/// Estimates what a part takes on its own, if all of it is asked about: no company makes that dearer.
#[must_use]
pub fn alone(question: &str, part: &Part, limits: Limits) -> Usage {
    let all: Vec<Line> = (0..part.observations.len()).map(|place| Line { part: 0, place }).collect();
    estimate(question, part, &all, Round::Together, limits)
}

fn estimate(question: &str, part: &Part, lines: &[Line], round: Round, limits: Limits) -> Usage {
    let assess = part.assess && round != Round::Singly;
    let seen = lines.iter().filter_map(|line| part.observations.get(line.place));
    let items = seen.fold(Usage::default(), |sum, seen| sum + weight::item(seen));
    let most = if round == Round::Singly { 1 } else { limits.max_items.max(1) };
    let fixed = weight::overhead(question, assess) + weight::part(part, false);
    let by_tokens = total(items).div_ceil(limits.max_tokens.saturating_sub(total(fixed)).max(1));
    let calls = u64::try_from(lines.len().div_ceil(most)).unwrap_or(u64::MAX).max(by_tokens);
    let assessment = Usage { input: 0, ..weight::part(part, assess) };
    let fixed = Usage { input: fixed.input.saturating_mul(calls), ..fixed };
    items + assessment + fixed
}

fn total(usage: Usage) -> u64 {
    usage.input + usage.output
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Call, Course, Limits, Part, Progress, Prompt, alone, total};
    use crate::{
        conversation::{Answer, Finish, Usage},
        observation::{ItemFailure, Observation},
        provider::Failure,
    };

    const LIMITS: Limits =
        Limits { max_items: 10, max_tokens: 16_000, linger: Duration::ZERO, max_singles: 3 };

    fn part(name: &str, count: usize, assess: bool) -> Part {
        let seen = |place| Observation {
            kind: "pool".into(),
            subject: format!("{name}{place:03}"),
            values: [("apr".to_owned(), 1.5)].into(),
            ..Observation::default()
        };
        Part { context: "statistics".into(), observations: (0..count).map(seen).collect(), assess }
    }

    fn all(_: usize, _: &Course, _: Usage) -> bool {
        true
    }

    fn usage(course: &Course) -> Usage {
        course.items.iter().fold(Usage::default(), |sum, item| sum + item.usage)
    }

    fn entry(prompt: &Prompt, place: usize) -> Value {
        let mark = &prompt.marks[place];
        json!({"tag": mark.tag, "check": mark.check, "summary": mark.subject, "confidence": 0.5, "salience": 0.5})
    }

    fn answer(entries: &[Value], usage: Usage) -> Answer {
        Answer::text(json!({"items": entries}).to_string(), usage)
    }

    /// Answers `call` about all but the places in `but`.
    fn reply(progress: &mut Progress, call: &Call, but: &[usize]) {
        let prompt = progress.prompt(call, 1);
        let told = (0..call.lines.len()).filter(|place| !but.contains(place));
        let entries: Vec<Value> = told.map(|place| entry(&prompt, place)).collect();
        progress.sent(call);
        progress.take(
            call,
            &prompt,
            &answer(&entries, Usage { input: 1_000, output: 101, ..Usage::default() }),
        );
    }

    fn outcomes(progress: &Progress, part: usize) -> Vec<Result<&str, ItemFailure>> {
        let items = progress.courses()[part].items.iter();
        items
            .map(|item| item.outcome.as_ref().map(|found| found.summary.as_str()).map_err(|why| *why))
            .collect()
    }

    #[test]
    fn calls_are_of_about_the_same_size_and_one_assesses_each_part() {
        let parts = vec![part("A", 12, true), part("B", 1, false), part("C", 8, true)];
        let mut progress = Progress::new(String::new(), parts, LIMITS);
        let calls = progress.plan(all);
        assert_eq!(calls.iter().map(|call| call.lines.len()).collect::<Vec<_>>(), [7, 7, 7]);
        let assessed: Vec<&[usize]> = calls.iter().map(|call| call.assess.as_slice()).collect();
        assert_eq!(assessed, [&[0][..], &[2], &[]]);
    }

    #[test]
    fn the_token_budget_splits_as_well() {
        let limits = Limits { max_tokens: 1_000, ..LIMITS };
        let parts = vec![part("A", 10, false)];
        let estimate = alone("", &parts[0], limits);
        let mut progress = Progress::new(String::new(), parts, limits);
        let calls = progress.plan(all);
        assert!(calls.len() > 1 && calls.iter().all(|call| !call.lines.is_empty()), "{calls:?}");
        assert_eq!(calls.iter().map(|call| call.lines.len()).sum::<usize>(), 10);
        let once = alone("", &part("A", 10, false), LIMITS);
        assert!(total(estimate) > total(once), "each further call repeats what all share");
    }

    #[test]
    fn what_was_left_out_is_asked_again_together_then_singly_then_failed_by_name() {
        let mut progress = Progress::new(String::new(), vec![part("A", 10, false)], LIMITS);
        let first = progress.plan(all);
        reply(&mut progress, &first[0], &[1, 3, 5, 7, 9]);
        let again = progress.plan(all);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].lines.iter().map(|line| line.place).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        reply(&mut progress, &again[0], &[0, 1, 2, 3]);
        let singly = progress.plan(all);
        assert_eq!(
            singly.iter().map(|call| call.lines.len()).collect::<Vec<_>>(),
            [1, 1, 1],
            "at most 3 singly"
        );
        reply(&mut progress, &singly[0], &[]);
        reply(&mut progress, &singly[1], &[0]);
        progress.sent(&singly[2]);
        progress.fail(&singly[2], &Failure::Unreachable);
        assert!(progress.plan(all).is_empty());
        let found = outcomes(&progress, 0);
        assert_eq!(found[1], Ok("A001"));
        assert_eq!(found[9], Ok("A009"));
        for failed in [3, 5, 7] {
            assert_eq!(found[failed], Err(ItemFailure::Missing), "the reason is that of the last answer");
        }
        let course = &progress.courses()[0];
        assert_eq!((course.calls, course.answered), (5, true));
        assert!(course.items[9].merged && !course.items[1].merged);
        assert_eq!(usage(course), Usage { input: 4_000, output: 404, ..Usage::default() });
    }

    #[test]
    fn a_part_that_left_or_cannot_pay_is_not_asked_about_again_and_spares_the_others() {
        let parts = vec![part("A", 3, false), part("B", 3, false)];
        let mut progress = Progress::new(String::new(), parts, LIMITS);
        let first = progress.plan(all);
        reply(&mut progress, &first[0], &[0, 1, 2, 3, 4, 5]);
        let again = progress.plan(|place, _, _| place == 1);
        assert!(again[0].lines.iter().all(|line| line.part == 1), "{again:?}");
        assert!(progress.courses()[0].is_done() && !progress.courses()[1].is_done());
        reply(&mut progress, &again[0], &[]);
        assert!(progress.plan(all).is_empty());
        assert_eq!(outcomes(&progress, 0), [Err(ItemFailure::Missing); 3]);
        assert!(progress.courses()[1].is_whole());
    }

    #[test]
    fn a_failed_call_fails_what_it_asked_about_and_a_cut_answer_is_not_complete() {
        let mut progress = Progress::new(String::new(), vec![part("A", 12, false)], LIMITS);
        let calls = progress.plan(all);
        progress.fail(&calls[0], &Failure::Unreachable);
        let prompt = progress.prompt(&calls[1], 1);
        let cut = Answer { finish: Finish::Length, ..answer(&[entry(&prompt, 0)], Usage::default()) };
        progress.take(&calls[1], &prompt, &cut);
        let course = &progress.courses()[0];
        assert_eq!(course.items[0].outcome, Err(ItemFailure::Upstream));
        assert!(course.items[6].outcome.is_ok() && !course.items[6].complete);
        assert_eq!(course.failure, Some(Failure::Unreachable));
    }

    #[test]
    fn company_makes_no_share_dearer_than_an_own_call() {
        let parts = vec![part("A", 1, false), part("LONGER-SUBJECT", 6, true)];
        let limits = [alone("why", &parts[0], LIMITS), alone("why", &parts[1], LIMITS)];
        let whole = alone(
            "why",
            &Part {
                observations: parts.iter().flat_map(|part| part.observations.clone()).collect(),
                ..parts[1].clone()
            },
            LIMITS,
        );
        let mut progress = Progress::new("why".into(), parts, LIMITS);
        let calls = progress.plan(all);
        let prompt = progress.prompt(&calls[0], 1);
        progress.take(&calls[0], &prompt, &answer(&[], whole));
        for (course, limit) in progress.courses().iter().zip(limits) {
            assert!(total(usage(course)) <= total(limit), "{:?} {limit:?}", usage(course));
        }
    }

    /// What an upstream may do to an entry.
    fn spoil(fault: u8, entries: &mut Vec<Value>, place: usize) {
        let other = (place + 1) % entries.len();
        match fault {
            0 => entries[place] = Value::Null,
            1 => entries.swap(place, other),
            2 => {
                let tag = entries[place]["tag"].take();
                entries[place]["tag"] = entries[other]["tag"].take();
                entries[other]["tag"] = tag;
            }
            3 => entries[place]["salience"] = json!("high"),
            4 => entries.push(entries[place].clone()),
            5 => {
                let mut twin = entries[place].clone();
                twin["summary"] = json!("something else");
                entries.push(twin);
            }
            6 => entries[place]["tag"] = entries[place]["check"].clone(),
            7 => {
                let words = entries[place]["summary"].take();
                entries[place]["summary"] = entries[other]["summary"].take();
                entries[other]["summary"] = words;
            }
            _ => {}
        }
    }

    proptest! {
        /// Dropped, moved, mixed up, mangled, repeated, contradicted, invented, and words exchanged under the right codes.
        #[test]
        fn whatever_an_upstream_answers_nobody_gets_another_ones_answer(
            sizes in prop::collection::vec(1_usize..9, 1..5),
            faults in prop::collection::vec((0_u8..20, 0_usize..10), 0..60),
            seed: u64,
        ) {
            let names = ["ALPHA", "BRAVO", "CHARLIE", "DELTA"];
            let parts = sizes.iter().zip(names).map(|(size, name)| part(name, *size, false)).collect();
            let mut progress = Progress::new(String::new(), parts, LIMITS);
            let (mut faults, mut taken) = (faults.into_iter(), Usage::default());
            for seed in (0..).map(|round| seed.wrapping_add(round)) {
                let calls = progress.plan(all);
                if calls.is_empty() {
                    break;
                }
                for call in calls {
                    let prompt = progress.prompt(&call, seed);
                    let mut entries: Vec<Value> = (0..call.lines.len()).map(|place| entry(&prompt, place)).collect();
                    for (fault, place) in faults.by_ref().take(4) {
                        let place = place % entries.len();
                        spoil(fault, &mut entries, place);
                    }
                    let usage = Usage { input: 997, cached_input: 501, output: 83, ..Usage::default() };
                    taken = taken + usage;
                    progress.take(&call, &prompt, &answer(&entries, usage));
                }
            }
            for (place, (size, name)) in sizes.iter().zip(names).enumerate() {
                let found = outcomes(&progress, place);
                prop_assert_eq!(found.len(), *size);
                for (at, outcome) in found.into_iter().enumerate() {
                    match outcome {
                        // Words that are nobody's pass for whoever's codes they bear; another one's do not.
                        Ok(summary) => prop_assert!(summary == format!("{name}{at:03}") || summary == "something else", "{summary}"),
                        Err(why) => prop_assert!(why != ItemFailure::Upstream),
                    }
                }
            }
            let shared = progress.courses().iter().fold(Usage::default(), |sum, course| sum + usage(course));
            prop_assert_eq!(shared, taken, "the shares are the whole");
        }
    }
}
