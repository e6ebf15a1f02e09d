//! `grpc.health.v1.Health/List` (gRFC A90), which tonic-health does not have: every name and its state in one call.

use std::{collections::HashMap, convert::Infallible};

use axum::response::{IntoResponse as _, Response};
use http::Request;
use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet, MessageOptions, MethodDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use tonic_health::pb::HealthCheckResponse;
use tonic_prost::ProstCodec;

use crate::Health;

/// Where it is called.
pub(crate) const PATH: &str = "/grpc.health.v1.Health/List";

/// `HealthListRequest` of `grpc/health/v1/health.proto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListRequest {}

/// `HealthListResponse` of `grpc/health/v1/health.proto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListResponse {
    /// States by name.
    #[prost(map = "string, message", tag = "1")]
    pub(crate) statuses: HashMap<String, HealthCheckResponse>,
}

/// Returns the route of the rpc.
pub(crate) fn route(health: Health) -> axum::Router {
    let list = tower::service_fn(move |request: Request<axum::body::Body>| {
        let health = health.clone();
        async move {
            let answer = tower::service_fn(move |_: tonic::Request<ListRequest>| {
                std::future::ready(Ok(tonic::Response::new(ListResponse { statuses: health.all() })))
            });
            let codec = ProstCodec::<ListResponse, ListRequest>::default();
            let response: Response =
                tonic::server::Grpc::new(codec).unary(answer, request).await.into_response();
            Ok::<_, Infallible>(response)
        }
    });
    axum::Router::new().route_service(PATH, list)
}

/// Returns the descriptors of health with the rpc, for reflection.
pub(crate) fn descriptors() -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap_or_default();
    for file in set.file.iter_mut().filter(|file| file.package() == "grpc.health.v1") {
        let request =
            DescriptorProto { name: Some("HealthListRequest".into()), ..DescriptorProto::default() };
        file.message_type.extend([request, response()]);
        for service in &mut file.service {
            service.method.push(MethodDescriptorProto {
                name: Some("List".into()),
                input_type: Some(".grpc.health.v1.HealthListRequest".into()),
                output_type: Some(".grpc.health.v1.HealthListResponse".into()),
                ..MethodDescriptorProto::default()
            });
        }
    }
    set
}

fn response() -> DescriptorProto {
    let field = |name: &str, number, kind, label, of: Option<&str>| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::into(label)),
        r#type: Some(Type::into(kind)),
        type_name: of.map(str::to_owned),
        ..FieldDescriptorProto::default()
    };
    let entry = DescriptorProto {
        name: Some("StatusesEntry".into()),
        field: vec![
            field("key", 1, Type::String, Label::Optional, None),
            field("value", 2, Type::Message, Label::Optional, Some(".grpc.health.v1.HealthCheckResponse")),
        ],
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..DescriptorProto::default()
    };
    let of = ".grpc.health.v1.HealthListResponse.StatusesEntry";
    DescriptorProto {
        name: Some("HealthListResponse".into()),
        field: vec![field("statuses", 1, Type::Message, Label::Repeated, Some(of))],
        nested_type: vec![entry],
        ..DescriptorProto::default()
    }
}
