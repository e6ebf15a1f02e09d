//! What the parts of a recall's work take, learned from what they took.

use std::{fmt::Write as _, time::Duration};

/// A kind of work, of which [`Costs`] says what one unit takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Reading one row of a walked bitmap.
    Walk,
    /// Asking one condition about one row.
    Probe,
    /// Joining one row of a bitmap with another bitmap, as [`joined`] counts them.
    Join,
    /// Looking at one value of a column.
    Column,
    /// Multiplying one value of a vector.
    Value,
    /// Putting one row in its order.
    Order,
    /// Beginning a partition.
    Part,
    /// Starting a thread.
    Thread,
}

/// How much of a kind of work.
pub(crate) type Work = (Cost, f64);

/// Nanoseconds that one unit of each kind of work takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Costs([f64; Cost::ALL.len()]);

/// How much of an error one run corrects.
const LEARNED: f64 = 0.1;
/// Most by which one run counts as wrong, either way: a thread that had to wait for a core says nothing of the work.
const FARTHEST: f64 = 4.0;
/// Shortest time that is learned from: below, the clock is a good part of it.
const SHORTEST: Duration = Duration::from_micros(2);
/// Within which a cost stays, in nanoseconds.
const BOUNDS: (f64, f64) = (1e-3, 1e6);
/// First line of the kept form.
const HEADER: &str = "plan costs 1";
/// Rows of a bitmap's container from which on it takes the same time however many it has, and the row numbers of one.
const CONTAINER: (u64, u64) = (4096, 65_536);

impl Cost {
    pub(crate) const ALL: [Self; 8] = [
        Self::Walk,
        Self::Probe,
        Self::Join,
        Self::Column,
        Self::Value,
        Self::Order,
        Self::Part,
        Self::Thread,
    ];

    /// Returns its name.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Probe => "probe",
            Self::Join => "join",
            Self::Column => "column",
            Self::Value => "value",
            Self::Order => "order",
            Self::Part => "part",
            Self::Thread => "thread",
        }
    }

    /// What a unit takes before anything was measured, in nanoseconds: a machine of 2024 on one core.
    fn first(self) -> f64 {
        match self {
            Self::Walk => 4.0,
            Self::Probe => 15.0,
            Self::Join => 0.5,
            Self::Column => 4.0,
            Self::Value => 0.15,
            Self::Order => 15.0,
            Self::Part => 200.0,
            Self::Thread => 30_000.0,
        }
    }
}

impl Default for Costs {
    fn default() -> Self {
        Self(Cost::ALL.map(Cost::first))
    }
}

impl Costs {
    /// Returns nanoseconds of one unit.
    #[must_use]
    pub(crate) fn of(&self, cost: Cost) -> f64 {
        self.0[cost as usize]
    }

    /// Estimates what `work` takes.
    #[must_use]
    pub(crate) fn estimate(&self, work: &[Work]) -> Duration {
        Duration::from_secs_f64(self.nanoseconds(work).clamp(0.0, 1e15) / 1e9)
    }

    /// Learns that `work` took `duration`: every kind is corrected by its share of the whole.
    pub(crate) fn learn(&mut self, work: &[Work], duration: Duration) {
        let expected = self.nanoseconds(work);
        if duration < SHORTEST || expected <= 0.0 {
            return;
        }
        let error = (duration.as_secs_f64() * 1e9 / expected).clamp(1.0 / FARTHEST, FARTHEST);
        let whole = *self;
        for (cost, units) in work {
            let share = whole.of(*cost) * units / expected;
            let corrected = self.of(*cost) * error.powf(LEARNED * share);
            self.0[*cost as usize] = corrected.clamp(BOUNDS.0, BOUNDS.1);
        }
    }

    /// Returns each kind of work with the nanoseconds of one unit.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        Cost::ALL.into_iter().zip(self.0).map(|(cost, value)| (cost.as_str(), value))
    }

    /// Writes them as text, to be kept.
    #[must_use]
    pub(crate) fn to_text(self) -> String {
        let mut text = format!("{HEADER}\n");
        for (name, value) in self.named() {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }

    /// Reads what [`Costs::to_text`] wrote; nothing where it is anything else. A kind that it lacks has its first cost.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return None;
        }
        let mut costs = Self::default();
        for line in lines {
            let (name, value) = line.split_once(' ')?;
            let value: f64 = value.parse().ok().filter(|value| (BOUNDS.0..=BOUNDS.1).contains(value))?;
            if let Some(cost) = Cost::ALL.into_iter().find(|cost| cost.as_str() == name) {
                costs.0[cost as usize] = value;
            }
        }
        Some(costs)
    }

    fn nanoseconds(&self, work: &[Work]) -> f64 {
        work.iter().map(|(cost, units)| self.of(*cost) * units).sum()
    }
}

/// Returns what joining a bitmap of `rows` among `span` row numbers counts as: its rows, or as many as full containers take.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
pub(crate) fn joined(rows: u64, span: u64) -> f64 {
    rows.min(span.div_ceil(CONTAINER.1) * CONTAINER.0) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cost, Costs, joined};

    #[test]
    fn costs_come_to_what_work_takes() {
        let mut costs = Costs::default();
        let work = [(Cost::Value, 1e6), (Cost::Order, 1e3)];
        for _ in 0..200 {
            costs.learn(&work, Duration::from_micros(500));
        }
        let learned = costs.estimate(&work).as_secs_f64() / 500e-6;
        assert!((learned - 1.0).abs() < 0.05, "{learned}");
        assert!(
            costs.of(Cost::Order) < 2.0 * Cost::Order.first(),
            "a small part of the work is blamed for little"
        );
        assert_eq!(costs.of(Cost::Walk), Costs::default().of(Cost::Walk));
    }

    #[test]
    fn one_slow_run_moves_little_and_a_short_one_nothing() {
        let mut costs = Costs::default();
        costs.learn(&[(Cost::Value, 1e6)], Duration::from_secs(10));
        assert!(costs.of(Cost::Value) < 1.2 * Costs::default().of(Cost::Value));
        let before = costs;
        costs.learn(&[(Cost::Value, 1.0)], Duration::from_nanos(900));
        assert_eq!(costs, before);
    }

    #[test]
    fn what_is_kept_is_read_again_and_anything_else_refused() {
        let mut costs = Costs::default();
        costs.learn(&[(Cost::Value, 1e6)], Duration::from_millis(1));
        assert_eq!(Costs::parse(&costs.to_text()), Some(costs));
        let missing = Costs::parse("plan costs 1\nvalue 0.5\n").unwrap();
        assert_eq!((missing.of(Cost::Value), missing.of(Cost::Walk)), (0.5, Cost::Walk.first()));
        for bad in [
            "",
            "plan costs 2\n",
            "plan costs 1\nvalue\n",
            "plan costs 1\nvalue NaN\n",
            "plan costs 1\nvalue -1\n",
        ] {
            assert_eq!(Costs::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_full_bitmap_takes_no_more_than_its_containers() {
        assert_eq!(joined(100, 1_000_000), 100.0);
        assert_eq!(joined(1_000_000, 1_000_000), 65_536.0);
    }
}
