//! Every rpc of the contracts, called with an empty message, answers or says what is wrong. The rpcs come from the descriptor set, so a
//! new one is covered by itself.

use athena::Service;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use rpc::Channel;
use tests::House;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::serving::served_by;

/// Reads and writes messages that are known by their descriptor only; holds that of the answer.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Calls with an empty message. Of a stream only the beginning is waited for: some send nothing until something happens.
async fn called(channel: Channel, method: &MethodDescriptor) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = PathAndQuery::try_from(path).unwrap();
    let request = Request::new(DynamicMessage::new(method.input()));
    let codec = Dynamic(method.output());
    let mut grpc = Grpc::new(channel).max_decoding_message_size(16 << 20);
    grpc.ready().await?;
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => grpc.unary(request, path, codec).await.map(drop),
        (false, true) => grpc.server_streaming(request, path, codec).await.map(drop),
        (true, _) => panic!("{path}: no contract takes a stream; teach this test to"),
    }
}

/// Returns what is unclear in an answer to an empty message.
fn unclear(answer: &Result<(), Status>) -> Option<String> {
    let Err(status) = answer else { return None };
    match status.code() {
        Code::NotFound => None,
        Code::InvalidArgument => {
            let named = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
            let is_clear = !named.is_empty()
                && named.iter().all(|one| !one.field.is_empty() && !one.description.is_empty());
            (!is_clear).then(|| format!("names no field: {}", status.message()))
        }
        code => Some(format!("{code:?}: {}", status.message())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_answers_an_empty_message_or_names_what_is_wrong() {
    let house = House::open().await.unwrap();
    let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
    let mut answered = 0;
    let mut violations = Vec::new();
    for service in Service::ALL {
        let channel = house.mesh.channel(service).unwrap();
        for name in served_by(service) {
            for method in pool.get_service_by_name(&name).unwrap().methods() {
                let answer = called(channel.clone(), &method).await;
                answered += usize::from(answer.is_ok());
                violations.extend(unclear(&answer).map(|what| format!("{}: {what}", method.full_name())));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(answered >= 10, "only {answered} rpcs answered: is the mesh there?");
    house.close().await.unwrap();
}

#[test]
fn an_unclear_answer_is_found() {
    let invalid = |details| Status::with_error_details(Code::InvalidArgument, "no", details);
    assert_eq!(unclear(&Ok(())), None);
    assert_eq!(unclear(&Err(Status::not_found("x"))), None);
    assert_eq!(unclear(&Err(invalid(ErrorDetails::with_bad_request_violation("id", "must be given")))), None);
    let bad = [
        invalid(ErrorDetails::new()),
        invalid(ErrorDetails::with_bad_request_violation("", "must be given")),
        Status::unknown("x"),
        Status::internal("x"),
        Status::unimplemented("x"),
        Status::unavailable("x"),
    ];
    for status in bad {
        assert!(unclear(&Err(status.clone())).is_some(), "{status}");
    }
}
