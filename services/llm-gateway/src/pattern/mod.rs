//! Templates that answer without a model: data, compiled once, tried in order.
//!
//! A confidence is stated with where it comes from (`confidence_basis`); a missing value is a reason to skip a template,
//! never a zero.

mod condition;
mod template;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cel::Env;

use self::condition::Condition;
pub use self::{condition::Verdict, template::Template};
use crate::observation::Observation;

/// The templates in the order in which they are tried.
pub struct Library {
    entries: Vec<Entry>,
    env: Arc<Env>,
}

/// Why a file of templates was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("the pattern file {path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML of the documented shape.
    #[error("the pattern file is malformed: {0}")]
    Malformed(String),
    /// One template is wrong.
    #[error("pattern `{name}`: {problem}")]
    Template {
        /// The template.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Debug)]
struct Entry {
    template: Template,
    condition: Condition,
    matches: AtomicU64,
}

impl Library {
    /// Compiles the templates that come with the gateway.
    ///
    /// # Errors
    /// [`Error`] if they are wrong, which a test rules out.
    pub fn built_in() -> Result<Self, Error> {
        Self::parse(include_str!("patterns.toml"))
    }

    /// Compiles the templates of a TOML text.
    ///
    /// # Errors
    /// [`Error`] names the first template that is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let env = Arc::new(Env::stdlib());
        let mut entries: Vec<Entry> = Vec::new();
        for template in template::parse(text)? {
            if entries.iter().any(|entry| entry.template.name == template.name) {
                return Err(Error::Template { name: template.name, problem: "the name is taken".into() });
            }
            let condition = Condition::compile(&template.condition, &env)
                .map_err(|problem| Error::Template { name: template.name.clone(), problem })?;
            entries.push(Entry { template, condition, matches: AtomicU64::new(0) });
        }
        Ok(Self { entries, env })
    }

    /// Returns the first template whose condition holds, and counts it.
    #[must_use]
    pub fn answer(&self, observation: &Observation) -> Option<&Template> {
        let looks = |entry: &&Entry| entry.template.looks_at(&observation.kind);
        if !self.entries.iter().any(|entry| looks(&entry)) {
            return None;
        }
        let scope = condition::scope(&self.env, &observation.values);
        let entry =
            self.entries.iter().filter(looks).find(|entry| {
                matches!(entry.condition.evaluate(&observation.values, &scope), Verdict::Holds)
            })?;
        entry.matches.fetch_add(1, Ordering::Relaxed);
        Some(&entry.template)
    }

    /// Evaluates every template; counts nothing.
    #[must_use]
    pub fn evaluate(&self, observation: &Observation) -> Vec<(&Template, Verdict)> {
        let scope = condition::scope(&self.env, &observation.values);
        self.entries
            .iter()
            .map(|entry| {
                let verdict = if entry.template.looks_at(&observation.kind) {
                    entry.condition.evaluate(&observation.values, &scope)
                } else {
                    Verdict::Skipped(format!("looks at {} only", entry.template.types.join(", ")))
                };
                (&entry.template, verdict)
            })
            .collect()
    }

    /// Returns the templates with how often each answered.
    pub fn templates(&self) -> impl Iterator<Item = (&Template, u64)> {
        self.entries.iter().map(|entry| (&entry.template, entry.matches.load(Ordering::Relaxed)))
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("entries", &self.entries).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Library, Verdict};
    use crate::observation::Observation;

    fn observation(kind: &str, values: &[(&str, f64)]) -> Observation {
        Observation {
            id: "1".into(),
            kind: kind.into(),
            values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ..Observation::default()
        }
    }

    fn winner(observation: &Observation) -> Option<String> {
        Library::built_in().unwrap().answer(observation).map(|template| template.name.clone())
    }

    #[test]
    fn the_shipped_templates_compile_and_state_their_basis() {
        let library = Library::built_in().unwrap();
        let names: Vec<_> = library.templates().map(|(template, _)| template.name.as_str()).collect();
        assert_eq!(names, ["gas_high", "pool_new", "apr_spike"]);
        assert!(library.templates().all(|(template, _)| template.confidence_basis.len() > 40));
    }

    #[test]
    fn gas_above_twice_its_average_answers() {
        assert_eq!(
            winner(&observation("gas", &[("gas_price", 41.0), ("avg_gas", 20.0)])).unwrap(),
            "gas_high"
        );
        assert_eq!(winner(&observation("gas", &[("gas_price", 40.0), ("avg_gas", 20.0)])), None);
        assert_eq!(winner(&observation("gas", &[("gas_price", 1.0), ("avg_gas", 0.0)])), None);
    }

    #[test]
    fn a_pool_younger_than_a_day_answers_before_its_spike() {
        let new = [("pool_age_days", 0.5), ("apr", 90.0), ("historical_apr", 10.0), ("tvl", 1e6)];
        assert_eq!(winner(&observation("pool", &new)).unwrap(), "pool_new");
        assert_eq!(winner(&observation("pool", &[("pool_age_days", 1.0)])), None);
    }

    #[test]
    fn a_spike_needs_its_floors() {
        let spike = |apr, base, tvl| {
            winner(&observation("pool", &[("apr", apr), ("historical_apr", base), ("tvl", tvl)]))
        };
        assert_eq!(spike(31.0, 10.0, 2e5).unwrap(), "apr_spike");
        assert_eq!(spike(30.0, 10.0, 2e5), None, "three times is not more than three times");
        assert_eq!(spike(4.0, 0.01, 2e5), None, "a base near zero is noise");
        assert_eq!(spike(31.0, 10.0, 9e4), None, "a small pool is noise");
    }

    #[test]
    fn a_missing_value_skips_with_its_name() {
        let library = Library::built_in().unwrap();
        let verdicts = library.evaluate(&observation("pool", &[("apr", 31.0), ("historical_apr", 10.0)]));
        assert!(matches!(&verdicts[0].1, Verdict::Skipped(reason) if reason.contains("gas")));
        assert!(
            matches!(&verdicts[2].1, Verdict::Skipped(reason) if reason.contains("`tvl`")),
            "{verdicts:?}"
        );
    }

    #[test]
    fn only_an_answer_is_counted() {
        let library = Library::built_in().unwrap();
        let hot = observation("gas", &[("gas_price", 41.0), ("avg_gas", 20.0)]);
        assert_eq!(library.evaluate(&hot).len(), 3);
        library.answer(&hot).unwrap();
        assert_eq!(library.templates().next().unwrap().1, 1);
    }

    #[test]
    fn a_wrong_template_is_named() {
        let text = |condition: &str, confidence: &str| {
            format!(
                "[[pattern]]\nname = \"a\"\nversion = 1\ntypes = [\"x\"]\ncondition = \"{condition}\"\n\
                 answer = \"b\"\nconfidence = {confidence}\nconfidence_basis = \"c\"\n"
            )
        };
        for (condition, confidence) in
            [("v >", "0.5"), ("v + 1.0", "0.5"), ("f(v)", "0.5"), ("v > 1.0", "1.5")]
        {
            let error = Library::parse(&text(condition, confidence)).unwrap_err().to_string();
            assert!(error.starts_with("pattern `a`:"), "{error}");
        }
        assert!(Library::parse(&text("v > 1", "0.5")).is_ok(), "an integer compares with a value");
        let twice = text("v > 1.0", "0.5").repeat(2);
        assert!(Library::parse(&twice).unwrap_err().to_string().contains("taken"));
        assert!(Library::parse("nonsense = 1").is_err());
    }
}
