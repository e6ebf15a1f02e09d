//! Leaves out rows that are far off, in a few instructions each: what is left is looked at one by one.

use fearless_simd::{dispatch, prelude::*};

use super::kernel::Kernel;

/// Rows of a step.
const LANES: usize = 16;

/// No less than the cosine of a row of which the upper half of its code is known: `(32 · upper - middle) · each · scale + coarse · share +
/// radius`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) middle: i32,
    pub(crate) each: f32,
    pub(crate) share: f32,
    pub(crate) radius: f32,
}

/// What is known of each row of a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) scales: &'a [f32],
    pub(crate) coarse: &'a [f32],
}

impl Bound {
    #[inline(always)]
    fn of(&self, upper: i32, scale: f32, coarse: f32) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "`radius` covers it")]
        let product = (32 * upper - self.middle) as f32;
        product * (self.each * scale) + coarse * self.share + self.radius
    }

    /// Puts into `passed` where in `places` the rows are whose bound reaches `needed`; `uppers` says of each what its upper half does.
    pub(crate) fn sieve(
        self,
        kernel: Kernel,
        columns: Columns<'_>,
        places: &[u16],
        uppers: &[i32],
        needed: f32,
        passed: &mut Vec<u16>,
    ) {
        passed.clear();
        dispatch!(kernel.level(), simd => simd.vectorize(
            #[inline(always)] || self.pass(columns, places, uppers, needed, passed)
        ));
    }

    #[inline(always)]
    fn pass(self, columns: Columns<'_>, places: &[u16], uppers: &[i32], needed: f32, passed: &mut Vec<u16>) {
        let (places, last_places) = places.as_chunks::<LANES>();
        let (uppers, last_uppers) = uppers.as_chunks::<LANES>();
        let mut first = 0;
        for (places, uppers) in places.iter().zip(uppers) {
            let [scales, coarse] = columns.of(places);
            let mut reach = 0_u32;
            for lane in 0..LANES {
                reach |= u32::from(self.of(uppers[lane], scales[lane], coarse[lane]) >= needed) << lane;
            }
            while reach != 0 {
                #[expect(clippy::cast_possible_truncation, reason = "less than 16")]
                passed.push(first + reach.trailing_zeros() as u16);
                reach &= reach - 1;
            }
            #[expect(clippy::cast_possible_truncation, reason = "a chunk has at most 1024 rows")]
            {
                first += LANES as u16;
            }
        }
        for (at, (place, upper)) in (first..).zip(last_places.iter().zip(last_uppers)) {
            let place = usize::from(*place);
            if self.of(*upper, columns.scales[place], columns.coarse[place]) >= needed {
                passed.push(at);
            }
        }
    }
}

impl Columns<'_> {
    /// Returns both of some rows, which are read at once if they follow each other.
    #[inline(always)]
    fn of(self, places: &[u16; LANES]) -> [[f32; LANES]; 2] {
        let first = usize::from(places[0]);
        if usize::from(places[LANES - 1]) == first + LANES - 1
            && let (Some(scales), Some(coarse)) =
                (self.scales[first..].first_chunk(), self.coarse[first..].first_chunk())
        {
            return [*scales, *coarse];
        }
        [self.scales, self.coarse].map(|column| places.map(|place| column[usize::from(place)]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{Bound, Columns, Kernel};

    proptest! {
        #[test]
        fn rows_pass_whose_bound_reaches_what_is_needed(
            rows in vec((0.0_f32..0.01, 0.0_f32..0.3, -20_000_i32..20_000, any::<bool>()), 0..100),
            needed in -2.0_f32..2.0,
        ) {
            let bound = Bound { middle: 100, each: 0.02, share: 1.1, radius: 0.01 };
            let (scales, coarse): (Vec<f32>, Vec<f32>) = rows.iter().map(|row| (row.0, row.1)).unzip();
            let columns = Columns { scales: &scales, coarse: &coarse };
            let asked: Vec<(u16, i32)> =
                (0..).zip(&rows).filter(|(_, row)| row.3).map(|(place, row)| (place, row.2)).collect();
            let (places, uppers): (Vec<u16>, Vec<i32>) = asked.into_iter().unzip();
            let reaches = |at: &u16| {
                let place = usize::from(places[usize::from(*at)]);
                bound.of(uppers[usize::from(*at)], scales[place], coarse[place]) >= needed
            };
            let expected: Vec<u16> = (0..).take(places.len()).filter(reaches).collect();
            for kernel in [Kernel::detect(), Kernel::baseline()] {
                let mut passed = vec![7];
                bound.sieve(kernel, columns, &places, &uppers, needed, &mut passed);
                prop_assert_eq!(&passed, &expected);
            }
        }
    }
}
