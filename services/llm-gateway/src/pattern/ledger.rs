//! All that one tenant's templates know: history, matches and records. No other tenant reads it or adds to it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    Options,
    condition::{self, Verdict},
    history::{DAY, History, Point, Series, Subject},
    library::{Entry, Library},
    matches::{Id, Match, Matches, Outcome},
    score::Inputs,
    spike::{Moment, SHARES, Watch},
    template::{Mode, Template},
    track::Track,
};

/// Least time between what is judged and what it is judged by, in seconds: a day, give or take, however often an agent looks.
const APART: i64 = 20 * 3_600;

/// One observation at its moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) id: &'a str,
    pub(super) at: i64,
    pub(super) values: &'a BTreeMap<String, f64>,
}

impl Seen<'_> {
    pub(super) fn subject(&self) -> Subject {
        (self.kind.into(), self.name.into(), self.id.into())
    }

    pub(super) fn day(&self) -> i64 {
        self.at.div_euclid(DAY)
    }
}

/// What the templates made of an observation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consulted {
    /// The answer of the first one that may answer.
    pub answer: Option<Answer>,
    /// Every match, also of those that may not answer: a model's answer is compared with them.
    pub matched: Vec<Id>,
}

/// A template's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The template.
    pub pattern: String,
    /// Names the match, to report its outcome under; `None` where the observation names no subject.
    pub id: Option<Id>,
    /// What it says.
    pub text: String,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
}

/// What came of telling an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether it was news; an outcome is told once, and the first one stands.
    pub is_news: bool,
    /// What stands.
    pub came_true: bool,
}

/// An outcome that was counted, for the log and the metrics.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) pattern: String,
    pub(super) came_true: bool,
    /// Why the template retired, if it did by this.
    pub(super) retired: Option<String>,
}

/// What must be written again.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) series: HashSet<Subject>,
    pub(super) matches: HashSet<Id>,
    pub(super) tracks: BTreeSet<String>,
}

/// What an earlier process left of one tenant.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) series: Vec<(Subject, Series)>,
    pub(super) matches: Vec<(Id, Match)>,
    pub(super) tracks: BTreeMap<String, Track>,
}

/// What one tenant's templates know.
#[derive(Debug)]
pub(super) struct Ledger {
    tenant: Arc<str>,
    options: Options,
    pub(super) history: History,
    pub(super) matches: Matches,
    pub(super) tracks: BTreeMap<String, Track>,
    /// `None` where nothing is kept on disk.
    pub(super) changes: Option<Changes>,
    /// What was counted since it was last asked for.
    counted: Vec<Counted>,
}

impl Changes {
    pub(super) fn extend(&mut self, other: Self) {
        self.series.extend(other.series);
        self.matches.extend(other.matches);
        self.tracks.extend(other.tracks);
    }
}

impl Ledger {
    pub(super) fn new(tenant: Arc<str>, options: &Options, is_kept: bool) -> Self {
        Self {
            tenant,
            options: options.clone(),
            history: History::new(options.history),
            matches: Matches::new(options.matches),
            tracks: BTreeMap::new(),
            changes: is_kept.then(Changes::default),
            counted: Vec::new(),
        }
    }

    /// Takes up what an earlier process left; what is beyond the limits goes from the disk too.
    pub(super) fn restore(&mut self, kept: Kept) {
        let series = self.history.restore(kept.series).into_iter().collect();
        let matches = self.matches.restore(kept.matches).into_iter().collect();
        self.changes.get_or_insert_default().extend(Changes { series, matches, tracks: BTreeSet::new() });
        self.tracks = kept.tracks;
    }

    /// Tries the templates on an observation, judges what it decides, and remembers it.
    pub(super) fn consult(&mut self, library: &Library, seen: &Seen<'_>, may_answer: bool) -> Consulted {
        let (subject, day) = (seen.subject(), seen.day());
        let facts = library.facts(seen.kind, seen.values, self.history.series(&subject), day);
        if !seen.name.is_empty() {
            self.judge(library, &subject, seen.at, &facts);
            self.learn(library, &subject, seen);
        }
        let scope = condition::scope(library.env(), &facts);
        let mut consulted = Consulted::default();
        for entry in library.looking_at(seen.kind) {
            if entry.verdict(&facts, &scope) != Verdict::Holds {
                continue;
            }
            let template = &entry.template;
            let inputs = template.score.as_ref().and_then(|watch| {
                inputs(watch, self.history.series(&subject), day, |name| seen.values.get(name).copied(), 1.0)
            });
            let track = track(&mut self.tracks, template);
            let confidence = track.confidence(template, inputs.as_ref());
            let answers = may_answer
                && consulted.answer.is_none()
                && template.mode == Mode::Active
                && track.retired.is_none();
            track.answered += u64::from(answers);
            let id = (!seen.name.is_empty())
                .then(|| self.note(entry, &subject, seen.at, &facts, confidence, inputs));
            if let Some(changes) = &mut self.changes {
                changes.tracks.insert(template.name.clone());
            }
            consulted.matched.extend(id);
            if answers {
                consulted.answer = Some(Answer {
                    pattern: template.name.clone(),
                    id,
                    text: entry.answer(seen.name, &facts),
                    confidence,
                });
            }
        }
        self.remember(library, subject, seen);
        consulted
    }

