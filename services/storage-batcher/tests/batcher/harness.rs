//! A storage batcher on a free port, with its journal in a folder that goes away.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clock::{Clock, Hand};
use contracts::storage::{
    field_transform::TransformType, storage_batcher_service_client::StorageBatcherServiceClient, value::Kind,
    *,
};
use rpc::{Channel, ChannelOptions, Client as _, Code, Fault};
use storage_batcher::{Config, Error, bind};
use telemetry::{Captured, Telemetry};
use tokio::{sync::oneshot, task::JoinHandle};

/// The second at which the agent clock of every test starts: 2026-11-22T10:15:00Z, where a bucket begins.
pub(crate) const START: u64 = 1_795_342_500;

/// The token of whoever has no other, where a service lets nobody in without one.
pub(crate) const TOKEN: &str = "suite";

pub(crate) type Client = StorageBatcherServiceClient<Channel>;

pub(crate) struct Service {
    pub(crate) hand: Hand,
    pub(crate) telemetry: Telemetry,
    pub(crate) captured: Captured,
    pub(crate) config: Config,
    folder: tempfile::TempDir,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            storage_port: 0,
            storage_dir: folder.path().join("made"),
            firestore_retry_backoff: Duration::from_millis(1),
            ..Config::defaults()
        };
        change(&mut config);
        Self::open(config, folder, START).await
    }

    /// Stops the service and starts one on the same folder, at `second` of the agent clock.
    pub(crate) async fn restart_at(self, second: u64) -> Self {
        let (config, folder) = self.stop().await;
        Self::open(config, folder, second).await
    }

    /// Starts a service on a copy of what is on disk now, as after a kill; this one goes on.
    pub(crate) async fn after_kill(&self, second: u64, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("copy");
        copy(&self.config.storage_dir, &made);
        let mut config = Config { storage_dir: made, ..self.config.clone() };
        change(&mut config);
        Self::open(config, folder, second).await
    }

    pub(crate) async fn stop(self) -> (Config, tempfile::TempDir) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
        (self.config, self.folder)
    }

    pub(crate) fn client(&self) -> Client {
        let wants_token = self.config.host.auth_tokens.expose().starts_with(TOKEN);
        Client::over(self.channel(wants_token.then_some(TOKEN)))
    }

    pub(crate) fn client_of(&self, token: &str) -> Client {
        Client::over(self.channel(Some(token)))
    }

    /// Starts a service on a folder, at `second` of the agent clock.
    pub(crate) async fn open(config: Config, folder: tempfile::TempDir, second: u64) -> Self {
        let (telemetry, captured) = Telemetry::captured("storage-batcher");
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(second));
        let bound = bind(config.clone(), telemetry.clone(), clock).await.unwrap();
        let address = bound.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = telemetry.spawn(bound.run(async { drop(stopped.await) }));
        let service = Self { hand, telemetry, captured, config, folder, address, stop, running };
        service.ready().await;
        service
    }

    /// Waits until health says SERVING.
    pub(crate) async fn ready(&self) {
        rpc::until_serving(&self.channel(None), "athena.storage.v1.StorageBatcherService").await.unwrap();
    }

    pub(crate) fn channel(&self, token: Option<&str>) -> Channel {
        // No repeating: a test sees what the service answers first.
        let token = token.map(config::Secret::new);
        let options = ChannelOptions { token, retries: 0, ..ChannelOptions::default() };
        let url = format!("http://{}", self.address);
        Channel::lazy(&url, options, Telemetry::silent("caller")).unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A write of one number to `pools/{id}`.
pub(crate) fn write(mode: WriteMode, id: &str, fields: &[(&str, Value)]) -> DocumentWrite {
    DocumentWrite {
        collection: "pools".into(),
        document_id: id.into(),
        mode: mode.into(),
        fields: fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
        priority: Priority::Normal.into(),
        ..DocumentWrite::default()
    }
}

/// A merge of nothing but transforms, by its own key.
pub(crate) fn transform(id: &str, key: &str, transforms: Vec<(&str, TransformType)>) -> DocumentWrite {
    let transform = |(path, transform): (&str, TransformType)| FieldTransform {
        field_path: path.into(),
        transform_type: Some(transform),
    };
    DocumentWrite {
        update_transforms: transforms.into_iter().map(transform).collect(),
        idempotency_key: key.into(),
        ..write(WriteMode::Merge, id, &[])
    }
}

pub(crate) fn increment(id: &str, key: &str, by: i64) -> DocumentWrite {
    transform(id, key, vec![("n", TransformType::Increment(integer(by)))])
}

pub(crate) fn list(values: &[Value]) -> ArrayValue {
    ArrayValue { values: values.to_vec() }
}

pub(crate) fn merge(id: &str, name: &str, number: i64) -> DocumentWrite {
    write(WriteMode::Merge, id, &[(name, integer(number))])
}

pub(crate) fn urgent(mut write: DocumentWrite) -> DocumentWrite {
    write.priority = Priority::High.into();
    write
}

pub(crate) fn integer(number: i64) -> Value {
    Value { kind: Some(Kind::IntegerValue(number)) }
}

pub(crate) fn map(entries: &[(&str, Value)]) -> Value {
    let fields = entries.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    Value { kind: Some(Kind::MapValue(MapValue { fields })) }
}

/// Sends writes in one commit.
pub(crate) async fn accept(client: &mut Client, writes: Vec<DocumentWrite>) -> WriteBatchResponse {
    client.write_batch(WriteBatchRequest { writes, ..Default::default() }).await.unwrap().into_inner()
}

pub(crate) async fn flush(client: &mut Client) -> FlushResponse {
    client.flush(FlushRequest::default()).await.unwrap().into_inner()
}

pub(crate) async fn status(client: &mut Client) -> GetStatusResponse {
    client.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

pub(crate) async fn costs(client: &mut Client) -> GetCostsResponse {
    client.get_costs(GetCostsRequest {}).await.unwrap().into_inner()
}

/// Asks for the costs until they are as wanted: a flush by itself is told to nobody.
pub(crate) async fn until(
    client: &mut Client,
    wanted: impl Fn(&GetCostsResponse) -> bool,
) -> GetCostsResponse {
    loop {
        let costs = costs(client).await;
        if wanted(&costs) {
            return costs;
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn get(client: &mut Client, id: &str) -> Option<Document> {
    let request = GetRequest { collection: "pools".into(), document_id: id.into() };
    match client.get(request).await {
        Ok(answer) => answer.into_inner().document,
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => panic!("{status}"),
    }
}

/// A document's fields that are integers.
pub(crate) fn numbers(document: Option<Document>) -> Vec<(String, i64)> {
    let mut numbers: Vec<_> = document
        .map(|document| document.fields)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, value)| match value.kind {
            Some(Kind::IntegerValue(number)) => Some((name, number)),
            _ => None,
        })
        .collect();
    numbers.sort();
    numbers
}

/// The agent clock's start, `seconds` later.
pub(crate) fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: START.cast_signed() + seconds, nanos: 0 }
}

/// A sample of `0x1`, read `seconds` after the agent clock's start.
pub(crate) fn sample(seconds: i64, apr: f64) -> MetricSample {
    MetricSample {
        entity: "0x1".into(),
        time: Some(at(seconds)),
        values: HashMap::from([("apr".into(), apr)]),
    }
}

pub(crate) async fn record(client: &mut Client, samples: Vec<MetricSample>) -> RecordMetricsResponse {
    let request = RecordMetricsRequest { collection: String::new(), samples };
    client.record_metrics(request).await.unwrap().into_inner()
}

pub(crate) async fn buckets(client: &mut Client) -> Vec<Bucket> {
    buckets_of(client, "0x1").await
}

pub(crate) async fn buckets_of(client: &mut Client, entity: &str) -> Vec<Bucket> {
    let request = GetBucketsRequest { entity: entity.to_owned(), ..Default::default() };
    client.get_buckets(request).await.unwrap().into_inner().buckets
}

/// Code and wrong fields of a refused call.
pub(crate) fn fault(status: &tonic::Status) -> (Code, Vec<String>) {
    let fault = Fault::from(status);
    (fault.code(), fault.violations().iter().map(|violation| violation.field.clone()).collect())
}

pub(crate) fn time(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
