//! The encoder itself: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
//!
//! Texts are packed: their tokens are the rows of one matrix, without padding, so that no row is computed for nothing and every
//! weight is read once for all texts. Only attention looks at one text at a time; texts of the same length share a step.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module as _, VarBuilder, layer_norm, linear, ops::softmax_last_dim};

use super::files::Shape;

/// A BERT encoder whose vectors are the means of their tokens.
pub(super) struct Bert {
    words: Tensor,
    /// Position and the (only) segment in one.
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: usize,
}

struct Layer {
    /// Query, key and value in one.
    attention: Linear,
    attended: Linear,
    attended_norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
    norm: LayerNorm,
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
        let all =
            if all.contains_tensor("bert.embeddings.word_embeddings.weight") { all.pp("bert") } else { all };
        let (hidden, epsilon) = (shape.hidden_size, shape.layer_norm_eps);
        let input = all.pp("embeddings");
        let words = input.get((shape.vocab_size, hidden), "word_embeddings.weight")?;
        let positions = input.get((shape.max_position_embeddings, hidden), "position_embeddings.weight")?;
        let segments = input.get((shape.type_vocab_size, hidden), "token_type_embeddings.weight")?;
        let positions = positions.broadcast_add(&segments.narrow(0, 0, 1)?)?;
        let norm = layer_norm(hidden, epsilon, input.pp("LayerNorm"))?;
        let layer = |number| Layer::load(shape, &all.pp("encoder.layer").pp(number));
        let layers = (0..shape.num_hidden_layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { words, positions, norm, layers, heads: shape.num_attention_heads })
    }

    /// Maps each text, given by its tokens, to the mean of their vectors, in order. Texts of one length should be neighbours.
    pub(super) fn encode(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let runs = runs(texts);
        let words: Vec<u32> = texts.concat();
        let positions: Vec<u32> =
            texts.iter().flat_map(|text| (0..).zip(*text).map(|(position, _)| position)).collect();
        let rows = words.len();
        let words = self.words.index_select(&Tensor::from_vec(words, rows, &Device::Cpu)?, 0)?;
        let positions = self.positions.index_select(&Tensor::from_vec(positions, rows, &Device::Cpu)?, 0)?;
        let mut matrix = self.norm.forward(&(words + positions)?)?;
        for layer in &self.layers {
            matrix = layer.forward(&matrix, &runs, self.heads)?;
        }
        let mut vectors = Vec::with_capacity(texts.len());
        for run in &runs {
            vectors.extend(run.of(&matrix)?.mean(1)?.to_vec2()?);
        }
        Ok(vectors)
    }
}

impl Layer {
    fn load(shape: &Shape, all: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, wide, epsilon) = (shape.hidden_size, shape.intermediate_size, shape.layer_norm_eps);
        let own = all.pp("attention.self");
        let part = |name: &str| linear(hidden, hidden, own.pp(name));
        let parts = [part("query")?, part("key")?, part("value")?];
        let weight = Tensor::cat(&parts.each_ref().map(Linear::weight), 0)?;
        let biases: Vec<&Tensor> = parts.iter().filter_map(Linear::bias).collect();
        let attention = Linear::new(weight, Some(Tensor::cat(&biases, 0)?));
        Ok(Self {
            attention,
            attended: linear(hidden, hidden, all.pp("attention.output.dense"))?,
            attended_norm: layer_norm(hidden, epsilon, all.pp("attention.output.LayerNorm"))?,
            wide: linear(hidden, wide, all.pp("intermediate.dense"))?,
            narrow: linear(wide, hidden, all.pp("output.dense"))?,
            norm: layer_norm(hidden, epsilon, all.pp("output.LayerNorm"))?,
        })
    }

    fn forward(&self, matrix: &Tensor, runs: &[Run], heads: usize) -> Result<Tensor> {
        let parts = self.attention.forward(matrix)?;
        let attended: Vec<Tensor> =
            runs.iter().map(|run| run.attend(&parts, heads)).collect::<Result<_>>()?;
        let attended = self.attended.forward(&Tensor::cat(&attended, 0)?)?;
        let matrix = self.attended_norm.forward(&(matrix + attended)?)?;
        let wide = self.wide.forward(&matrix)?.gelu_erf()?;
        self.norm.forward(&(self.narrow.forward(&wide)? + matrix)?)
    }
}

impl Run {
    /// Returns the rows of these texts: texts × tokens × width.
    fn of(&self, matrix: &Tensor) -> Result<Tensor> {
        let width = matrix.dim(1)?;
        matrix.narrow(0, self.start, self.texts * self.tokens)?.reshape((self.texts, self.tokens, width))
    }

    /// Lets every token of a text look at every other, a head at a time; returns rows again.
    fn attend(&self, parts: &Tensor, heads: usize) -> Result<Tensor> {
        let rows = self.of(parts)?;
        let width = rows.dim(2)? / 3;
        let part = |number: usize| -> Result<Tensor> {
            let part = rows.narrow(2, number * width, width)?;
            // texts × heads × tokens × width of a head
            part.reshape((self.texts, self.tokens, heads, width / heads))?.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        #[expect(clippy::cast_precision_loss, reason = "a head is a few hundred components wide")]
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let weights = softmax_last_dim(&(query.matmul(&key.transpose(2, 3)?)? * scale)?)?;
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
