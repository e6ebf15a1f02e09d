//! How far the figures of two observations may lie apart while they share an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::observation::Observation;

/// Largest relative tolerance: the larger figure is then twice the smaller one.
pub const MAX_RELATIVE: f64 = 1.0;
/// Figures of which one is this many times the other share no answer, whatever the tolerances.
const NEVER: f64 = 10.0;

/// How far two figures may lie apart. The default is not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tolerance {
    pub(super) relative: f64,
    pub(super) absolute: f64,
}

/// How far two observations of one entity may lie apart. The default is not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tolerances {
    /// For every value that `fields` does not name.
    pub others: Tolerance,
    /// For values by name.
    pub fields: BTreeMap<String, Tolerance>,
    /// Values and labels that are not compared at all, by name.
    pub ignored: BTreeSet<String>,
    /// How old the answer may be; `None` leaves it to the cache's own limit.
    pub max_age: Option<Duration>,
}

/// The first thing in which two observations of one entity differ by more than is tolerated.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// A value lies too far off.
    Value {
        /// The value's name.
        name: String,
        /// What it is now.
        now: f64,
        /// What it was when the answer was made.
        then: f64,
        /// How far apart it may lie.
        tolerance: Tolerance,
    },
    /// The answer is about an observation without this value.
    Added(String),
    /// The answer is about an observation with this value.
    Missing(String),
    /// A label is another, new or gone.
    Label(String),
}

impl Tolerance {
    /// Makes a tolerance of `relative`, a share of the smaller figure from 0 to [`MAX_RELATIVE`], or of `absolute`, in the unit of
    /// the figures, finite and at least 0: whichever admits more. `None` for any other number.
    #[must_use]
    pub fn new(relative: f64, absolute: f64) -> Option<Self> {
        let is_sound = (0.0..=MAX_RELATIVE).contains(&relative) && absolute.is_finite() && absolute >= 0.0;
        is_sound.then_some(Self { relative, absolute })
    }

    /// Returns whether two figures may share an answer.
    ///
    /// Symmetric: `|a - b| <= relative * min(|a|, |b|)`, which is `|ln a - ln b| <= ln(1 + relative)`, or `|a - b| <= absolute`. Zero has
    /// no ratio to anything, so only `absolute` reaches it. Figures of opposite sign, and of which one is 10 times the
    /// other, never share an answer.
    #[must_use]
    pub fn admits(self, one: f64, two: f64) -> bool {
        let (smaller, larger) = if one.abs() <= two.abs() { (one, two) } else { (two, one) };
        let apart = (larger - smaller).abs();
        if smaller == 0.0 {
            return apart <= self.absolute;
        }
        (1.0..NEVER).contains(&(larger / smaller))
            && (apart <= self.absolute || apart <= self.relative * smaller.abs())
    }

    fn is_exact(self) -> bool {
        self == Self::default()
    }
}

impl Tolerances {
    /// Returns whether nothing but the exact cache could answer under these.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.others.is_exact() && self.ignored.is_empty() && self.fields.values().all(|one| one.is_exact())
    }

    /// Compares what is seen now with what an answer is about: the same values and labels, each value within its tolerance.
    ///
    /// # Errors
    /// The first [`Difference`], values before labels, by name.
    pub fn compare(&self, now: &Observation, then: &Observation) -> Result<(), Difference> {
        let counts = |name: &&String| !self.ignored.contains(*name);
        for (name, value) in now.values.iter().filter(|(name, _)| counts(name)) {
            let Some(past) = then.values.get(name) else { return Err(Difference::Added(name.clone())) };
            let tolerance = self.fields.get(name).copied().unwrap_or(self.others);
            if !tolerance.admits(*value, *past) {
                return Err(Difference::Value { name: name.clone(), now: *value, then: *past, tolerance });
            }
        }
        if let Some(name) =
            then.values.keys().filter(counts).find(|name| !now.values.contains_key(name.as_str()))
        {
            return Err(Difference::Missing(name.clone()));
        }
        let differs = |name: &&String| now.labels.get(*name) != then.labels.get(*name);
        match now.labels.keys().chain(then.labels.keys()).filter(counts).find(differs) {
            Some(name) => Err(Difference::Label(name.clone())),
            None => Ok(()),
        }
    }
}

impl Difference {
    /// Returns the name of the value or label that differs.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Value { name, .. } | Self::Added(name) | Self::Missing(name) | Self::Label(name) => name,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { name, now, then, tolerance } => {
                write!(f, "`{name}` is {now} and was {then}")?;
                let smaller = now.abs().min(then.abs());
                if smaller > 0.0 {
                    write!(f, ": {:.1} % apart", 100.0 * (now - then).abs() / smaller)?;
                }
                write!(f, "; allowed are {:.2} %", 100.0 * tolerance.relative)?;
                if tolerance.absolute > 0.0 {
                    write!(f, " or {}", tolerance.absolute)?;
                }
                f.write_str(", never a change of sign or tenfold")
            }
            Self::Added(name) => write!(f, "`{name}` was not there"),
            Self::Missing(name) => write!(f, "`{name}` was there and is not now"),
            Self::Label(name) => write!(f, "the label `{name}` differs"),
        }
    }
}
