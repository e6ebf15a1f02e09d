//! Vectors in the dialect: the gateway's own embedder, for any client of it.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode};
use rpc::{At, Check};
use serde_json::{Value, json};

use super::{Known, Shared, fault::Refusal, question};
use crate::{conversation::Object, price};

/// Most texts of a request.
const MAX_TEXTS: usize = 2_048;
/// Longest text, in bytes.
const TEXT_BYTES: usize = 64 << 10;

/// What is to be turned into vectors, and how they are written.
#[derive(Debug)]
struct Wanted {
    texts: Vec<String>,
    base64: bool,
}

pub(super) async fn embed(
    State(gateway): State<Shared>,
    Known(_): Known,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let request = question::object(&headers, body)?;
    let embedder = &gateway.embedder;
    let wanted = read(request, embedder.name(), embedder.dimensions())?;
    let texts: Vec<&str> = wanted.texts.iter().map(String::as_str).collect();
    let vectors = embedder.embed(&texts).await.map_err(crate::Error::from)?;
    let write = |vector: &Vec<f32>| if wanted.base64 { encoded(vector) } else { json!(vector) };
    let object = |(index, vector)| json!({"object": "embedding", "index": index, "embedding": write(vector)});
    let data: Vec<_> = vectors.iter().enumerate().map(object).collect();
    // By estimate: an embedder of our own counts no tokens.
    let tokens: u64 = texts.iter().map(|text| price::tokens(text)).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(Json(json!({"object": "list", "data": data, "model": embedder.name(), "usage": usage}))
        .into_response())
}

fn read(mut request: Object, model: &str, dimensions: usize) -> Result<Wanted, Refusal> {
    if request.shift_remove("model").is_none_or(|named| named != model) {
        return Err(Refusal::model(StatusCode::NOT_FOUND));
    }
    let mut check = Check::default();
    let texts = texts(&mut check, request.shift_remove("input"));
    let base64 = match request.shift_remove("encoding_format").as_ref().and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            check.wrong("encoding_format", "must be `float` or `base64`");
            false
        }
    };
    if let Some(wanted) = request.shift_remove("dimensions").filter(|wanted| !wanted.is_null()) {
        let fits = wanted.as_u64() == Some(dimensions as u64);
        check.require("dimensions", fits, format_args!("must be {dimensions}, or left out"));
    }
    check.end(Wanted { texts, base64 }).map_err(|fault| Refusal::of(&fault))
}

fn texts(check: &mut Check, input: Option<Value>) -> Vec<String> {
    let at = At::from("input");
    let list = match input {
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    if !check.items(at, list.len(), 1..=MAX_TEXTS) {
        return Vec::new();
    }
    let read = list.into_iter().enumerate().map(|(place, text)| match text {
        Value::String(text) => {
            check.text(at.item(place), &text, 1..=TEXT_BYTES);
            text
        }
        _ => {
            check.wrong(at.item(place), "must be text: tokens of a model are not read here");
            String::new()
        }
    });
    read.collect()
}

/// Writes a vector as the official clients ask for it: numbers of 32 bits, the lowest byte first, in base64.
fn encoded(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Wanted, encoded, read};
    use crate::dialect::fault::Refusal;

    fn ask(body: &Value) -> Result<Wanted, Refusal> {
        read(body.as_object().unwrap().clone(), "hashing-512", 512)
    }

    #[test]
    fn one_text_or_many_are_read() {
        let one = ask(
            &json!({"model": "hashing-512", "input": "a", "encoding_format": "base64", "dimensions": 512}),
        );
        assert!(matches!(one, Ok(Wanted { texts, base64: true }) if texts == ["a"]));
        let many = ask(&json!({"model": "hashing-512", "input": ["a", "b"]}));
        assert!(matches!(many, Ok(Wanted { texts, base64: false }) if texts == ["a", "b"]));
    }

    #[test]
    fn what_cannot_be_embedded_is_named() {
        assert_eq!(ask(&json!({"model": "other", "input": "a"})).unwrap_err().status(), 404);
        let bad =
            json!({"model": "hashing-512", "input": ["", 7], "encoding_format": "hex", "dimensions": 3});
        let message = ask(&bad).unwrap_err().message().to_owned();
        for field in ["input[0]", "input[1]", "encoding_format", "dimensions"] {
            assert!(message.contains(field), "{field}: {message}");
        }
        assert!(ask(&json!({"model": "hashing-512", "input": []})).is_err());
    }

    #[test]
    fn base64_holds_little_endian_floats() {
        assert_eq!(encoded(&[1.0, -2.0]), json!("AACAPwAAAMA="));
    }
}
