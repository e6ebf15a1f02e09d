//! How alike two vectors are, from the cosine of their angle and from their values.

use super::{code::Query, interval::Interval};

/// Share by which a bound is widened for what `f32` and `f64` round off on the way to it.
const ROUNDING: f64 = 1e-6;

/// How alike two vectors are; the greater, the more alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Cosine of the angle, -1 to 1; 0 where a vector is all zero.
    Cosine,
    /// Sum of products.
    Dot,
    /// The Euclidean distance, negated.
    Euclidean,
}

impl Metric {
    /// Returns whether a score depends on how long a row's vector is.
    pub(crate) fn needs_lengths(self) -> bool {
        self != Self::Cosine
    }

    /// Returns the score of `row`, computed in `f64`, as the nearest `f32`.
    #[expect(clippy::cast_possible_truncation, reason = "lengths are bounded by `VECTOR_LENGTHS`")]
    pub(crate) fn score(self, query: &Query, row: &[f32]) -> f32 {
        if self == Self::Euclidean {
            let [squares] = sums(query.values(), row, |left, right| [(left - right) * (left - right)]);
            // Adding zero turns -0.0 into 0.0, which sorts with it; here and below.
            return -squares.sqrt() as f32 + 0.0;
        }
        let [product, square] = sums(query.values(), row, |left, right| [left * right, right * right]);
        if self == Self::Dot {
            return product as f32 + 0.0;
        }
        let lengths = query.length() * square.sqrt();
        if lengths > 0.0 { (product / lengths).clamp(-1.0, 1.0) as f32 + 0.0 } else { 0.0 }
    }

    /// Returns between what the score of a row of `length` lies whose cosine lies in `cosine`; [`Metric::score`] does not leave it.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "lengths are bounded by `VECTOR_LENGTHS`")]
    pub(crate) fn interval(self, cosine: Interval, length: f32, query: f64) -> Interval {
        let (length, lower, upper) = (f64::from(length), f64::from(cosine.lower), f64::from(cosine.upper));
        match self {
            Self::Cosine => cosine,
            Self::Dot => {
                let (lower, upper) = (lower * length * query, upper * length * query);
                Interval {
                    lower: (lower - lower.abs() * ROUNDING) as f32 - f32::MIN_POSITIVE,
                    upper: (upper + upper.abs() * ROUNDING) as f32 + f32::MIN_POSITIVE,
                }
            }
            Self::Euclidean => {
                let (squares, twice) = (length * length + query * query, 2.0 * length * query);
                let slack = squares * ROUNDING;
                Interval {
                    lower: -((squares - twice * lower + slack).max(0.0).sqrt() as f32),
                    upper: -((squares - twice * upper - slack).max(0.0).sqrt() as f32),
                }
            }
        }
    }
}

/// Returns the sums over all pairs of values of what `of` makes of a pair; independent sums are what lets the compiler use vector
/// registers.
#[inline]
fn sums<const N: usize>(left: &[f32], right: &[f32], of: impl Fn(f64, f64) -> [f64; N]) -> [f64; N] {
    const LANES: usize = 8;
    let (left_lanes, left_rest) = left.as_chunks::<LANES>();
    let (right_lanes, right_rest) = right.as_chunks::<LANES>();
    let mut lanes = [[0.0; LANES]; N];
    for (left, right) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..LANES {
            let values = of(left[lane].into(), right[lane].into());
            (0..N).for_each(|sum| lanes[sum][lane] += values[sum]);
        }
    }
    let mut sums = lanes.map(|lanes| lanes.iter().sum());
    for (left, right) in left_rest.iter().zip(right_rest) {
        let values = of((*left).into(), (*right).into());
        (0..N).for_each(|sum| sums[sum] += values[sum]);
    }
    sums
}
