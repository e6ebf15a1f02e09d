//! The calibrator: what each threshold brings on labelled pairs, and which one keeps a promise.

/// A judged pair with its label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labelled {
    /// The score, as [`Verdict::score`](super::Verdict::score): none if the texts are not near or a guard objects, and the answer is
    /// served at no threshold.
    pub score: Option<f32>,
    /// Whether both ask the same.
    pub same: bool,
}

/// A share with its interval at 95 % confidence, in percent (Wilson 1927).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The share itself; 0 of none.
    pub percent: f64,
    /// Lower end of the interval; 0 of none.
    pub low: f64,
    /// Upper end; 100 of none.
    pub high: f64,
}

/// What serving from a threshold upwards brings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The threshold.
    pub threshold: f32,
    /// Served, of the pairs that ask the same.
    pub kept: Share,
    /// Not served, of those that do not.
    pub rejected: Share,
    /// Served, of all.
    pub hits: Share,
    /// Not the same, of those served.
    pub false_hits: Share,
}

impl Share {
    /// Returns the share of `part` in `all`.
    #[must_use]
    pub fn of(part: usize, all: usize) -> Self {
        /// 97.5 % of a normal distribution lie below.
        const Z: f64 = 1.959_964;
        if all == 0 {
            return Self { percent: 0.0, low: 0.0, high: 100.0 };
        }
        let (share, all) = (part as f64 / all as f64, all as f64);
        let slack = Z * Z / all;
        let middle = share + slack / 2.0;
        let half = Z * (share * (1.0 - share) / all + slack / (4.0 * all)).sqrt();
        let percent = |value: f64| 100.0 * (value / (1.0 + slack)).clamp(0.0, 1.0);
        Self { percent: 100.0 * share, low: percent(middle - half), high: percent(middle + half) }
    }
}

/// Returns what serving from `threshold` upwards brings on `pairs`.
#[must_use]
pub fn at(pairs: &[Labelled], threshold: f32) -> Point {
    let served = |pair: &&Labelled| pair.score.is_some_and(|score| score >= threshold);
    let same = pairs.iter().filter(|pair| pair.same).count();
    let kept = pairs.iter().filter(|pair| pair.same).filter(served).count();
    let wrong = pairs.iter().filter(|pair| !pair.same).filter(served).count();
    let other = pairs.len() - same;
    Point {
        threshold,
        kept: Share::of(kept, same),
        rejected: Share::of(other - wrong, other),
        hits: Share::of(kept + wrong, pairs.len()),
        false_hits: Share::of(wrong, kept + wrong),
    }
}

/// Returns every threshold that changes something, from the lowest to the highest, with what it brings.
#[must_use]
pub fn curve(pairs: &[Labelled]) -> Vec<Point> {
    let mut sorted: Vec<Labelled> = pairs.iter().copied().filter(|pair| pair.score.is_some()).collect();
    sorted.sort_by(|one, other| one.score.unwrap_or_default().total_cmp(&other.score.unwrap_or_default()));
    let same = pairs.iter().filter(|pair| pair.same).count();
    let mut kept = sorted.iter().filter(|pair| pair.same).count();
    let mut wrong = sorted.len() - kept;
    let mut points = Vec::new();
    for group in sorted.chunk_by(|one, other| one.score == other.score) {
        points.push(Point {
            threshold: group[0].score.unwrap_or_default(),
            kept: Share::of(kept, same),
            rejected: Share::of(pairs.len() - same - wrong, pairs.len() - same),
            hits: Share::of(kept + wrong, pairs.len()),
            false_hits: Share::of(wrong, kept + wrong),
        });
        let gone = group.iter().filter(|pair| pair.same).count();
        kept -= gone;
        wrong -= group.len() - gone;
    }
    points
}

/// Returns the lowest threshold from which on the upper end of the false-hit rate stays within `most_false_percent`; none if no
/// threshold is that good, or the pairs are too few to tell.
#[must_use]
pub fn lowest_within(pairs: &[Labelled], most_false_percent: f64) -> Option<Point> {
    curve(pairs).into_iter().find(|point| point.false_hits.high <= most_false_percent)
}

#[cfg(test)]
mod tests {
    use super::{Labelled, Share, at, curve, lowest_within};

    fn pairs() -> Vec<Labelled> {
        let pair = |score: f32, same| Labelled { score: Some(score), same };
        let mut pairs: Vec<_> = (0..200).map(|i| pair(0.5 + i as f32 / 400.0, true)).collect();
        pairs.extend((0..100).map(|i| pair(i as f32 / 150.0, false)));
        pairs.push(Labelled { score: None, same: true });
        pairs
    }

    #[test]
    fn the_interval_is_wilsons() {
        let share = Share::of(8, 10);
        assert!((share.low - 49.02).abs() < 0.01 && (share.high - 94.33).abs() < 0.01, "{share:?}");
        assert_eq!(Share::of(0, 0), Share { percent: 0.0, low: 0.0, high: 100.0 });
        assert!(Share::of(10, 10).high > 99.99 && Share::of(0, 10).low < 0.01);
    }

    #[test]
    fn a_curve_agrees_with_each_of_its_points() {
        let pairs = pairs();
        let curve = curve(&pairs);
        assert!(curve.windows(2).all(|two| two[0].threshold < two[1].threshold));
        for point in &curve {
            assert_eq!(*point, at(&pairs, point.threshold));
        }
    }

    #[test]
    fn a_guarded_pair_is_kept_at_no_threshold() {
        assert!((at(&pairs(), -1.0).kept.percent - 100.0 * 200.0 / 201.0).abs() < 1e-9);
    }

    #[test]
    fn the_lowest_threshold_within_a_bound_is_found() {
        let pairs = pairs();
        let point = lowest_within(&pairs, 5.0).unwrap();
        assert!(point.false_hits.high <= 5.0);
        let before = curve(&pairs).into_iter().rfind(|other| other.threshold < point.threshold).unwrap();
        assert!(before.false_hits.high > 5.0 && before.kept.percent >= point.kept.percent);
        assert_eq!(lowest_within(&pairs[..3], 5.0), None);
    }
}
