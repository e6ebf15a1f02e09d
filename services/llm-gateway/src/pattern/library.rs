//! The templates of one file, compiled.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cel::Env;

use super::{
    condition::{self, Condition, Verdict},
    figure::Figure,
    history::Series,
    phrase::Phrase,
    template::{self, Error, Template},
};

/// What a name in an outcome begins with that means the value at the match.
const THEN: &str = "then_";

/// The templates in the order in which they are tried.
pub struct Library {
    entries: Vec<Entry>,
    env: Arc<Env>,
}

/// One template, compiled.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) template: Template,
    condition: Condition,
    phrase: Phrase,
    outcome: Option<Condition>,
    /// Every figure that it reads, by its name.
    figures: BTreeMap<String, Figure>,
    /// Every value whose days it needs.
    remembers: BTreeSet<Arc<str>>,
}

/// What one template made of an observation, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What the condition made of it.
    pub verdict: Verdict,
    /// The same for each part that it joins by `&&`.
    pub parts: Vec<(String, Verdict)>,
    /// Every value that was read, as far as it is known.
    pub reads: BTreeMap<String, f64>,
    /// Every value that is read and not known.
    pub missing: Vec<String>,
}

impl Library {
    /// Compiles the templates of a TOML text, for a history of `points` days.
    ///
    /// # Errors
    /// [`Error`] names the first template that is wrong.
    pub fn parse(text: &str, points: usize) -> Result<Self, Error> {
        let env = Arc::new(Env::stdlib());
        let mut entries: Vec<Entry> = Vec::new();
        for template in template::parse(text)? {
            let name = template.name.clone();
            if entries.iter().any(|entry| entry.template.name == name) {
                return Err(Error::Template { name, problem: "the name is taken".into() });
            }
            let entry = Entry::compile(template, &env, points);
            entries.push(entry.map_err(|problem| Error::Template { name, problem })?);
        }
        Ok(Self { entries, env })
    }

    /// Returns the templates that look at `kind`, in order.
    pub(super) fn looking_at(&self, kind: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.template.looks_at(kind))
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.template.name == name)
    }

    pub(super) fn env(&self) -> &Arc<Env> {
        &self.env
    }

    /// Returns the values with every figure of their history that the templates for `kind` read.
    pub(super) fn facts(
        &self,
        kind: &str,
        values: &BTreeMap<String, f64>,
        series: Option<&Series>,
        day: i64,
    ) -> BTreeMap<String, f64> {
        let mut facts = values.clone();
        for (name, figure) in self.looking_at(kind).flat_map(|entry| &entry.figures) {
            // Its own history, even where the observation brings a value of that name.
            match figure.of(series, day) {
                Some(value) => facts.insert(name.clone(), value),
                None => facts.remove(name),
            };
        }
        facts
    }

    /// Returns those of the values whose days the templates for `kind` need.
    pub(super) fn remembered(&self, kind: &str, values: &BTreeMap<String, f64>) -> Box<[(Arc<str>, f64)]> {
        let names: BTreeSet<&Arc<str>> = self.looking_at(kind).flat_map(|entry| &entry.remembers).collect();
        names.into_iter().filter_map(|name| Some((Arc::clone(name), *values.get(&**name)?))).collect()
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Entry {
    fn compile(template: Template, env: &Arc<Env>, points: usize) -> Result<Self, String> {
        let condition = Condition::compile(&template.condition, env)?;
        let phrase = Phrase::parse(&template.answer)?;
        let outcome = match template.outcome.trim() {
            "" => None,
            text => Some(Condition::compile(text, env).map_err(|problem| format!("outcome: {problem}"))?),
        };
        let later = outcome.iter().flat_map(|outcome| outcome.reads());
        let names = condition.reads().iter().map(String::as_str).chain(phrase.reads());
        let names = names.chain(later.map(|name| name.strip_prefix(THEN).unwrap_or(name)));
        let figures: BTreeMap<String, Figure> =
            names.filter_map(|name| Some((name.to_owned(), Figure::parse(name)?))).collect();
        let mut remembers: BTreeSet<Arc<str>> =
            figures.values().map(|figure| Arc::from(figure.value.as_str())).collect();
        let mut days = figures.values().map(|figure| figure.days).max().unwrap_or(0);
        if let Some(watch) = &template.score {
            days = days.max(watch.window_days);
            let names = [&watch.value, &watch.size].into_iter().filter(|name| !name.is_empty());
            remembers.extend(names.map(|name| Arc::from(name.as_str())));
        }
        // One more: the day that has just ended is judged by what lies before it.
        if days as usize >= points {
            return Err(format!("it looks back {days} days, and {points} points of a subject are kept"));
        }
        Ok(Self { template, condition, phrase, outcome, figures, remembers })
    }

    /// Returns what the condition makes of `facts`; an answer that lacks a value is no answer.
    pub(super) fn verdict(&self, facts: &BTreeMap<String, f64>, scope: &cel::Context<'_, '_>) -> Verdict {
        match self.phrase.reads().find(|name| !facts.contains_key(*name)) {
            Some(missing) => Verdict::Skipped(self.lacks(missing)),
            None => match self.condition.reads().iter().find(|name| !facts.contains_key(*name)) {
                Some(missing) => Verdict::Skipped(self.lacks(missing)),
                None => self.condition.evaluate(facts, scope),
            },
        }
    }

    /// Returns why, for people.
    pub(super) fn explain(&self, facts: &BTreeMap<String, f64>, scope: &cel::Context<'_, '_>) -> Explanation {
        let names: BTreeSet<&str> =
            self.condition.reads().iter().map(String::as_str).chain(self.phrase.reads()).collect();
        let (known, missing): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| facts.contains_key(*name));
        Explanation {
            verdict: self.verdict(facts, scope),
            parts: self.condition.explain(scope),
            reads: known.into_iter().filter_map(|name| Some((name.to_owned(), *facts.get(name)?))).collect(),
            missing: missing.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Returns the answer for `facts`.
    pub(super) fn answer(&self, subject: &str, facts: &BTreeMap<String, f64>) -> String {
        self.phrase.fill(subject, facts)
    }

    /// Returns what must be kept of a match's facts to judge its outcome later.
    pub(super) fn then(&self, facts: &BTreeMap<String, f64>) -> Vec<(String, f64)> {
        let reads = self.outcome.iter().flat_map(|outcome| outcome.reads());
        let kept = reads.filter(|name| name.starts_with(THEN));
        kept.filter_map(|name| Some((name.clone(), *facts.get(name.strip_prefix(THEN)?)?))).collect()
    }

    /// Returns whether the claim came true, by later facts; `None` where it states no outcome or a value is missing.
    pub(super) fn judge(
        &self,
        env: &Arc<Env>,
        then: &[(String, f64)],
        now: &BTreeMap<String, f64>,
    ) -> Option<bool> {
        let outcome = self.outcome.as_ref()?;
        let mut facts = now.clone();
        facts.extend(then.iter().cloned());
        match outcome.evaluate(&facts, &condition::scope(env, &facts)) {
            Verdict::Holds => Some(true),
            Verdict::Fails => Some(false),
            Verdict::Skipped(_) => None,
        }
    }

    fn lacks(&self, name: &str) -> String {
        match self.figures.get(name) {
            None => format!("lacks the value `{name}`"),
            Some(figure) => {
                format!("lacks `{name}`: no `{}` is known of the {} days before", figure.value, figure.days)
            }
        }
    }
}