    /// Tells what came of a match; `None` if no such match is known.
    pub(super) fn report(&mut self, library: &Library, id: Id, came_true: bool) -> Option<Told> {
        let known = self.matches.get(&id)?;
        if let Some(outcome) = known.outcome {
            return Some(Told { is_news: false, came_true: outcome.came_true });
        }
        self.settle(library, id, Outcome { came_true, reported: true });
        Some(Told { is_news: true, came_true })
    }

    /// Compares a model's answer with the templates that matched, each match once.
    pub(super) fn compare(&mut self, library: &Library, ids: &[Id], is_remarkable: bool) {
        for id in ids {
            let Some(made) = self.matches.get_mut(id).filter(|made| !made.compared) else { continue };
            let Some(entry) = library.entry(&made.pattern) else { continue };
            made.compared = true;
            let track = track(&mut self.tracks, &entry.template);
            track.compared += 1;
            track.agreed += u64::from(entry.template.severity.is_remarkable() == is_remarkable);
            if let Some(changes) = &mut self.changes {
                changes.matches.insert(*id);
                changes.tracks.insert(made.pattern.clone());
            }
        }
    }

    /// Lets a retired template answer again; `false` if no template has the name.
    pub(super) fn reinstate(&mut self, library: &Library, pattern: &str) -> bool {
        let Some(entry) = library.entry(pattern) else { return false };
        track(&mut self.tracks, &entry.template).reinstate();
        if let Some(changes) = &mut self.changes {
            changes.tracks.insert(pattern.to_owned());
        }
        true
    }

    /// Returns the record of a template, as it would be before anything is known where nothing is.
    pub(super) fn record(&self, template: &Template) -> Track {
        let known = self.tracks.get(&template.name).filter(|track| track.is_of(template));
        known.cloned().unwrap_or_else(|| Track::of(template))
    }

    /// Returns how sure a template would be of an observation; counts nothing.
    pub(super) fn confidence(&self, template: &Template, seen: &Seen<'_>) -> f64 {
        let (series, day) = (self.history.series(&seen.subject()), seen.day());
        let of = |name: &str| seen.values.get(name).copied();
        let inputs = template.score.as_ref().and_then(|watch| inputs(watch, series, day, of, 1.0));
        self.record(template).confidence(template, inputs.as_ref())
    }

    /// Lets all that the scores have learned answer from now on.
    pub(super) fn publish(&mut self) {
        self.tracks.values_mut().filter_map(|track| track.score.as_mut()).for_each(super::Score::publish);
    }

    /// Returns what was counted since the last call.
    pub(super) fn counted(&mut self) -> Vec<Counted> {
        std::mem::take(&mut self.counted)
    }

    /// Notes a match, the first time on its day.
    fn note(
        &mut self,
        entry: &Entry,
        subject: &Subject,
        at: i64,
        facts: &BTreeMap<String, f64>,
        confidence: f64,
        inputs: Option<Inputs>,
    ) -> Id {
        let Template { name, version, .. } = &entry.template;
        let id = Id::of(&self.tenant, name, *version, subject, at.div_euclid(DAY));
        if self.matches.get(&id).is_some() {
            return id;
        }
        let made = Match {
            confidence,
            inputs,
            then: entry.then(facts),
            ..Match::new(name, *version, subject.clone(), at)
        };
        let evicted = self.matches.add(id, made);
        track(&mut self.tracks, &entry.template).matched += 1;
        if let Some(changes) = &mut self.changes {
            changes.matches.extend([id].into_iter().chain(evicted));
        }
        id
    }

    /// Judges the earlier matches of a subject by what is seen of it now.
    fn judge(&mut self, library: &Library, subject: &Subject, at: i64, facts: &BTreeMap<String, f64>) {
        for id in self.matches.open(subject) {
            let Some(made) = self.matches.get(&id) else { continue };
            let days = at.div_euclid(DAY) - made.at.div_euclid(DAY);
            let entry = library.entry(&made.pattern).filter(|entry| entry.template.version == made.version);
            let Some(entry) = entry.filter(|entry| days <= i64::from(entry.template.outcome_days)) else {
                self.matches.close(&id);
                continue;
            };
            if days < 1 || at - made.at < APART {
                continue;
            }
            if let Some(came_true) = entry.judge(library.env(), &made.then, facts) {
                self.settle(library, id, Outcome { came_true, reported: false });
            }
        }
    }

