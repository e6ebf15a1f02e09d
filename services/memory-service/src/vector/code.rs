//! Vectors in 8 bits a value, and how far that is from the truth.

use super::{
    kernel::{Factors, half},
    sieve::Bound,
};
use crate::memory::length;

/// Greatest code of a value; the least is its negative.
const GREATEST: f64 = 127.0;

/// What is added to a code to make a byte of it.
const OFFSET: f64 = 128.0;

/// What the upper half of a byte stands for, at the middle of the sixteen bytes it may be: 16 times itself less this.
const MIDDLE: f64 = OFFSET - 7.5;

/// What a cosine may be off for what `f32` rounds off on the way to it: some eight roundings of values near 1.
pub(crate) const ROUNDING: f32 = 2e-6;

/// A vector in 8 bits a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Code {
    /// Upper half-bytes, two in a byte, as [`Kernel`](super::kernel::Kernel) takes them.
    pub(crate) upper: Vec<u8>,
    /// Lower half-bytes.
    pub(crate) lower: Vec<u8>,
    /// What a step of a code is worth in the vector of length 1; 0 if the vector is all zero.
    pub(crate) scale: f32,
    /// Length of what the upper halves alone leave out, rounded up.
    pub(crate) coarse: f32,
    /// Length of what the whole code leaves out, rounded up.
    pub(crate) fine: f32,
    /// Length of the vector itself.
    pub(crate) length: f32,
}

/// A vector that rows are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    values: Vec<f32>,
    length: f64,
    /// The vector of length 1 in 8 bits a value.
    pub(crate) factors: Factors,
    /// What a step of a factor is worth.
    pub(crate) scale: f32,
    /// Sum of the factors.
    pub(crate) sum: i32,
    /// Length of what the factors leave out, rounded up.
    pub(crate) rest: f32,
}

impl Code {
    /// Encodes `vector`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "codes are cut to -127 to 127, scales and lengths are bounded by `VECTOR_LENGTHS`"
    )]
    pub(crate) fn new(vector: &[f32]) -> Self {
        let half = half(vector.len());
        let length = length(vector);
        let scale = scale(vector, length);
        let step = f64::from(scale);
        // A code of zero, where there is no value: its factor is zero as well.
        let (mut upper, mut lower) = (vec![0x88; half], vec![0; half]);
        let (mut coarse, mut fine) = (0.0, 0.0);
        for (at, value) in vector.iter().enumerate() {
            let value = if length > 0.0 { f64::from(*value) / length } else { 0.0 };
            let code = code(value, step);
            let byte = (code + OFFSET) as u8;
            let (place, shift) = if at < half { (at, 0) } else { (at - half, 4) };
            upper[place] = upper[place] & !(15 << shift) | (byte >> 4) << shift;
            lower[place] |= (byte & 15) << shift;
            coarse += (value - step * (16.0 * f64::from(byte >> 4) - MIDDLE)).powi(2);
            fine += (value - step * code).powi(2);
        }
        let (coarse, fine) = (rounded_up(coarse), rounded_up(fine));
        Self { upper, lower, scale, coarse, fine, length: length as f32 }
    }
}

impl Query {
    /// Prepares `vector`.
    #[expect(clippy::cast_possible_truncation, reason = "codes are cut to -127 to 127")]
    pub(crate) fn new(vector: &[f32]) -> Self {
        let length = length(vector);
        let scale = scale(vector, length);
        let step = f64::from(scale);
        let mut rest = 0.0;
        let factors: Vec<i8> = vector
            .iter()
            .map(|value| {
                let value = if length > 0.0 { f64::from(*value) / length } else { 0.0 };
                let code = code(value, step);
                rest += (value - step * code).powi(2);
                code as i8
            })
            .collect();
        let sum = factors.iter().map(|factor| i32::from(*factor)).sum();
        let factors = Factors::new(&factors);
        Self { values: vector.to_vec(), length, factors, scale, sum, rest: rounded_up(rest) }
    }

    /// Returns the vector as it was given.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns twice what [`MIDDLE`] adds up to over all factors.
    #[inline]
    pub(crate) fn middle(&self) -> i32 {
        #[expect(clippy::cast_possible_truncation, reason = "241")]
        const TWICE_MIDDLE: i32 = (2.0 * MIDDLE) as i32;
        TWICE_MIDDLE * self.sum
    }

    /// Returns what a cosine with it may be, where the upper half of a code is known.
    pub(crate) fn bound(&self) -> Bound {
        // Twice the rounding, as this comes by another way to what it is compared with.
        let (share, radius) = (1.0 + self.rest, self.rest + 2.0 * ROUNDING);
        Bound { middle: self.middle(), each: 0.5 * self.scale, share, radius }
    }

    /// Returns the Euclidean length of the vector.
    pub(crate) fn length(&self) -> f64 {
        self.length
    }
}

/// Returns what a step of a code is worth for `vector` divided by its `length`.
#[expect(clippy::cast_possible_truncation, reason = "at most 1/127")]
fn scale(vector: &[f32], length: f64) -> f32 {
    let greatest = vector.iter().fold(0.0_f32, |greatest, value| greatest.max(value.abs()));
    if length > 0.0 { (f64::from(greatest) / length / GREATEST) as f32 } else { 0.0 }
}

fn code(value: f64, step: f64) -> f64 {
    if step > 0.0 { (value / step).round().clamp(-GREATEST, GREATEST) } else { 0.0 }
}

/// Returns the root of `square` as an `f32` that is no smaller.
#[expect(clippy::cast_possible_truncation, reason = "lengths of what is left of a vector of length 1")]
fn rounded_up(square: f64) -> f32 {
    if square > 0.0 { ((square.sqrt() * (1.0 + 1e-9)) as f32).next_up() } else { 0.0 }
}
