//! Reflection, made when somebody first asks: decoded contracts take more than a megabyte for each of its versions, and hardly a process
//! is ever asked.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, OnceLock},
};

use axum::response::{IntoResponse, Response};
use http::Request;
use tonic::Status;
use tonic_reflection::server::{Builder, Error};
use tower::{Service, ServiceExt as _};

use crate::{Code, Fault, listing};

/// Its services, newest first.
pub(crate) const SERVICES: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// Listed beside what was added.
const HEALTH: &str = "grpc.health.v1.Health";

type Body = axum::body::Body;

/// Returns the routes of both versions. Every contract of `sets` is registered; only what is `served` is listed, with health and the version asked.
pub(crate) fn route(sets: &[&'static [u8]], served: &BTreeSet<&'static str>) -> axum::Router {
    let builder = |own: &'static str| {
        let (sets, served) = (sets.to_vec(), served.clone());
        move || {
            let builder = Builder::configure().register_file_descriptor_set(listing::descriptors());
            let builder =
                sets.iter().fold(builder, |builder, set| builder.register_encoded_file_descriptor_set(set));
            let served = served.iter().chain([&HEALTH, &own]);
            served.fold(builder, |builder, name| builder.with_service_name(*name))
        }
    };
    let path = |service| format!("/{service}/{{*method}}");
    let [v1, v1alpha] = SERVICES;
    let (newer, older) = (builder(v1), builder(v1alpha));
    axum::Router::new()
        .route_service(&path(v1), lazily(move || newer().build_v1()))
        .route_service(&path(v1alpha), lazily(move || older().build_v1alpha()))
}

/// Returns a service that is made by its first request.
fn lazily<S>(
    make: impl Fn() -> Result<S, Error> + Send + Sync + 'static,
) -> impl Service<
    Request<Body>,
    Response = Response,
    Error = Infallible,
    Future = impl Future<Output = Result<Response, Infallible>> + Send,
> + Clone
+ Send
+ Sync
where
    S: Service<Request<tonic::body::Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let made = Arc::new((make, OnceLock::<Result<S, Error>>::new()));
    tower::service_fn(move |request: Request<Body>| {
        let made = Arc::clone(&made);
        async move {
            let (make, service) = &*made;
            match service.get_or_init(make) {
                Ok(service) => {
                    let answer = service.clone().oneshot(request.map(tonic::body::Body::new)).await;
                    answer.map(IntoResponse::into_response)
                }
                Err(error) => {
                    tracing::error!(error = error as &dyn std::error::Error, "there is no reflection");
                    let fault: Status =
                        Fault::new(Code::Internal, "a descriptor set cannot be served").into();
                    Ok(fault.into_http::<tonic::body::Body>().into_response())
                }
            }
        }
    })
}
