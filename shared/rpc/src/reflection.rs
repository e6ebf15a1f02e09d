//! Reflection, made when somebody first asks: decoded contracts take more than a megabyte for each of its versions, and hardly a process
//! is ever asked.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use tonic::{Status, body::Body, server::NamedService};
use tonic_reflection::server::{Builder, Error, v1, v1alpha};
use tower::{Service, ServiceExt as _};

use crate::{Code, Fault, listing};

/// Listed beside what was added.
const HEALTH: &str = "grpc.health.v1.Health";

/// What reflection tells of.
#[derive(Debug)]
pub(crate) struct Told {
    /// Every contract, encoded.
    pub(crate) sets: Vec<&'static [u8]>,
    /// What is listed, with health and the version asked.
    pub(crate) served: BTreeSet<&'static str>,
}

/// A service that its first request makes.
#[derive(Clone)]
pub(crate) struct Lazy<S>(Arc<LazyLock<Result<S, Error>, Make<S>>>);

type Make<S> = Box<dyn FnOnce() -> Result<S, Error> + Send>;

/// Returns reflection of the present version.
pub(crate) fn v1(told: Arc<Told>) -> Lazy<v1::ServerReflectionServer<impl v1::ServerReflection>> {
    Lazy::of(move || told.builder("grpc.reflection.v1.ServerReflection").build_v1())
}

/// Returns reflection of the version before.
pub(crate) fn v1alpha(
    told: Arc<Told>,
) -> Lazy<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    Lazy::of(move || told.builder("grpc.reflection.v1alpha.ServerReflection").build_v1alpha())
}

impl Told {
    /// Every contract is registered; only what is served is listed, and reflection by its `own` name.
    fn builder(&self, own: &'static str) -> Builder<'static> {
        let builder = Builder::configure().register_file_descriptor_set(listing::descriptors());
        let sets = self.sets.iter();
        let builder = sets.fold(builder, |builder, set| builder.register_encoded_file_descriptor_set(set));
        let served = self.served.iter().chain([&HEALTH, &own]);
        served.fold(builder, |builder, name| builder.with_service_name(*name))
    }
}

impl<S> Lazy<S> {
    fn of(make: impl FnOnce() -> Result<S, Error> + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<S: NamedService> NamedService for Lazy<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Lazy<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match &**self.0 {
            Ok(service) => service.clone().oneshot(request).boxed(),
            Err(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "there is no reflection");
                let fault: Status = Fault::new(Code::Internal, "a descriptor set cannot be served").into();
                std::future::ready(Ok(fault.into_http())).boxed()
            }
        }
    }
}
