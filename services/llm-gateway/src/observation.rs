//! What was seen in the world, and what was found about it.

use std::{collections::BTreeMap, time::SystemTime};

/// Something seen in the world, to be analysed.
///
/// Its moment is for the templates' history alone: it is neither part of a key nor of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Unique within its request.
    pub id: String,
    /// What kind of thing was seen, such as `pool`; observations of one kind are compared with each other.
    pub kind: String,
    /// What was seen: a pool's or a chain's name.
    pub subject: String,
    /// Measured values by name, finite.
    pub values: BTreeMap<String, f64>,
    /// Further facts as text.
    pub labels: BTreeMap<String, String>,
    /// When it was seen, as its source recorded it; `None` means now.
    pub time: Option<SystemTime>,
}

/// What was found about one observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// One or two sentences.
    pub summary: String,
    /// How sure the answer is, 0 to 1.
    pub confidence: f64,
    /// How remarkable the observation is among those of its request, 0 to 1.
    pub salience: f64,
}

/// An assessment of all observations of a request, in four parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assessment {
    /// One paragraph.
    pub overall: String,
    /// What moves together.
    pub correlations: Vec<String>,
    /// Where to look next.
    pub focus_areas: Vec<String>,
    /// What could go wrong.
    pub risk_warnings: Vec<String>,
}

/// Why one observation got no analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFailure {
    /// The model's answer did not mention it, however often it was asked.
    Missing,
    /// The model's answer about it broke the schema or was about another one, however often it was asked.
    Invalid,
    /// The model could not be asked.
    Upstream,
}

impl ItemFailure {
    /// Returns the stable word of the contract.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Upstream => "upstream",
        }
    }

    /// Returns one sentence for people.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => {
                "The model's answer left this observation out, and left it out again when asked once more."
            }
            Self::Invalid => {
                "The model's answer about this observation broke the schema or was mixed up with another's, and no valid one came when asked once more."
            }
            Self::Upstream => "The model could not be asked about this observation.",
        }
    }
}
