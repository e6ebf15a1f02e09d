//! What is done to single values and rows, in place and on the caller's thread.
//!
//! candle's own operations of this kind hand their work to one pool of the process that spins while it waits, one caller at a time:
//! encoders on several threads would wait for each other, and a core would burn meanwhile.

use candle_core::{CpuStorage, Error, InplaceOp1, InplaceOp2, Layout, Result, Tensor};

/// Values that are summed side by side.
const LANES: usize = 8;

/// Layer normalisation: Ba, Kiros, Hinton, "Layer Normalization", 2016.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) epsilon: f32,
}

struct One<F>(F);
struct Two<F>(F);

impl<F: Fn(&mut [f32])> InplaceOp1 for One<F> {
    fn name(&self) -> &'static str {
        "values"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        (self.0)(changing(storage, layout)?);
        Ok(())
    }
}

impl<F: Fn(&mut [f32], &[f32])> InplaceOp2 for Two<F> {
    fn name(&self) -> &'static str {
        "values"
    }

    fn cpu_fwd(
        &self,
        storage: &mut CpuStorage,
        layout: &Layout,
        other: &CpuStorage,
        other_layout: &Layout,
    ) -> Result<()> {
        let (start, end) = other_layout.contiguous_offsets().ok_or_else(scattered)?;
        (self.0)(changing(storage, layout)?, &other.as_slice()?[start..end]);
        Ok(())
    }
}

impl Norm {
    /// Adds `others` and `bias` to each row of `values`, and gives it mean 0 and variance 1, stretched by the weights.
    pub(super) fn add(&self, values: &Tensor, others: &Tensor, bias: &[f32]) -> Result<()> {
        let width = self.weight.len();
        let change = |values: &mut [f32], others: &[f32]| {
            for (row, others) in values.chunks_exact_mut(width).zip(others.chunks_exact(width)) {
                for ((value, other), bias) in row.iter_mut().zip(others).zip(bias) {
                    *value += other + bias;
                }
                self.normalise(row);
            }
        };
        values.inplace_op2(others, &Two(change))
    }

    fn normalise(&self, row: &mut [f32]) {
        #[expect(clippy::cast_precision_loss, reason = "a row has a few thousand values")]
        let count = row.len() as f32;
        let mean = sum(row, |value| value) / count;
        let variance = sum(row, |value| (value - mean) * (value - mean)) / count;
        let scale = 1.0 / (variance + self.epsilon).sqrt();
        for ((value, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
            *value = (*value - mean) * scale * weight + bias;
        }
    }
}

/// Adds `bias` to each row.
pub(super) fn add(values: &Tensor, bias: &[f32]) -> Result<()> {
    values.inplace_op1(&One(|values: &mut [f32]| {
        for row in values.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
    }))
}

/// Adds `bias` to each row and applies GELU: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
pub(super) fn add_gelu(values: &Tensor, bias: &[f32]) -> Result<()> {
    values.inplace_op1(&One(|values: &mut [f32]| {
        for row in values.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value = gelu(*value + bias));
        }
    }))
}

/// Scales each row of `width` values and turns it into shares: `exp(x) / sum of exp`.
pub(super) fn shares(values: &Tensor, width: usize, scale: f32) -> Result<()> {
    values.inplace_op1(&One(|values: &mut [f32]| {
        for row in values.chunks_exact_mut(width) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|value| *value = ((*value - largest) * scale).exp());
            let total = sum(row, |value| value);
            row.iter_mut().for_each(|value| *value /= total);
        }
    }))
}

fn gelu(value: f32) -> f32 {
    0.5 * value * (1.0 + erf(value * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function to 5 · 10⁻⁷, without a branch, so that several are computed at once: the rational minimax approximation on
/// ±4 of Eigen's and XLA's single precision.
fn erf(value: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_4e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];
    let value = value.clamp(-4.0, 4.0);
    let square = value * value;
    let polynomial = |terms: &[f32]| terms.iter().fold(0.0, |sum: f32, term| sum * square + term);
    value * polynomial(&ABOVE) / polynomial(&BELOW)
}

fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for lane in lanes {
        sums.iter_mut().zip(lane).for_each(|(sum, value)| *sum += of(*value));
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| of(*value)).sum::<f32>()
}

fn changing<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(scattered)?;
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        _ => Err(Error::Msg("values are no f32".to_owned())),
    }
}

fn scattered() -> Error {
    Error::Msg("values do not follow each other".to_owned())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn rows(values: &[f32], width: usize) -> Tensor {
        Tensor::from_slice(values, (values.len() / width, width), &Device::Cpu).unwrap()
    }

    fn values(rows: &Tensor) -> Vec<f32> {
        rows.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn gelu_is_that_of_its_definition() {
        let given: Vec<f32> = (-800..=800_i16).map(|step| f32::from(step) / 100.0).collect();
        let ours = rows(&given, 1);
        add_gelu(&ours, &[0.0]).unwrap();
        let exact: Vec<f32> = rows(&given, 1).gelu_erf().unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for ((given, ours), exact) in given.iter().zip(values(&ours)).zip(exact) {
            assert!((ours - exact).abs() < 2e-6, "{given}: {ours} {exact}");
        }
    }

    #[test]
    fn a_normalised_row_has_mean_zero_and_variance_one() {
        let given: Vec<f32> = (0..40_u8).map(|step| f32::from(step % 7) * 3.0).collect();
        let matrix = rows(&given, 20);
        let norm = Norm { weight: vec![1.0; 20], bias: vec![0.0; 20], epsilon: 0.0 };
        norm.add(&matrix, &rows(&[1.0; 40], 20), &[0.5; 20]).unwrap();
        for row in values(&matrix).chunks(20) {
            let mean = row.iter().sum::<f32>() / 20.0;
            let variance = row.iter().map(|value| value * value).sum::<f32>() / 20.0;
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");
        }
    }

    #[test]
    fn shares_add_up_to_one_and_follow_the_values() {
        let matrix = rows(&[1.0, 3.0, 500.0, 500.0], 2);
        shares(&matrix, 2, 0.5).unwrap();
        let found = values(&matrix);
        assert!((found[1] / found[0] - 1.0_f32.exp()).abs() < 1e-5, "{found:?}");
        assert!((found[0] + found[1] - 1.0).abs() < 1e-6 && (found[2] - 0.5).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_bias_goes_to_every_row() {
        let matrix = rows(&[1.0, 2.0, 3.0, 4.0], 2);
        add(&matrix, &[10.0, 20.0]).unwrap();
        assert_eq!(values(&matrix), [11.0, 22.0, 13.0, 24.0]);
    }
}
