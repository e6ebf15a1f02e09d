//! What the planner knows about the memories a query could be about.

use super::{Cost, Work, joined};

/// What a condition of a filter looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Whether the memory has not expired.
    Expiry,
    /// Its category.
    Category,
    /// Its pools.
    Pool,
    /// Its agent.
    Agent,
    /// Its tags.
    Tag,
    /// Its thread.
    Thread,
    /// When it happened.
    Time,
    /// How sure it is.
    Confidence,
}

/// One condition of a filter, and what is known of it without looking at a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// What it looks at.
    pub(crate) kind: Kind,
    /// What it asks for, in words.
    pub(crate) detail: String,
    /// Most rows that pass: the sum over its bitmaps, in which a row of two of the names counts twice.
    pub(crate) rows: u64,
    /// Bitmaps it joins: one a name, one a bucket of time.
    pub(crate) bitmaps: u64,
    /// Whether the counts prove that every row passes.
    pub(crate) keeps_all: bool,
}

/// What the planner chooses from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statistics {
    /// Memories held.
    pub(crate) live: u64,
    /// Values of a vector.
    pub(crate) dimensions: usize,
    /// Whether there is a vector to rank by; otherwise the newest come first.
    pub(crate) ranked: bool,
    /// Most memories returned.
    pub(crate) limit: u64,
    /// The conditions, rarest first; [`Kind::Confidence`], of which no counts are kept, last.
    pub(crate) conditions: Vec<Condition>,
    /// Buckets of six hours that the condition on time touches; all where there is none.
    pub(crate) buckets: u64,
    /// The pools named, and the rows of each.
    pub(crate) pools: Vec<(String, u64)>,
    /// Rows that hold a word of the query, at most; absent without an index of words.
    pub(crate) words: Option<u64>,
    /// Some rows, and which conditions they pass.
    pub(crate) sample: Sample,
}

/// Rows taken evenly from those of the rarest condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Rows it stands for, each as often as it is in a bitmap of the rarest condition.
    pub(crate) from: u64,
    /// What was seen.
    pub(crate) seen: Vec<Seen>,
}

/// One row of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    /// One over the number of the rarest condition's bitmaps that hold it: so a union is counted without joining it (Karp,
    /// Luby, Madras: "Monte-Carlo Approximation Algorithms for Enumeration Problems", 1989).
    pub(crate) weight: f64,
    /// A bit for each condition that it passes, in their order.
    pub(crate) passed: u16,
}

impl Kind {
    /// Returns the name of its step in the contract.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Expiry => "filter.expiry",
            Self::Category => "filter.category",
            Self::Pool => "filter.pool",
            Self::Agent => "filter.agent",
            Self::Tag => "filter.tag",
            Self::Thread => "filter.thread",
            Self::Time => "filter.time",
            Self::Confidence => "filter.confidence",
        }
    }

    /// Returns whether it is judged by the columns of a row alone, so that no bitmap is needed.
    #[must_use]
    pub(crate) fn is_column(self) -> bool {
        matches!(self, Self::Expiry | Self::Time | Self::Confidence)
    }
}

impl Condition {
    /// Returns what joining its bitmaps takes, among `live` rows.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
    pub(crate) fn work(&self, live: u64) -> [Work; 2] {
        [(Cost::Join, joined(self.rows, live)), (Cost::Probe, self.bitmaps as f64)]
    }
}

impl Statistics {
    /// Returns the number of the conditions that are kept as bitmaps, the first ones.
    #[must_use]
    pub(crate) fn mapped(&self) -> usize {
        self.conditions.iter().filter(|condition| condition.kind != Kind::Confidence).count()
    }

    /// Returns whether the counts are the answer to how many rows pass the conditions in `wanted`.
    #[must_use]
    pub(crate) fn is_counted(&self, wanted: u16) -> bool {
        let mut asked = self.conditions.iter().enumerate().filter(|(place, _)| wanted >> place & 1 == 1);
        match (asked.next(), asked.next()) {
            (None, _) => true,
            (Some((_, one)), None) => one.bitmaps <= 1 && !matches!(one.kind, Kind::Confidence | Kind::Time),
            _ => !self.sample.seen.is_empty() && self.sample.is_whole(),
        }
    }

