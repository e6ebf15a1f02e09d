//! Products of a query with half-bytes: what a scan spends its time on.
//!
//! A byte of a plane holds the half-bytes of two values, that of value `i` below and that of value `half + i` above. The
//! instructions are chosen when the program starts; whichever they are, the sums are whole numbers and equal.

use fearless_simd::{Level, dispatch, kernel, prelude::*};

/// Bytes of a row of a plane are a multiple of this.
pub(crate) const STEP: usize = 32;

/// Sums products with the widest instructions that the processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel(Level);

/// A query in 8 bits a value, as [`Kernel`] multiplies it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Factors {
    /// Those of the values whose half-bytes lie below.
    low: Vec<i8>,
    /// Those of the values whose half-bytes lie above.
    high: Vec<i8>,
}

impl Factors {
    /// Takes factors from -127 to 127, filled up with zeros to as many as two rows of a plane have bytes.
    pub(crate) fn new(values: &[i8]) -> Self {
        let half = half(values.len());
        let mut low = values[..values.len().min(half)].to_vec();
        let mut high = values[low.len()..].to_vec();
        low.resize(half, 0);
        high.resize(half, 0);
        Self { low, high }
    }
}

/// Returns the bytes of a row of a plane for vectors of `dimensions` values.
pub(crate) fn half(dimensions: usize) -> usize {
    dimensions.div_ceil(2).next_multiple_of(STEP)
}

impl Kernel {
    /// Takes the widest instructions there are.
    pub(crate) fn detect() -> Self {
        Self(Level::new())
    }

    /// Returns which they are.
    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// Takes those that every processor of the target has.
    #[cfg(test)]
    pub(crate) fn baseline() -> Self {
        Self(Level::baseline())
    }

    /// Writes for each of `rows` of `plane` the sum of its half-bytes, each times its factor.
    pub(crate) fn products(self, plane: &[u8], factors: &Factors, rows: &[u16], sums: &mut [i32]) {
        let Factors { low, high } = factors;
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            if let Some(level) = self.0.as_avx512() {
                return x86::wide(level, plane, low, high, rows, sums);
            }
            if let Some(level) = self.0.as_avx2() {
                return x86::middle(level, plane, low, high, rows, sums);
            }
            if let Some(level) = self.0.as_sse4_2() {
                return x86::narrow(level, plane, low, high, rows, sums);
            }
        }
        dispatch!(self.0, simd => simd.vectorize(#[inline(always)] || plain(plane, low, high, rows, sums)));
    }

    /// Returns the sum of the words of `bytes`, as fast as they can be read: what a scan is measured against.
    #[cfg(feature = "bench")]
    pub(crate) fn read_through(self, bytes: &[u8]) -> u64 {
        dispatch!(self.0, simd => simd.vectorize(#[inline(always)] || {
            let words = bytes.as_chunks::<8>().0.iter();
            words.fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
        }))
    }
}

/// The definition, in a form that any instructions can take.
#[inline(always)]
fn plain(plane: &[u8], low: &[i8], high: &[i8], rows: &[u16], sums: &mut [i32]) {
    const LANES: usize = 16;
    let half = low.len();
    let (low, high) = (low.as_chunks::<LANES>().0, high.as_chunks::<LANES>().0);
    for (row, sum) in rows.iter().zip(sums) {
        let bytes = plane[usize::from(*row) * half..][..half].as_chunks::<LANES>().0;
        *sum = 0;
        for ((bytes, low), high) in bytes.iter().zip(low).zip(high) {
            let mut parts = [0_i16; LANES];
            for lane in 0..LANES {
                // At most 2 · 15 · 127.
                parts[lane] = i16::from(bytes[lane] & 15) * i16::from(low[lane])
                    + i16::from(bytes[lane] >> 4) * i16::from(high[lane]);
            }
            *sum += parts.iter().map(|part| i32::from(*part)).sum::<i32>();
        }
    }
}

