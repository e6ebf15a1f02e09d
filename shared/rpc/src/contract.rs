//! Gives the generated servers and clients of our contracts the message limits of the settings.

use std::convert::Infallible;

use axum::response::IntoResponse;
use http::Request;
use tonic::{body::Body, server::NamedService};

use crate::Channel;

/// A generated server of one of our contracts, such as `MemoryServiceServer`.
pub trait Service:
    tower::Service<Request<Body>, Error = Infallible, Response: IntoResponse, Future: Send>
    + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Bounds the messages in both directions.
    #[must_use]
    fn limited(self, bytes: usize) -> Self;
}

/// A generated client of one of our contracts, such as `MemoryServiceClient`.
pub trait Client: Sized {
    /// Makes a client over `channel` with the channel's message limit. (The generated `new` leaves tonic's: 4 MiB.)
    fn over(channel: Channel) -> Self;
}

macro_rules! contracts {
    ($($package:ident: $server_mod:ident $server:ident, $client_mod:ident $client:ident, $service:ident;)*) => {$(
        impl<T: contracts::$package::$server_mod::$service> Service
            for contracts::$package::$server_mod::$server<T>
        {
            fn limited(self, bytes: usize) -> Self {
                self.max_decoding_message_size(bytes).max_encoding_message_size(bytes)
            }
        }

        impl Client for contracts::$package::$client_mod::$client<Channel> {
            fn over(channel: Channel) -> Self {
                let bytes = channel.max_message_bytes();
                Self::new(channel).max_decoding_message_size(bytes).max_encoding_message_size(bytes)
            }
        }
    )*};
}

contracts! {
    agent: orchestrator_service_server OrchestratorServiceServer,
        orchestrator_service_client OrchestratorServiceClient, OrchestratorService;
    llm: cache_admin_service_server CacheAdminServiceServer,
        cache_admin_service_client CacheAdminServiceClient, CacheAdminService;
    llm: llm_gateway_service_server LlmGatewayServiceServer,
        llm_gateway_service_client LlmGatewayServiceClient, LlmGatewayService;
    llm: pattern_service_server PatternServiceServer,
        pattern_service_client PatternServiceClient, PatternService;
    memory: memory_admin_service_server MemoryAdminServiceServer,
        memory_admin_service_client MemoryAdminServiceClient, MemoryAdminService;
    memory: memory_service_server MemoryServiceServer,
        memory_service_client MemoryServiceClient, MemoryService;
    monitor: monitor_service_server MonitorServiceServer,
        monitor_service_client MonitorServiceClient, MonitorService;
    storage: storage_batcher_service_server StorageBatcherServiceServer,
        storage_batcher_service_client StorageBatcherServiceClient, StorageBatcherService;
}
