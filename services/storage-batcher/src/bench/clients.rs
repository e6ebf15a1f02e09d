//! What the benchmarks say to a batcher, and what they read of its answers.

mod watch;
mod writers;

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use contracts::storage::{
    ArrayValue, DocumentWrite, FieldTransform, FlushRequest, GetRequest, Value, WriteLevel, WriteMode,
    WriteRequest, field_transform::TransformType,
    storage_batcher_service_client::StorageBatcherServiceClient, value::Kind,
};
use prost::Message as _;
use rpc::{Channel, ChannelOptions, Client as _, Code};
use telemetry::Telemetry;
use testkit::load::frame;
use tonic::Status;

pub(super) use self::{
    watch::{Watch, late},
    writers::Writers,
};
use super::{
    Error,
    step::{COUNT, Document, Field, LIST, STATE, Step},
};
use crate::client::{self, Options, Writer};

/// The rpc by which a write is acknowledged.
pub(super) const WRITE: &str = "/athena.storage.v1.StorageBatcherService/Write";

/// Documents that are written over and over, as pools are.
const DOCUMENTS: u64 = 1_000;
/// Bytes of a document's text, so that a write has some 300.
const TEXT_BYTES: usize = 220;
/// Where writers keep their documents.
const COLLECTION: &str = "kept";

/// Returns the n-th write of a load.
pub(super) fn state(number: u64) -> Bytes {
    frame(&request(document(number)).encode_to_vec())
}

/// Sends so many writes of a load over one stream, of which so many are not answered at a time; returns how many were acknowledged a second.
pub(super) async fn streamed(address: SocketAddr, unanswered: usize, writes: u64) -> Result<f64, Error> {
    let telemetry = Telemetry::silent("writer");
    let channel = Channel::lazy(&format!("http://{address}"), ChannelOptions::default(), telemetry.clone())?;
    let options = Options { max_writes: unanswered, ..Options::default() };
    let writer = Writer::open(channel, options, &telemetry);
    let failed = |error: client::Error| Error::Rpc { what: "WriteStream", why: error.to_string() };
    let mut acks = Vec::new();
    // The stream is made with the first write, which is not what is measured.
    writer.send(document(0), WriteLevel::Durable).await.map_err(failed)?.await.map_err(failed)?;
    let began = Instant::now();
    for number in 1..=writes {
        acks.push(writer.send(document(number), WriteLevel::Durable).await.map_err(failed)?);
    }
    writer.flush().await.map_err(failed)?;
    let took = began.elapsed();
    for ack in acks {
        ack.await.map_err(failed)?;
    }
    Ok(writes as f64 / took.as_secs_f64())
}

fn document(number: u64) -> DocumentWrite {
    let note = Value { kind: Some(Kind::StringValue(format!("{number:0TEXT_BYTES$}"))) };
    let apr = Value { kind: Some(Kind::DoubleValue(number as f64)) };
    DocumentWrite {
        collection: "pools".to_owned(),
        document_id: format!("0x{:040x}", number % DOCUMENTS),
        mode: WriteMode::Set.into(),
        fields: [("apr".to_owned(), apr), ("note".to_owned(), note)].into(),
        ..DocumentWrite::default()
    }
}

/// A batcher's client as the contract has it.
pub(super) type Caller = StorageBatcherServiceClient<Channel>;

/// Who writes; it repeats nothing by itself.
#[derive(Clone, Debug)]
pub(super) struct Client(Caller);

/// Returns a client of its own connection that repeats nothing by itself.
pub(super) fn caller(address: SocketAddr) -> Result<Caller, Error> {
    let options = ChannelOptions { retries: 0, ..ChannelOptions::default() };
    let channel = Channel::lazy(&format!("http://{address}"), options, Telemetry::silent("writer"))?;
    Ok(Caller::over(channel))
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Result<Self, Error> {
        Ok(Self(caller(address)?))
    }

    /// Does `step` to a document, once for each `key`.
    pub(super) async fn write(&mut self, id: String, key: String, step: Step) -> Result<(), Error> {
        let write = DocumentWrite {
            collection: COLLECTION.to_owned(),
            document_id: id,
            idempotency_key: key,
            ..written(step)
        };
        self.0.write(request(write)).await.map_err(|status| failed("Write", &status))?;
        Ok(())
    }

    /// Sends all that waits.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        self.0.flush(FlushRequest::default()).await.map_err(|status| failed("Flush", &status))?;
        Ok(())
    }

    /// Reads a document, and whether the sink does not have it so yet.
    pub(super) async fn get(&mut self, id: String) -> Result<(Document, bool), Error> {
        match self.0.get(GetRequest { collection: COLLECTION.to_owned(), document_id: id }).await {
            Ok(answer) => {
                let document = answer.into_inner().document.unwrap_or_default();
                let fields = document.fields.into_iter().map(|(name, value)| (name, read(&value)));
                Ok((Some(fields.collect()), document.pending))
            }
            Err(status) if status.code() == Code::NotFound => Ok((None, false)),
            Err(status) => Err(failed("Get", &status)),
        }
    }
}

fn request(write: DocumentWrite) -> WriteRequest {
    WriteRequest { write: Some(write), ..WriteRequest::default() }
}

pub(super) fn integer(number: i64) -> Value {
    Value { kind: Some(Kind::IntegerValue(number)) }
}

fn written(step: Step) -> DocumentWrite {
    let plain = |mode: WriteMode, number| DocumentWrite {
        mode: mode.into(),
        fields: [(STATE.to_owned(), integer(number))].into(),
        ..DocumentWrite::default()
    };
    let with = |field: &str, transform| DocumentWrite {
        mode: WriteMode::Merge.into(),
        update_transforms: vec![FieldTransform {
            field_path: field.to_owned(),
            transform_type: Some(transform),
        }],
        ..DocumentWrite::default()
    };
    match step {
        Step::Set(number) => plain(WriteMode::Set, number),
        Step::Merge(number) => plain(WriteMode::Merge, number),
        Step::Add(number) => with(COUNT, TransformType::Increment(integer(number))),
        Step::Append(number) => {
            let values = vec![integer(number)];
            with(LIST, TransformType::AppendMissingElements(ArrayValue { values }))
        }
        Step::Delete => DocumentWrite { mode: WriteMode::Delete.into(), ..DocumentWrite::default() },
    }
}

/// Reads a field as writers write it; what is neither an integer nor a list of such shows as a difference.
fn read(value: &Value) -> Field {
    let number = |value: &Value| match value.kind {
        Some(Kind::IntegerValue(number)) => number,
        _ => i64::MIN,
    };
    match &value.kind {
        Some(Kind::ArrayValue(list)) => Field::Numbers(list.values.iter().map(number).collect()),
        _ => Field::Number(number(value)),
    }
}

pub(super) fn failed(what: &'static str, status: &Status) -> Error {
    Error::Rpc { what, why: status.to_string() }
}