    /// Estimates how many rows pass the conditions in `wanted`, a bit for each in their order.
    ///
    /// Counts where they suffice, else the sample. What the conditions would let pass if they were independent counts as one
    /// further row of the sample: so a sample without a hit says "few" and not "none".
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
    pub(crate) fn passing(&self, wanted: u16) -> f64 {
        let live = self.live as f64;
        let asked = || self.conditions.iter().enumerate().filter(|(place, _)| wanted >> place & 1 == 1);
        let most = asked().map(|(_, condition)| condition.rows as f64).fold(live, f64::min);
        if asked().count() < 2 && self.is_counted(wanted) {
            return most;
        }
        let share = |condition: &Condition| (condition.rows as f64 / live.max(1.0)).min(1.0);
        let independent = asked().map(|(_, condition)| share(condition)).product::<f64>() * live;
        if self.sample.seen.is_empty() {
            return independent.min(most);
        }
        let hits = self.sample.hits(wanted);
        let (from, seen) = (self.sample.from as f64, self.sample.seen.len() as f64);
        if self.sample.is_whole() {
            return hits;
        }
        let prior = (independent / from).min(1.0);
        (from * (hits + prior) / (seen + 1.0)).min(most)
    }
}

impl Sample {
    /// Returns whether it holds every row it stands for.
    #[must_use]
    pub(crate) fn is_whole(&self) -> bool {
        self.seen.len() as u64 == self.from
    }

    /// Returns the weight of the rows that pass the conditions in `wanted`.
    #[must_use]
    pub(crate) fn hits(&self, wanted: u16) -> f64 {
        self.seen.iter().filter(|seen| seen.passed & wanted == wanted).map(|seen| seen.weight).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Condition, Kind, Sample, Seen, Statistics};

    pub(crate) fn condition(kind: Kind, rows: u64) -> Condition {
        Condition { kind, detail: String::new(), rows, bitmaps: 1, keeps_all: false }
    }

    pub(crate) fn statistics(live: u64, conditions: Vec<Condition>) -> Statistics {
        Statistics {
            live,
            dimensions: 256,
            ranked: true,
            limit: 10,
            conditions,
            buckets: 100,
            pools: Vec::new(),
            words: None,
            sample: Sample::default(),
        }
    }

    fn seen(passed: u16, count: usize) -> Vec<Seen> {
        vec![Seen { weight: 1.0, passed }; count]
    }

    #[test]
    fn one_condition_is_counted() {
        let statistics = statistics(1_000, vec![condition(Kind::Category, 10)]);
        assert!(statistics.is_counted(1));
        assert_eq!((statistics.passing(0), statistics.passing(1)), (1_000.0, 10.0));
    }

    #[test]
    fn a_whole_sample_is_exact() {
        let mut statistics =
            statistics(1_000, vec![condition(Kind::Category, 4), condition(Kind::Pool, 500)]);
        statistics.sample = Sample { from: 4, seen: [seen(0b11, 3), seen(0b01, 1)].concat() };
        assert!(statistics.is_counted(0b11));
        assert_eq!(statistics.passing(0b11), 3.0);
    }

    #[test]
    fn a_sample_sees_what_independence_does_not() {
        let conditions = vec![condition(Kind::Category, 1_000), condition(Kind::Pool, 1_000)];
        let mut statistics = statistics(100_000, conditions);
        assert!((statistics.passing(0b11) - 10.0).abs() < 1e-9, "independent without a sample");
        statistics.sample = Sample { from: 1_000, seen: seen(0b11, 64) };
        assert!((statistics.passing(0b11) - 1_000.0).abs() < 20.0, "{}", statistics.passing(0b11));
        statistics.sample = Sample { from: 1_000, seen: seen(0b01, 64) };
        let few = statistics.passing(0b11);
        assert!(few > 0.0 && few < 1.0, "{few}");
    }

    #[test]
    fn a_row_of_two_names_counts_once() {
        let union = Condition { rows: 20, bitmaps: 2, ..condition(Kind::Pool, 20) };
        let mut statistics = statistics(1_000, vec![union]);
        assert!(!statistics.is_counted(1));
        statistics.sample = Sample { from: 20, seen: vec![Seen { weight: 0.5, passed: 1 }; 20] };
        assert_eq!(statistics.passing(1), 10.0);
    }
}
