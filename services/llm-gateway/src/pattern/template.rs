//! The text of a template file.

use serde::Deserialize;

use super::Error;

/// A template as its file states it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name, unique in its file.
    pub name: String,
    /// Increased whenever its condition or answer changes.
    pub version: u32,
    /// The observation types it looks at, at least one.
    pub types: Vec<String>,
    /// The condition, in CEL, over the observation's values.
    pub condition: String,
    /// The answer it gives.
    pub answer: String,
    /// How sure the answer is, 0 to 1.
    pub confidence: f64,
    /// Where the confidence comes from, in words.
    pub confidence_basis: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pattern: Vec<Template>,
}

impl Template {
    /// Returns whether the template looks at observations of `kind`.
    #[must_use]
    pub fn looks_at(&self, kind: &str) -> bool {
        self.types.iter().any(|named| named == kind)
    }

    fn problem(&self) -> Option<&'static str> {
        if self.name.is_empty() {
            Some("`name` must not be empty")
        } else if self.types.is_empty() {
            Some("`types` must name at least one type")
        } else if self.answer.trim().is_empty() {
            Some("`answer` must not be empty")
        } else if !(0.0..=1.0).contains(&self.confidence) {
            Some("`confidence` must be 0 to 1")
        } else if self.confidence_basis.trim().is_empty() {
            Some("`confidence_basis` must say where the confidence comes from")
        } else {
            None
        }
    }
}

/// Reads the templates of a TOML text, in order.
pub(super) fn parse(text: &str) -> Result<Vec<Template>, Error> {
    let file: File = toml::from_str(text).map_err(|error| Error::Malformed(error.message().to_owned()))?;
    for template in &file.pattern {
        if let Some(problem) = template.problem() {
            return Err(Error::Template { name: template.name.clone(), problem: problem.into() });
        }
    }
    Ok(file.pattern)
}
