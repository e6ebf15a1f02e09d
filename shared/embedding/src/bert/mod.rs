//! A sentence encoder from a local folder.

mod files;
mod model;
mod values;

use std::{fmt, path::Path, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use tokenizers::{Tokenizer, TruncationParams};
use tokio::sync::oneshot;

use crate::{Embedder, Error, bert::files::Files, normalise};

/// Most tokens that go through the encoder in one step: enough for the weights' way from memory not to matter, few enough for what
/// is between the layers to stay in a core's cache.
const STEP: usize = 512;

/// Maps text to a vector by its meaning: a BERT encoder of the MiniLM class, mean pooling, length 1.
///
/// The folder holds what `sentence-transformers` writes: `config.json`, `model.safetensors`, `tokenizer.json` and, where the
/// model has them, `sentence_bert_config.json`, `1_Pooling/config.json` and `modules.json`. A hash over the files is part of
/// the name, so that vectors of other files are never mixed with its own. Texts are cut at the model's number of tokens (256
/// for all-MiniLM-L6-v2). Vectors are the same on one machine for the same text up to the last bits, which depend on what
/// else is in the batch.
///
/// It works on threads of its own. A caller who leaves takes what has not begun along.
pub struct Encoder {
    name: String,
    work: Arc<Work>,
    threads: ThreadPool,
}

struct Work {
    tokenizer: Tokenizer,
    model: model::Bert,
    dimensions: usize,
}

impl Encoder {
    /// Loads the model in `folder`, some 0.3 s and as much memory as its weights; blocks. Runs on `threads` threads; 0: as
    /// many as there are cores. The files have to hash to `expected` if it is given, 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Model`] with the file that is missing, differs, or is of a kind that is not read.
    pub fn load(folder: &Path, expected: Option<&str>, threads: usize) -> Result<Self, Error> {
        let files = Files::read(folder, expected)?;
        let mut tokenizer = Tokenizer::from_bytes(&files.tokenizer).map_err(|error| {
            files::fault(folder, format_args!("tokenizer.json is not as expected: {error}"))
        })?;
        let cut = TruncationParams { max_length: files.tokens, ..TruncationParams::default() };
        tokenizer
            .with_padding(None)
            .with_truncation(Some(cut))
            .map_err(|error| files::fault(folder, error))?;
        let model = model::Bert::load(&files.shape, &files.weights).map_err(|error| {
            files::fault(folder, format_args!("model.safetensors is not as expected: {error}"))
        })?;
        let threads = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("embedding-{number}"))
            // Whoever waits hears of it: the answer's sender is dropped.
            .panic_handler(|_| ())
            .build()
            .map_err(|error| Error::Encoder(error.to_string()))?;
        let work = Arc::new(Work { tokenizer, model, dimensions: files.shape.hidden_size });
        Ok(Self { name: format!("bert-{}", files.digest), work, threads })
    }
}

impl Embedder for Encoder {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.work.dimensions
    }

    fn embed<'a>(&'a self, texts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<f32>>, Error>> {
        if texts.is_empty() {
            return std::future::ready(Ok(Vec::new())).boxed();
        }
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let (answer, answered) = oneshot::channel();
        let work = Arc::clone(&self.work);
        self.threads.spawn(move || {
            if !answer.is_closed() {
                drop(answer.send(work.encode(&texts)));
            }
        });
        async { answered.await.map_err(|_| Error::Encoder("it panicked".to_owned()))? }.boxed()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Encoder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Work {
    fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
        let tokens: Vec<Vec<u32>> =
            texts.par_iter().map(|text| self.tokens(text)).collect::<Result<_, _>>()?;
        // Equal lengths are neighbours.
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|text| tokens[*text].len());
        let sorted: Vec<&[u32]> = order.iter().map(|text| tokens[*text].as_slice()).collect();
        let steps = steps(&sorted, rayon::current_num_threads());
        let encode = |step: &&[&[u32]]| self.model.encode(step);
        let encoded: Vec<Vec<Vec<f32>>> = steps
            .par_iter()
            .map(encode)
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Encoder(error.to_string()))?;
        let mut vectors = vec![Vec::new(); texts.len()];
        for (text, mut vector) in order.into_iter().zip(encoded.into_iter().flatten()) {
            normalise(&mut vector);
            vectors[text] = vector;
        }
        Ok(vectors)
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.tokenizer.encode_fast(text, true);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| Error::Encoder(error.to_string()))
    }
}

/// Splits texts into steps of about equal numbers of tokens, at most [`STEP`] where a text is not longer itself, and as many as
/// there are threads where there are enough texts.
fn steps<'a, 'b>(texts: &'a [&'b [u32]], threads: usize) -> Vec<&'a [&'b [u32]]> {
    let total: usize = texts.iter().map(|text| text.len()).sum();
    let share = total.div_ceil(threads).min(STEP);
    let mut steps = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (end, text) in texts.iter().enumerate() {
        tokens += text.len();
        if tokens >= share {
            steps.push(&texts[start..=end]);
            (start, tokens) = (end + 1, 0);
        }
    }
    if start < texts.len() {
        steps.push(&texts[start..]);
    }
    steps
}
