//! Every service of the contracts is served where it should be: reflection lists and describes it, health knows it.

use athena::Service;
use prost_reflect::DescriptorPool;
use rpc::Channel;
use tests::House;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Makes a function that asks one version of reflection for what is listed and how many files describe a symbol.
macro_rules! reflection {
    ($name:ident, $version:ident) => {
        mod $name {
            use rpc::Channel;
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };

            async fn ask(channel: Channel, question: MessageRequest) -> MessageResponse {
                let request =
                    ServerReflectionRequest { host: String::new(), message_request: Some(question) };
                let mut client = ServerReflectionClient::new(channel);
                let mut answers =
                    client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
                answers.message().await.unwrap().unwrap().message_response.unwrap()
            }

            pub(super) async fn listed(channel: Channel) -> Vec<String> {
                match ask(channel, MessageRequest::ListServices(String::new())).await {
                    MessageResponse::ListServicesResponse(list) => {
                        list.service.into_iter().map(|service| service.name).collect()
                    }
                    other => panic!("{other:?}"),
                }
            }

            pub(super) async fn files(channel: Channel, symbol: &str) -> usize {
                match ask(channel, MessageRequest::FileContainingSymbol(symbol.to_owned())).await {
                    MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto.len(),
                    other => panic!("{other:?}"),
                }
            }
        }
    };
}

reflection!(current, v1);
reflection!(older, v1alpha);

/// Returns the gRPC services of the contracts that a service of the mesh serves.
fn served_by(service: Service) -> Vec<String> {
    let (package, _) = service.health_name().rsplit_once('.').unwrap();
    let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
    let names: Vec<String> = pool
        .services()
        .filter(|one| one.package_name() == package)
        .map(|one| one.full_name().to_owned())
        .collect();
    assert!(!names.is_empty(), "{service} serves no contract");
    names
}

async fn health(channel: Channel, name: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: name.to_owned() };
    let answer = HealthClient::new(channel).check(request).await;
    answer.map(|response| response.into_inner().status()).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_contract_is_listed_described_and_healthy_at_its_service() {
    let house = House::open().await.unwrap();
    let mut seen = 0;
    for service in Service::ALL {
        let channel = house.mesh.channel(service).unwrap();
        let listed = current::listed(channel.clone()).await;
        let listed_too = older::listed(channel.clone()).await;
        for name in served_by(service) {
            assert!(listed.contains(&name), "{service} does not list {name}: {listed:?}");
            assert!(listed_too.contains(&name), "{service} does not list {name} in v1alpha: {listed_too:?}");
            assert!(current::files(channel.clone(), &name).await > 0, "{name}");
            assert!(older::files(channel.clone(), &name).await > 0, "{name}");
            assert_eq!(health(channel.clone(), &name).await, Ok(ServingStatus::Serving), "{name}");
            seen += 1;
        }
        assert_eq!(health(channel.clone(), "").await, Ok(ServingStatus::Serving), "{service} as a whole");
        assert_eq!(health(channel, "athena.none.v1.NoService").await, Err(Code::NotFound), "{service}");
    }
    let all = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
    assert_eq!(seen, all.services().filter(|one| one.package_name().starts_with("athena.")).count());
    house.close().await.unwrap();
}
