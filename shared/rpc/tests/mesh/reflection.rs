use futures::stream;
use tonic_reflection::pb::{v1, v1alpha};

use crate::bystander::{Bystander, Running};

const EXPECTED: [&str; 2] = ["athena.memory.v1.MemoryService", "grpc.health.v1.Health"];

#[tokio::test]
async fn version_1_lists_the_services_and_shows_their_contract() {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let host = Running::start("memory", Bystander::telling().0);
    let mut client = ServerReflectionClient::new(host.channel());
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("athena.memory.v1.MemoryService.Recall".into())),
    ];
    let mut answers = client.server_reflection_info(stream::iter(questions)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a list was asked for");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in EXPECTED.into_iter().chain(["grpc.reflection.v1.ServerReflection"]) {
        assert!(names.contains(&name), "{names:?}");
    }
    let Some(MessageResponse::FileDescriptorResponse(file)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a file was asked for");
    };
    assert!(!file.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn the_list_of_health_is_described() {
    use prost::Message as _;
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let host = Running::start("memory", Bystander::telling().0);
    let message_request = Some(MessageRequest::FileContainingSymbol("grpc.health.v1.Health.List".into()));
    let question = ServerReflectionRequest { host: String::new(), message_request };
    let mut client = ServerReflectionClient::new(host.channel());
    let mut answers = client.server_reflection_info(stream::iter([question])).await.unwrap().into_inner();
    let Some(MessageResponse::FileDescriptorResponse(files)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a file was asked for");
    };
    let file = prost_types::FileDescriptorProto::decode(&files.file_descriptor_proto[0][..]).unwrap();
    let methods: Vec<_> = file.service[0].method.iter().map(|method| method.name().to_owned()).collect();
    assert_eq!(methods, ["Check", "Watch", "List"]);
}

#[tokio::test]
async fn version_1alpha_lists_the_services() {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let host = Running::start("memory", Bystander::telling().0);
    let mut client = ServerReflectionClient::new(host.channel());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let question = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = client.server_reflection_info(stream::iter([question])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a list was asked for");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in EXPECTED.into_iter().chain(["grpc.reflection.v1alpha.ServerReflection"]) {
        assert!(names.contains(&name), "{names:?}");
    }
}
