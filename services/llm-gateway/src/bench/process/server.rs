//! What an exact hit is compared with: `Generate` that answers with the question, behind our own host and behind tonic's.

use clock::Clock;
use contracts::llm::{
    self as wire,
    llm_gateway_service_server::{LlmGatewayService, LlmGatewayServiceServer},
};
use rpc::{Code, Fault};
use telemetry::Telemetry;
use tonic::{Request, Response, Status};

use super::Error;
use crate::config::Config;

/// Answers with the last message.
#[derive(Clone, Copy, Debug)]
struct Echo;

#[tonic::async_trait]
impl LlmGatewayService for Echo {
    async fn generate(
        &self,
        request: Request<wire::GenerateRequest>,
    ) -> Result<Response<wire::GenerateResponse>, Status> {
        let last = request.into_inner().messages.pop().unwrap_or_default();
        Ok(Response::new(wire::GenerateResponse {
            text: last.content,
            finish_reason: wire::FinishReason::Stop.into(),
            served: Some(wire::Served::default()),
            ..wire::GenerateResponse::default()
        }))
    }

    type GenerateStreamStream = futures::stream::Empty<Result<wire::GenerateStreamResponse, Status>>;

    async fn generate_stream(
        &self,
        _: Request<wire::GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        Err(unimplemented())
    }

    async fn analyze(
        &self,
        _: Request<wire::AnalyzeRequest>,
    ) -> Result<Response<wire::AnalyzeResponse>, Status> {
        Err(unimplemented())
    }
}

fn unimplemented() -> Status {
    Fault::new(Code::Unimplemented, "an echo only answers").into()
}

/// Serves the echo behind the host of the gateway, with its settings, until `shutdown`.
///
/// # Errors
/// [`Error::Echo`] if the port is taken or the server fails.
pub async fn echo(
    config: &Config,
    telemetry: Telemetry,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let failed = |error: rpc::Error| Error::Echo(error.into());
    let host = rpc::Host::bind(&config.host, config.llm_port, telemetry, clock).map_err(failed)?;
    let host = host.add(LlmGatewayServiceServer::new(Echo));
    host.health().serving();
    host.run(shutdown).await.map_err(failed)
}

/// Serves the echo as tonic alone does, on the gateway's port, until `shutdown`.
///
/// # Errors
/// [`Error::Echo`] if the port is taken or the server fails.
pub async fn bare_echo(config: &Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let address = (config.host.bind_address, config.llm_port).into();
    let server = tonic::transport::Server::builder().tcp_nodelay(true);
    let server = { server }.add_service(LlmGatewayServiceServer::new(Echo));
    server.serve_with_shutdown(address, shutdown).await.map_err(|error| Error::Echo(error.into()))
}