    /// Teaches the scores by the subject's last day, now that its next one is seen.
    fn learn(&mut self, library: &Library, subject: &Subject, seen: &Seen<'_>) {
        let Some(series) = self.history.series(subject) else { return };
        let Some(last) = series.last() else { return };
        let (day, now) = (last.day(), seen.day());
        if now <= day || seen.at - last.at < APART {
            return;
        }
        for entry in library.looking_at(seen.kind) {
            let template = &entry.template;
            let Some(watch) = &template.score else { continue };
            let Some(next) = seen.values.get(&watch.value) else { continue };
            if now - day > i64::from(template.outcome_days) {
                continue;
            }
            let past = past(watch, series, day);
            let id = Id::of(&self.tenant, &template.name, template.version, subject, day);
            let outcome = self.matches.get(&id).and_then(|made| made.outcome);
            let track = track(&mut self.tracks, template);
            let Some(score) = &mut track.score else { continue };
            for (share, weight) in SHARES {
                // What a caller reported was learned from when it came.
                let is_learned = share == 1.0 && outcome.is_some_and(|outcome| outcome.reported);
                let threshold = watch.threshold(&past, share);
                let inputs = inputs(watch, Some(series), day, |name| last.value(name), share);
                if let (Some(threshold), Some(inputs), false) = (threshold, inputs, is_learned) {
                    score.learn(&inputs, *next <= threshold, weight);
                }
            }
            if !self.options.publish_by_hand {
                score.publish();
            }
            if let Some(changes) = &mut self.changes {
                changes.tracks.insert(template.name.clone());
            }
        }
    }

    /// Counts what came of a match, and retires its template where its bound breaks.
    fn settle(&mut self, library: &Library, id: Id, outcome: Outcome) {
        self.matches.close(&id);
        let Some(made) = self.matches.get_mut(&id) else { return };
        made.outcome = Some(outcome);
        if let Some(changes) = &mut self.changes {
            changes.matches.insert(id);
            changes.tracks.insert(made.pattern.clone());
        }
        // What an older version claimed says nothing about this one.
        let entry = library.entry(&made.pattern).filter(|entry| entry.template.version == made.version);
        let Some(entry) = entry else { return };
        let track = track(&mut self.tracks, &entry.template);
        if let (true, Some(inputs), Some(score)) = (outcome.reported, &made.inputs, &mut track.score) {
            score.learn(inputs, outcome.came_true, 1.0);
            if !self.options.publish_by_hand {
                score.publish();
            }
        }
        let retires = track.tell(&entry.template, outcome.came_true, made.confidence);
        let retired = track.retired.clone().filter(|_| retires);
        self.counted.push(Counted { pattern: made.pattern.clone(), came_true: outcome.came_true, retired });
    }

    /// Adds a day to the subject's history, where any template needs it.
    fn remember(&mut self, library: &Library, subject: Subject, seen: &Seen<'_>) {
        let values = library.remembered(seen.kind, seen.values);
        if seen.name.is_empty() || values.is_empty() {
            return;
        }
        let Some(gone) = self.history.add(&subject, Point { at: seen.at, values }) else { return };
        if let Some(changes) = &mut self.changes {
            changes.series.extend(gone.into_iter().chain([subject]));
        }
    }
}

/// Returns the record of a template; what is known about another version of it is forgotten.
fn track<'a>(tracks: &'a mut BTreeMap<String, Track>, template: &Template) -> &'a mut Track {
    let track = tracks.entry(template.name.clone()).or_insert_with(|| Track::of(template));
    if !track.is_of(template) {
        *track = Track::of(template);
    }
    track
}

/// Returns the watched value's days before `day`.
fn past(watch: &Watch, series: &Series, day: i64) -> Vec<f64> {
    let points = series.before(day, watch.window_days.into());
    points.filter_map(|point| point.value(&watch.value)).collect()
}

/// Returns what the score looks at on `day`, when the values are those that `value` gives.
fn inputs(
    watch: &Watch,
    series: Option<&Series>,
    day: i64,
    value: impl Fn(&str) -> Option<f64>,
    share: f64,
) -> Option<Inputs> {
    let series = series?;
    let before = series.before(day, watch.window_days.into()).next_back();
    let before = before.and_then(|point| point.value(&watch.size));
    let past = past(watch, series, day);
    let moment = Moment { past: &past, now: value(&watch.value)?, size: value(&watch.size).zip(before) };
    watch.inputs(&moment, share)
}
