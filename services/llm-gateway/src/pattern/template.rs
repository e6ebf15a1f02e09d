//! The text of a template file.

use serde::{Deserialize, Serialize};

use super::spike::Watch;

/// Days an outcome may be judged after its match, where a file says nothing else.
const OUTCOME_DAYS: u32 = 2;

/// A template as its file states it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name, unique in its file.
    pub name: String,
    /// Increased whenever its condition, answer or outcome changes: what was learned about it is then forgotten.
    pub version: u32,
    /// Whether it answers. A new one is watched in the shadow first.
    #[serde(default)]
    pub mode: Mode,
    /// How grave its answer is.
    #[serde(default)]
    pub severity: Severity,
    /// The observation types it looks at, at least one.
    pub types: Vec<String>,
    /// The condition, in CEL, over the observation's values and the figures of their history.
    pub condition: String,
    /// The answer it gives, with places for the same values and figures.
    pub answer: String,
    /// How sure the answer is before any outcome is known, 0 to 1.
    pub confidence: f64,
    /// Where the confidence comes from, in words.
    pub confidence_basis: String,
    /// What that confidence is worth, in outcomes, 0 to 10,000.
    #[serde(default = "evidence")]
    pub evidence: f64,
    /// The error bound at which the template retires, 0 to 1.
    #[serde(default = "max_error")]
    pub max_error: f64,
    /// In CEL: whether what the answer claims came true, over the subject's next day; `then_` before a name is its value at the
    /// match. Empty: outcomes are only reported.
    #[serde(default)]
    pub outcome: String,
    /// Days after which an outcome can no longer be judged, 1 to 366.
    #[serde(default = "outcome_days")]
    pub outcome_days: u32,
    /// How its confidence is scored from the subject's history; absent: by the outcomes' share alone.
    #[serde(default)]
    pub score: Option<Watch>,
}

/// Whether a template answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is matched and judged, and never answers.
    #[default]
    Shadow,
    /// It answers.
    Active,
}

/// How grave an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Worth a look.
    #[default]
    Notice,
    /// Something to act on.
    Warning,
    /// Something to act on at once.
    Critical,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pattern: Vec<Template>,
}

impl Severity {
    /// Returns whether it says that the observation is remarkable, as a model does by a salience of at least 0.5.
    #[must_use]
    pub fn is_remarkable(self) -> bool {
        self >= Self::Warning
    }
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
    #[error("line {line}: {problem}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file that the setting names is wrong.
    #[error("the pattern file {path} cannot be used")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// One template is wrong.
    #[error("pattern `{name}`: {problem}")]
    Template {
        /// The template.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl Template {
    /// Returns whether the template looks at observations of `kind`.
    #[must_use]
    pub fn looks_at(&self, kind: &str) -> bool {
        self.types.iter().any(|named| named == kind)
    }

    fn problem(&self) -> Option<&'static str> {
        if self.name.is_empty() || self.name.len() > 128 {
            Some("`name` must have 1 to 128 bytes")
        } else if self.types.is_empty() {
            Some("`types` must name at least one type")
        } else if self.answer.trim().is_empty() {
            Some("`answer` must not be empty")
        } else if !(0.0..=1.0).contains(&self.confidence) {
            Some("`confidence` must be 0 to 1")
        } else if self.confidence_basis.trim().is_empty() {
            Some("`confidence_basis` must say where the confidence comes from")
        } else if !(0.0..=10_000.0).contains(&self.evidence) {
            Some("`evidence` must be 0 to 10,000")
        } else if !(0.0..=1.0).contains(&self.max_error) {
            Some("`max_error` must be 0 to 1")
        } else if !(1..=366).contains(&self.outcome_days) {
            Some("`outcome_days` must be 1 to 366")
        } else {
            self.score.as_ref().and_then(Watch::problem)
        }
    }
}

/// Reads the templates of a TOML text, in order.
pub(super) fn parse(text: &str) -> Result<Vec<Template>, Error> {
    let file: File = toml::from_str(text).map_err(|error| {
        let (line, problem) = config::malformed(text, &error);
        Error::Malformed { line, problem }
    })?;
    for template in &file.pattern {
        if let Some(problem) = template.problem() {
            return Err(Error::Template { name: template.name.clone(), problem: problem.into() });
        }
    }
    Ok(file.pattern)
}

fn evidence() -> f64 {
    10.0
}

fn max_error() -> f64 {
    0.5
}

fn outcome_days() -> u32 {
    OUTCOME_DAYS
}
