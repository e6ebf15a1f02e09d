//! The calls of a load, encoded once.

use bytes::Bytes;
use contracts::llm as wire;
use prost::Message as _;
use testkit::load;

/// The rpc that is measured.
pub(super) const GENERATE: &str = "/athena.llm.v1.LlmGatewayService/Generate";

/// Returns a question as a gRPC call sends it.
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
    load::frame(&request.encode_to_vec())
}
