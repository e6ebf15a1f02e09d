//! The folder of a model, read once: what is hashed is what is used.

use std::{fs, io::ErrorKind, path::Path};

use serde::Deserialize;

use crate::Error;

/// The files that decide about a vector, and whether a model may lack them. As `sentence-transformers` writes them.
const FILES: [(&str, bool); 5] = [
    ("config.json", false),
    ("model.safetensors", false),
    ("tokenizer.json", false),
    ("sentence_bert_config.json", true),
    ("1_Pooling/config.json", true),
];
/// What the steps of a model may be; the last word of their types. Lengths are set to 1 whether or not it is named.
const STEPS: [&str; 3] = ["Transformer", "Pooling", "Normalize"];

/// A model's files, checked as far as their words go.
pub(super) struct Files {
    /// BLAKE3 over the names, lengths and contents of the files that decide about a vector, as 64 hexadecimal digits.
    pub(super) digest: String,
    /// Shape of the encoder.
    pub(super) shape: Shape,
    /// Most tokens of a text, with the two that mark its ends.
    pub(super) tokens: usize,
    /// The tokenizer, as the library `tokenizers` writes it.
    pub(super) tokenizer: Vec<u8>,
    /// The weights.
    pub(super) weights: Vec<u8>,
}

/// The shape of a BERT encoder, by the names of its `config.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Shape {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f64,
    hidden_act: String,
    model_type: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

#[derive(Deserialize)]
struct Cut {
    max_seq_length: usize,
}

#[derive(Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

#[derive(Deserialize)]
struct Step {
    r#type: String,
}

impl Files {
    /// Reads the model in `folder`, which must have the digest `expected` if one is given.
    ///
    /// # Errors
    /// [`Error::Model`] if a file is missing or cannot be read, if the digest is another one, or if the model is no BERT
    /// encoder with mean pooling.
    pub(super) fn read(folder: &Path, expected: Option<&str>) -> Result<Self, Error> {
        let mut hash = blake3::Hasher::new();
        let mut contents = Vec::new();
        for (name, is_optional) in FILES {
            let content = read(folder, name, is_optional)?;
            if let Some(content) = &content {
                hash.update(name.as_bytes()).update(&[0]).update(&(content.len() as u64).to_le_bytes());
                hash.update(content);
            }
            contents.push(content.unwrap_or_default());
        }
        let digest = hash.finalize().to_hex().to_string();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(fault(folder, format_args!("its files hash to {digest}, expected are {expected}")));
        }
        let [config, weights, tokenizer, cut, pooling] = <[Vec<u8>; 5]>::try_from(contents)
            .map_err(|_| Error::Model("it has another number of files".to_owned()))?;
        let shape: Shape = parse(folder, FILES[0].0, &config)?;
        let tokens = match &cut[..] {
            [] => shape.max_position_embeddings,
            cut => parse::<Cut>(folder, FILES[3].0, cut)?.max_seq_length.min(shape.max_position_embeddings),
        };
        shape.check(folder)?;
        check_steps(folder, &pooling)?;
        if tokens < 3 {
            return Err(fault(folder, format_args!("a text may have {tokens} tokens only")));
        }
        Ok(Self { digest, shape, tokens, tokenizer, weights })
    }
}

impl Shape {
    fn check(&self, folder: &Path) -> Result<(), Error> {
        let heads = self.num_attention_heads;
        let is_bert = self.model_type == "bert"
            && self.hidden_act == "gelu"
            && self.position_embedding_type == "absolute"
            && heads > 0
            && self.hidden_size.is_multiple_of(heads);
        if is_bert {
            return Ok(());
        }
        Err(fault(
            folder,
            format_args!("its config.json describes no BERT with gelu, absolute positions and even heads"),
        ))
    }
}

/// Makes sure that the tokens' mean is all that is made of a text.
fn check_steps(folder: &Path, pooling: &[u8]) -> Result<(), Error> {
    if !pooling.is_empty() && !parse::<Pooling>(folder, FILES[4].0, pooling)?.pooling_mode_mean_tokens {
        return Err(fault(folder, format_args!("a text is not the mean of its tokens")));
    }
    let steps: Vec<Step> = match read(folder, "modules.json", true)? {
        Some(modules) => parse(folder, "modules.json", &modules)?,
        None => Vec::new(),
    };
    let is_known = |step: &&Step| step.r#type.rsplit('.').next().is_some_and(|last| STEPS.contains(&last));
    match steps.iter().find(|step| !is_known(step)) {
        None => Ok(()),
        Some(step) => Err(fault(folder, format_args!("it has a step that is not read: {}", step.r#type))),
    }
}

fn read(folder: &Path, name: &str, is_optional: bool) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(folder.join(name)) {
        Ok(content) => Ok(Some(content)),
        Err(error) if is_optional && error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(folder, format_args!("{name} cannot be read: {error}"))),
    }
}

fn parse<'a, T: Deserialize<'a>>(folder: &Path, name: &str, content: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(content)
        .map_err(|error| fault(folder, format_args!("{name} is not as expected: {error}")))
}

pub(super) fn fault(folder: &Path, what: impl std::fmt::Display) -> Error {
    Error::Model(format!("{}: {what}", folder.display()))
}

fn absolute() -> String {
    "absolute".to_owned()
}
