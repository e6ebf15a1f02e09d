//! Asks other hosts how they are.

use std::collections::BTreeMap;

use http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use crate::{
    Channel, Fault,
    listing::{self, ListRequest, ListResponse},
};

/// What a host says of one of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It serves.
    Yes,
    /// It does not serve now.
    No,
    /// The host has not heard of it yet, or knows no such name.
    Unknown,
}

/// Asks whether the service of this full name serves (`""`: whether the whole host does).
///
/// # Errors
/// As the call fails: UNAVAILABLE if nothing answers. A host that has no health, or no such name, does not serve it.
pub async fn is_serving(channel: &Channel, service: &str) -> Result<bool, Fault> {
    let request = HealthCheckRequest { service: service.to_owned() };
    match HealthClient::new(channel.clone()).check(request).await {
        Ok(response) => Ok(response.into_inner().status() == ServingStatus::Serving),
        Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(false),
        Err(status) => Err(Fault::from(&status)),
    }
}

/// Asks a host for all of its names and their states: services, their parts (`service/part`), `""`, `liveness` and
/// `readiness`.
///
/// # Errors
/// As the call fails: UNAVAILABLE if nothing answers, UNIMPLEMENTED if that is no host of ours.
pub async fn states(channel: &Channel) -> Result<BTreeMap<String, Serving>, Fault> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let fault = |status: Status| Fault::from(&status);
    client.ready().await.map_err(fault)?;
    let codec = ProstCodec::<ListRequest, ListResponse>::default();
    let path = PathAndQuery::from_static(listing::PATH);
    let answer = client.unary(tonic::Request::new(ListRequest {}), path, codec).await.map_err(fault)?;
    let states = answer.into_inner().statuses.into_iter();
    Ok(states.map(|(name, response)| (name, serving(response))).collect())
}

fn serving(response: HealthCheckResponse) -> Serving {
    match response.status() {
        ServingStatus::Serving => Serving::Yes,
        ServingStatus::NotServing => Serving::No,
        ServingStatus::Unknown | ServingStatus::ServiceUnknown => Serving::Unknown,
    }
}
