//! The hit ratio a cache would have at other sizes.

/// Hit ratio as a function of size, piecewise linear between the sizes that were followed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// The reads it was seen over, later ones weighing more.
    pub reads: f64,
    /// The sizes followed, ascending.
    pub points: Vec<Point>,
}

/// One size and what it would bring.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Entries held.
    pub size: u64,
    /// Share of reads that would be answered, 0 to 1.
    pub hit_ratio: f64,
}

impl Curve {
    /// Returns the hit ratio at `size`: that of the first or last point outside of them.
    #[must_use]
    pub fn at(&self, size: u64) -> f64 {
        let above = self.points.partition_point(|point| point.size < size);
        match (above.checked_sub(1).and_then(|below| self.points.get(below)), self.points.get(above)) {
            (Some(low), Some(high)) => low.hit_ratio + (size - low.size) as f64 * slope(low, high),
            (Some(end), None) | (None, Some(end)) => end.hit_ratio,
            (None, None) => 0.0,
        }
    }

    /// Returns the best hit ratio of any size up to `most`.
    #[must_use]
    pub fn best(&self, most: u64) -> f64 {
        let within = self.points.iter().take_while(|point| point.size <= most);
        within.map(|point| point.hit_ratio).fold(self.at(most), f64::max)
    }

    /// Returns the smallest size of at most `most` whose hit ratio is at least `wanted`, or `most` if none is.
    #[must_use]
    pub fn smallest(&self, wanted: f64, most: u64) -> u64 {
        let Some(index) = self.points.iter().position(|point| point.hit_ratio >= wanted) else {
            return most;
        };
        let high = &self.points[index];
        let Some(low) = index.checked_sub(1).map(|below| &self.points[below]) else {
            return high.size.min(most);
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two sizes")]
        let step = ((wanted - low.hit_ratio) / slope(low, high)).round() as u64;
        (low.size + step).min(high.size).min(most)
    }

    /// Returns how much of a hit ratio one more entry at `size` is worth.
    #[must_use]
    pub fn per_entry(&self, size: u64) -> f64 {
        let above = self.points.partition_point(|point| point.size <= size);
        match (above.checked_sub(1).and_then(|below| self.points.get(below)), self.points.get(above)) {
            (Some(low), Some(high)) => slope(low, high),
            _ => 0.0,
        }
    }
}

/// Returns the hit ratio gained per entry between two points of different size.
fn slope(low: &Point, high: &Point) -> f64 {
    (high.hit_ratio - low.hit_ratio) / (high.size - low.size) as f64
}

#[cfg(test)]
mod tests {
    use super::{Curve, Point};

    fn curve(points: &[(u64, f64)]) -> Curve {
        let points = points.iter().map(|&(size, hit_ratio)| Point { size, hit_ratio }).collect();
        Curve { reads: 1_000.0, points }
    }

    #[test]
    fn it_is_linear_between_the_points_and_level_outside() {
        let curve = curve(&[(100, 0.2), (200, 0.4), (400, 0.4)]);
        let ratios = [50, 100, 150, 200, 300, 500].map(|size| curve.at(size));
        for (ratio, wanted) in ratios.iter().zip([0.2, 0.2, 0.3, 0.4, 0.4, 0.4]) {
            assert!((ratio - wanted).abs() < 1e-12, "{ratios:?}");
        }
        assert!((curve.per_entry(150) - 0.002).abs() < 1e-12);
        assert_eq!((curve.per_entry(200), curve.per_entry(400), curve.per_entry(50)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_smallest_size_is_the_first_that_brings_what_is_wanted() {
        let curve = curve(&[(100, 0.2), (200, 0.4), (400, 0.3), (800, 0.5)]);
        assert_eq!(curve.smallest(0.1, 800), 100);
        assert_eq!(curve.smallest(0.3, 800), 150);
        assert_eq!(curve.smallest(0.3, 120), 120, "it is not allowed more");
        assert_eq!(curve.smallest(0.45, 800), 700, "past a dip");
        assert_eq!(curve.smallest(0.9, 800), 800);
        assert!((curve.best(400) - 0.4).abs() < 1e-12);
        assert!((curve.best(800) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_empty_curve_promises_nothing() {
        let empty = Curve::default();
        assert_eq!(
            (empty.at(5), empty.best(5), empty.per_entry(5), empty.smallest(0.0, 5)),
            (0.0, 0.0, 0.0, 5)
        );
    }
}
