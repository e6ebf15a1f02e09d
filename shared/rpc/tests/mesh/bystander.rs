//! A service that does what its test tells it, and notes what it sees.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clock::Clock;
use contracts::{
    llm::{
        AnalyzeRequest, AnalyzeResponse, GenerateRequest, GenerateResponse, GenerateStreamRequest,
        GenerateStreamResponse,
        generate_stream_response::Part,
        llm_gateway_service_client::LlmGatewayServiceClient,
        llm_gateway_service_server::{LlmGatewayService, LlmGatewayServiceServer},
    },
    memory::{
        ExplainOnlyRequest, ExplainOnlyResponse, ExplainRequest, ExplainResponse, ForgetRequest,
        ForgetResponse, GetRequest, GetResponse, GetStatsRequest, GetStatsResponse, RecallRequest,
        RecallResponse, RememberBatchRequest, RememberBatchResponse, RememberRequest, RememberResponse,
        memory_service_client::MemoryServiceClient,
        memory_service_server::{MemoryService, MemoryServiceServer},
    },
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use rpc::{Caller, Channel, ChannelOptions, Client as _, Deadline, Fault, Health, Host, HostSettings};
use telemetry::{Captured, Telemetry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use tonic::{Request, Response, Status};

/// Long enough that no test waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) type Outcome = BoxFuture<'static, Result<(), Fault>>;

/// What a call looked like from inside.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) rpc: &'static str,
    pub(crate) caller: Caller,
    pub(crate) remaining: Option<Duration>,
    pub(crate) trace_id: Option<String>,
}

/// Implements the contracts by one closure.
#[derive(Clone)]
pub(crate) struct Bystander(Arc<dyn Fn(Seen) -> Outcome + Send + Sync>);

impl Bystander {
    pub(crate) fn new<F>(act: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        Self(Arc::new(move |seen| act(seen).boxed()))
    }

    /// Answers at once, and sends what it sees.
    pub(crate) fn telling() -> (Self, tokio::sync::mpsc::UnboundedReceiver<Seen>) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let bystander = Self::new(move |seen| {
            // A test that does not look has dropped the receiver.
            let _ = sender.send(seen);
            std::future::ready(Ok(()))
        });
        (bystander, receiver)
    }

    /// Never answers; tells when a call has come in.
    pub(crate) fn stuck() -> (Self, tokio::sync::mpsc::UnboundedReceiver<Seen>) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let bystander = Self::new(move |seen| {
            let _ = sender.send(seen);
            std::future::pending()
        });
        (bystander, receiver)
    }

    async fn see<T>(&self, rpc: &'static str, request: &Request<T>) -> Result<(), Status> {
        let seen = Seen {
            rpc,
            caller: Caller::of(request),
            remaining: Deadline::current().map(|deadline| deadline.remaining()),
            trace_id: telemetry::trace_id(),
        };
        Ok(self.0(seen).await?)
    }
}

macro_rules! memory {
    ($($rpc:ident($request:ty) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl MemoryService for Bystander {
            $(async fn $rpc(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.see(stringify!($rpc), &request).await?;
                Ok(Response::new($response::default()))
            })*
        }
    };
}

memory! {
    remember(RememberRequest) -> RememberResponse;
    remember_batch(RememberBatchRequest) -> RememberBatchResponse;
    recall(RecallRequest) -> RecallResponse;
    explain(ExplainRequest) -> ExplainResponse;
    explain_only(ExplainOnlyRequest) -> ExplainOnlyResponse;
    get(GetRequest) -> GetResponse;
    forget(ForgetRequest) -> ForgetResponse;
    get_stats(GetStatsRequest) -> GetStatsResponse;
}

#[tonic::async_trait]
impl LlmGatewayService for Bystander {
    type GenerateStreamStream = BoxStream<'static, Result<GenerateStreamResponse, Status>>;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<GenerateResponse>, Status> {
        self.see("generate", &request).await?;
        Ok(Response::new(GenerateResponse::default()))
    }

    /// Sends one piece at once; then does what the test says, and sends what the context of the stream was.
    async fn generate_stream(
        &self,
        request: Request<GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let bystander = self.clone();
        let rest = futures::stream::once(async move {
            bystander.see("generate_stream", &request).await?;
            Ok(piece("last"))
        });
        Ok(Response::new(futures::stream::iter([Ok(piece("first"))]).chain(rest).boxed()))
    }

    async fn analyze(&self, request: Request<AnalyzeRequest>) -> Result<Response<AnalyzeResponse>, Status> {
        self.see("analyze", &request).await?;
        Ok(Response::new(AnalyzeResponse::default()))
    }
}

fn piece(text: &str) -> GenerateStreamResponse {
    GenerateStreamResponse { part: Some(Part::Text(text.to_owned())) }
}

/// Returns a port at which nothing listens.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A host that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    pub(crate) telemetry: Telemetry,
    pub(crate) captured: Captured,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<(), rpc::Error>>,
}

impl Running {
    pub(crate) fn start(name: &'static str, bystander: Bystander) -> Self {
        Self::start_with(name, &HostSettings::defaults(), bystander, |host| host)
    }

    pub(crate) fn start_with(
        name: &'static str,
        settings: &HostSettings,
        bystander: Bystander,
        more: impl FnOnce(Host) -> Host,
    ) -> Self {
        Self::start_at(name, 0, settings, bystander, more)
    }

    /// Starts a host at a port that was free a moment ago, or at any for 0.
    pub(crate) fn start_at(
        name: &'static str,
        port: u16,
        settings: &HostSettings,
        bystander: Bystander,
        more: impl FnOnce(Host) -> Host,
    ) -> Self {
        let (telemetry, captured) = Telemetry::captured(name);
        let host = Host::bind(settings, port, telemetry.clone(), Clock::system()).unwrap();
        let host = host
            .add(MemoryServiceServer::new(bystander.clone()))
            .add(LlmGatewayServiceServer::new(bystander));
        let host = more(host);
        let (address, health) = (host.local_addr(), host.health());
        let (stop, stopped) = oneshot::channel::<()>();
        let done = telemetry.spawn(host.run(async {
            let _ = stopped.await;
        }));
        Self { address, health, telemetry, captured, stop, done }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel_with(ChannelOptions::default())
    }

    pub(crate) fn channel_with(&self, options: ChannelOptions) -> Channel {
        Channel::lazy(&self.url(), options, Telemetry::silent("test")).unwrap()
    }

    pub(crate) fn memory(&self) -> MemoryServiceClient<Channel> {
        MemoryServiceClient::over(self.channel())
    }

    pub(crate) fn llm(&self) -> LlmGatewayServiceClient<Channel> {
        LlmGatewayServiceClient::over(self.channel())
    }

    /// Asks the host to stop.
    pub(crate) fn stop(self) -> JoinHandle<Result<(), rpc::Error>> {
        self.stop.send(()).unwrap();
        self.done
    }

    /// Ends the host in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.done.abort();
        assert!(self.done.await.unwrap_err().is_cancelled());
    }

    /// Sends one HTTP/1.1 request, and returns the whole answer.
    pub(crate) async fn http1(&self, head: &str, body: &[u8]) -> String {
        http1(self.address, head, body).await
    }
}

/// Sends one HTTP/1.1 request to any server, and returns the whole answer.
pub(crate) async fn http1(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
