//! The encoder itself: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
//!
//! Texts are packed: their tokens are the rows of one matrix, without padding, so that no row is computed for nothing and every
//! weight is read once for all texts. Only attention looks at one text at a time; texts of the same length share a step.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::{
    files::Shape,
    values::{Norm, add, add_gelu, shares},
};

/// A BERT encoder whose vectors are the means of their tokens.
pub(super) struct Bert {
    words: Tensor,
    positions: Tensor,
    /// That of the only segment.
    segment: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
}

struct Layer {
    /// Query, key and value in one.
    attention: Linear,
    attended: Linear,
    attended_norm: Norm,
    wide: Linear,
    narrow: Linear,
    norm: Norm,
}

struct Linear {
    /// inputs × outputs
    weight: Tensor,
    bias: Vec<f32>,
}

/// Texts of one length that follow each other in the matrix.
struct Run {
    start: usize,
    texts: usize,
    tokens: usize,
}

impl Bert {
    /// Takes the weights out of a safetensors file.
    ///
    /// # Errors
    /// If one is missing or of another shape.
    pub(super) fn load(shape: &Shape, weights: &[u8]) -> Result<Self> {
        let all = VarBuilder::from_slice_safetensors(weights, DType::F32, &Device::Cpu)?;
        let is_inner = all.contains_tensor("bert.embeddings.word_embeddings.weight");
        let all = if is_inner { all.pp("bert") } else { all };
        let input = all.pp("embeddings");
        let table = |rows, name: &str| input.get((rows, shape.hidden_size), name);
        let layer = |number| Layer::load(shape, &all.pp("encoder.layer").pp(number));
        Ok(Self {
            words: table(shape.vocab_size, "word_embeddings.weight")?,
            positions: table(shape.max_position_embeddings, "position_embeddings.weight")?,
            segment: table(shape.type_vocab_size, "token_type_embeddings.weight")?.get(0)?.to_vec1()?,
            norm: norm(shape, &input.pp("LayerNorm"))?,
            layers: (0..shape.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            heads: shape.num_attention_heads,
        })
    }

    /// Maps each text, given by its tokens, to the mean of their vectors, in order. Texts of one length should be neighbours.
    pub(super) fn encode(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let runs = runs(texts);
        let positions = texts.iter().flat_map(|text| (0..).zip(*text).map(|(position, _)| position));
        let mut matrix = rows(&self.words, texts.concat())?;
        self.norm.add(&matrix, &rows(&self.positions, positions.collect())?, &self.segment)?;
        for layer in &self.layers {
            matrix = layer.forward(&matrix, &runs, self.heads)?;
        }
        let width = matrix.dim(1)?;
        let mut values = &matrix.flatten_all()?.to_vec1::<f32>()?[..];
        let next_mean = |text: &&[u32]| {
            let (own, rest) = values.split_at(text.len() * width);
            values = rest;
            mean(own, width)
        };
        Ok(texts.iter().map(next_mean).collect())
    }
}

impl Layer {
    fn load(shape: &Shape, all: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, wide) = (shape.hidden_size, shape.intermediate_size);
        let own = all.pp("attention.self");
        let part = |name: &str| Linear::load(hidden, hidden, &own.pp(name));
        let [query, key, value] = [part("query")?, part("key")?, part("value")?];
        let attention = Linear {
            weight: Tensor::cat(&[&query.weight, &key.weight, &value.weight], 1)?,
            bias: [query.bias, key.bias, value.bias].concat(),
        };
        Ok(Self {
            attention,
            attended: Linear::load(hidden, hidden, &all.pp("attention.output.dense"))?,
            attended_norm: norm(shape, &all.pp("attention.output.LayerNorm"))?,
            wide: Linear::load(hidden, wide, &all.pp("intermediate.dense"))?,
            narrow: Linear::load(wide, hidden, &all.pp("output.dense"))?,
            norm: norm(shape, &all.pp("output.LayerNorm"))?,
        })
    }

    fn forward(&self, matrix: &Tensor, runs: &[Run], heads: usize) -> Result<Tensor> {
        let parts = matrix.matmul(&self.attention.weight)?;
        add(&parts, &self.attention.bias)?;
        let attended: Vec<Tensor> =
            runs.iter().map(|run| run.attend(&parts, heads)).collect::<Result<_>>()?;
        let seen = Tensor::cat(&attended, 0)?.matmul(&self.attended.weight)?;
        self.attended_norm.add(&seen, matrix, &self.attended.bias)?;
        let wide = seen.matmul(&self.wide.weight)?;
        add_gelu(&wide, &self.wide.bias)?;
        let next = wide.matmul(&self.narrow.weight)?;
        self.norm.add(&next, &seen, &self.narrow.bias)?;
        Ok(next)
    }
}

impl Linear {
    fn load(inputs: usize, outputs: usize, all: &VarBuilder<'_>) -> Result<Self> {
        let weight = all.get((outputs, inputs), "weight")?.t()?.contiguous()?;
        Ok(Self { weight, bias: all.get(outputs, "bias")?.to_vec1()? })
    }
}

impl Run {
    /// Lets every token of a text look at every other, a head at a time; returns rows again.
    fn attend(&self, parts: &Tensor, heads: usize) -> Result<Tensor> {
        let width = parts.dim(1)? / 3;
        let part = |number: usize| -> Result<Tensor> {
            let part = parts.narrow(0, self.start, self.texts * self.tokens)?;
            let part = part.narrow(1, number * width, width)?;
            // texts × heads × tokens × width of a head
            part.reshape((self.texts, self.tokens, heads, width / heads))?.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        #[expect(clippy::cast_precision_loss, reason = "a head is a few hundred components wide")]
        let scale = 1.0 / ((width / heads) as f32).sqrt();
        let weights = query.matmul(&key.transpose(2, 3)?)?;
        shares(&weights, self.tokens, scale)?;
        weights.matmul(&value)?.transpose(1, 2)?.reshape((self.texts * self.tokens, width))
    }
}

/// Gathers neighbours of the same length.
fn runs(texts: &[&[u32]]) -> Vec<Run> {
    let mut start = 0;
    let of_one_length = |same: &[&[u32]]| {
        let run = Run { start, texts: same.len(), tokens: same[0].len() };
        start += run.texts * run.tokens;
        run
    };
    texts.chunk_by(|one, other| one.len() == other.len()).map(of_one_length).collect()
}

fn rows(table: &Tensor, numbers: Vec<u32>) -> Result<Tensor> {
    let count = numbers.len();
    table.index_select(&Tensor::from_vec(numbers, count, &Device::Cpu)?, 0)
}

fn norm(shape: &Shape, all: &VarBuilder<'_>) -> Result<Norm> {
    let part = |name: &str| all.get(shape.hidden_size, name)?.to_vec1();
    #[expect(clippy::cast_possible_truncation, reason = "it only keeps a division from being one by zero")]
    let epsilon = shape.layer_norm_eps as f32;
    Ok(Norm { weight: part("weight")?, bias: part("bias")?, epsilon })
}

/// Returns the mean of the rows, which are at least one.
fn mean(values: &[f32], width: usize) -> Vec<f32> {
    let mut mean = vec![0.0; width];
    for row in values.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    #[expect(clippy::cast_precision_loss, reason = "a text has a few hundred tokens")]
    let count = (values.len() / width) as f32;
    mean.iter_mut().for_each(|sum| *sum /= count);
    mean
}
