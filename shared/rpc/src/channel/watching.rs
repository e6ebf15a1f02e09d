//! Asks a server over one connection whether it serves, and goes on listening (gRFC A17).

use http::{Request, Response, Uri};
use hyper::client::conn::http2::SendRequest;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::watch;
use tonic::{Streaming, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::target::Target;

/// What the server says of itself from now on.
pub(super) type States = Streaming<HealthCheckResponse>;

/// Asks for the health of the server as a whole. One that does not tell, as it has no such service, counts as serving.
pub(super) async fn ask(sender: SendRequest<Body>, target: &Target) -> (bool, Option<States>) {
    let origin =
        Uri::builder().scheme(target.scheme()).authority(target.authority.clone()).path_and_query("/");
    let Ok(origin) = origin.build() else { return (true, None) };
    let mut client = HealthClient::with_origin(Raw(sender), origin);
    let Ok(answer) = client.watch(HealthCheckRequest::default()).await else { return (true, None) };
    let mut states = answer.into_inner();
    match states.message().await {
        Ok(Some(first)) => (is_serving(&first), Some(states)),
        Ok(None) | Err(_) => (true, None),
    }
}

/// Tells each state until the connection ends or its endpoint is given up.
pub(super) async fn follow(mut states: States, mut alive: watch::Receiver<()>, tell: impl Fn(bool) + Send) {
    loop {
        tokio::select! {
            // Nothing is ever sent: an error says that the endpoint is gone.
            _ = alive.changed() => return,
            state = states.message() => match state {
                Ok(Some(state)) => tell(is_serving(&state)),
                Ok(None) | Err(_) => return,
            },
        }
    }
}

fn is_serving(state: &HealthCheckResponse) -> bool {
    // An unknown service has no health; only a server that says so does not serve.
    state.status() != ServingStatus::NotServing
}

/// A bare connection as the generated client wants it.
#[derive(Clone, Debug)]
struct Raw(SendRequest<Body>);

impl tower::Service<Request<Body>> for Raw {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