/// The same with the instruction each level has for products of bytes.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod x86 {
    #[cfg(target_arch = "x86")]
    use std::arch::x86::*;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;

    use fearless_simd::{i8x16, i8x32, i8x64, u8x16, u8x32, u8x64};

    use super::*;

    kernel!(
        pub(super) fn wide(
            level: Avx512,
            plane: &[u8],
            low: &[i8],
            high: &[i8],
            rows: &[u16],
            sums: &mut [i32],
        ) {
            let half = low.len();
            let (mask, short_mask) = (_mm512_set1_epi8(15), _mm256_set1_epi8(15));
            let (low, low_rest) = low.as_chunks::<64>();
            let (high, high_rest) = high.as_chunks::<64>();
            for (row, sum) in rows.iter().zip(sums) {
                let (bytes, rest) = plane[usize::from(*row) * half..][..half].as_chunks::<64>();
                let (mut below, mut above) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                for ((bytes, low), high) in bytes.iter().zip(low).zip(high) {
                    let bytes: __m512i = u8x64::from_slice(level, bytes).into();
                    let low: __m512i = i8x64::from_slice(level, low).into();
                    let high: __m512i = i8x64::from_slice(level, high).into();
                    below = _mm512_dpbusd_epi32(below, _mm512_and_si512(bytes, mask), low);
                    let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
                    above = _mm512_dpbusd_epi32(above, upper, high);
                }
                *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(below, above));
                if rest.len() == super::STEP {
                    let bytes: __m256i = u8x32::from_slice(level, rest).into();
                    let low: __m256i = i8x32::from_slice(level, low_rest).into();
                    let high: __m256i = i8x32::from_slice(level, high_rest).into();
                    let lower = _mm256_and_si256(bytes, short_mask);
                    let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), short_mask);
                    let below = _mm256_dpbusd_epi32(_mm256_setzero_si256(), lower, low);
                    *sum += total(_mm256_dpbusd_epi32(below, upper, high));
                }
            }
        }
    );

    kernel!(
        pub(super) fn middle(
            level: Avx2,
            plane: &[u8],
            low: &[i8],
            high: &[i8],
            rows: &[u16],
            sums: &mut [i32],
        ) {
            let half = low.len();
            let (mask, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
            let (low, high) = (low.as_chunks::<32>().0, high.as_chunks::<32>().0);
            for (row, sum) in rows.iter().zip(sums) {
                let bytes = plane[usize::from(*row) * half..][..half].as_chunks::<32>().0;
                let mut parts = _mm256_setzero_si256();
                for ((bytes, low), high) in bytes.iter().zip(low).zip(high) {
                    let bytes: __m256i = u8x32::from_slice(level, bytes).into();
                    let low: __m256i = i8x32::from_slice(level, low).into();
                    let high: __m256i = i8x32::from_slice(level, high).into();
                    let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                    let below = _mm256_maddubs_epi16(_mm256_and_si256(bytes, mask), low);
                    let pairs = _mm256_add_epi16(below, _mm256_maddubs_epi16(upper, high));
                    parts = _mm256_add_epi32(parts, _mm256_madd_epi16(pairs, ones));
                }
                *sum = total(parts);
            }
        }
    );

    kernel!(
        pub(super) fn narrow(
            level: Sse4_2,
            plane: &[u8],
            low: &[i8],
            high: &[i8],
            rows: &[u16],
            sums: &mut [i32],
        ) {
            let half = low.len();
            let (mask, ones) = (_mm_set1_epi8(15), _mm_set1_epi16(1));
            let (low, high) = (low.as_chunks::<16>().0, high.as_chunks::<16>().0);
            for (row, sum) in rows.iter().zip(sums) {
                let bytes = plane[usize::from(*row) * half..][..half].as_chunks::<16>().0;
                let mut parts = _mm_setzero_si128();
                for ((bytes, low), high) in bytes.iter().zip(low).zip(high) {
                    let bytes: __m128i = u8x16::from_slice(level, bytes).into();
                    let low: __m128i = i8x16::from_slice(level, low).into();
                    let high: __m128i = i8x16::from_slice(level, high).into();
                    let upper = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
                    let below = _mm_maddubs_epi16(_mm_and_si128(bytes, mask), low);
                    let pairs = _mm_add_epi16(below, _mm_maddubs_epi16(upper, high));
                    parts = _mm_add_epi32(parts, _mm_madd_epi16(pairs, ones));
                }
                let parts = _mm_add_epi32(parts, _mm_shuffle_epi32::<0b01_00_11_10>(parts));
                *sum = _mm_cvtsi128_si32(_mm_add_epi32(parts, _mm_shuffle_epi32::<0b10_11_00_01>(parts)));
            }
        }
    );

    #[target_feature(enable = "avx2")]
    fn total(parts: __m256i) -> i32 {
        let parts = _mm_add_epi32(_mm256_castsi256_si128(parts), _mm256_extracti128_si256::<1>(parts));
        let parts = _mm_add_epi32(parts, _mm_shuffle_epi32::<0b01_00_11_10>(parts));
        _mm_cvtsi128_si32(_mm_add_epi32(parts, _mm_shuffle_epi32::<0b10_11_00_01>(parts)))
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::Level;
    use proptest::{collection::vec, prelude::*};

    use super::{Factors, Kernel, half};

    /// Every level this processor has.
    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::new(), Level::baseline()];
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            levels.extend(Level::new().as_avx2().map(Level::Avx2));
            levels.extend(Level::new().as_sse4_2().map(Level::Sse4_2));
            levels.extend(Level::new().as_sse2().map(Level::Sse2));
        }
        levels
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_level_sums_what_the_definition_says(
            (factors, plane, rows) in (1..=4096_usize).prop_flat_map(|dimensions| (
                vec(-127..=127_i8, dimensions), vec(any::<u8>(), half(dimensions) * 5), vec(0..5_u16, 0..9),
            )),
        ) {
            let half = half(factors.len());
            let factor = |value: usize| factors.get(value).map_or(0, |factor| i32::from(*factor));
            let expected: Vec<i32> = rows.iter().map(|row| {
                let bytes = plane[usize::from(*row) * half..][..half].iter().enumerate();
                bytes.map(|(at, byte)| {
                    i32::from(byte & 15) * factor(at) + i32::from(byte >> 4) * factor(half + at)
                }).sum()
            }).collect();
            for level in levels() {
                let mut sums = vec![0; rows.len()];
                Kernel(level).products(&plane, &Factors::new(&factors), &rows, &mut sums);
                prop_assert_eq!(&sums, &expected, "{:?}", level);
            }
        }
    }

    #[test]
    fn the_greatest_products_of_the_longest_vectors_do_not_overflow() {
        for sign in [-1_i8, 1] {
            let factors = Factors::new(&[127 * sign; 4096]);
            for level in levels() {
                let mut sums = [0];
                Kernel(level).products(&[255; 2048], &factors, &[0], &mut sums);
                assert_eq!(sums, [15 * 127 * 4096 * i32::from(sign)], "{level:?}");
            }
        }
    }
}
