//! The calls of a load, encoded once.

use bytes::{BufMut as _, Bytes, BytesMut};
use contracts::llm as wire;
use prost::Message as _;
use testkit::load;

/// The rpc that is measured.
pub(super) const GENERATE: &str = "/athena.llm.v1.LlmGatewayService/Generate";

/// Returns a question as a gRPC message with its prefix.
pub(super) fn question(model: &str, topic: &str, number: u64) -> Bytes {
    let message = |role: wire::Role, content: String| wire::Message {
        role: role.into(),
        content,
        ..wire::Message::default()
    };
    let request = wire::GenerateRequest {
        model: model.to_owned(),
        messages: vec![
            message(wire::Role::System, "You advise on when to send transactions. Be brief.".to_owned()),
            message(wire::Role::User, load::question(topic, number)),
        ],
        temperature: Some(0.0),
        ..wire::GenerateRequest::default()
    };
    let length = request.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    // Not compressed, then the length.
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.extend_from_slice(&request.encode_to_vec());
    frame.freeze()
}
