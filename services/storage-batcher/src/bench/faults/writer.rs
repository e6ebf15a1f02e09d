//! One who writes, and knows what each of its documents must be.

use std::{collections::BTreeMap, net::SocketAddr};

use contracts::storage::{
    ArrayValue, DocumentWrite, FieldTransform, FlushRequest, GetRequest, Value, WriteMode, WriteRequest,
    field_transform::TransformType, storage_batcher_service_client::StorageBatcherServiceClient, value::Kind,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rpc::{Channel, ChannelOptions, Client as _, Code};
use telemetry::Telemetry;
use tonic::Status;

use super::Error;

/// Documents of a writer.
const DOCUMENTS: u32 = 40;
const COLLECTION: &str = "kept";
/// Most differences that are told in words.
const TOLD: usize = 10;
/// Fields by what becomes of them.
const COUNT: &str = "count";
const LIST: &str = "list";
const STATE: &str = "state";

pub(super) type Client = StorageBatcherServiceClient<Channel>;

/// What a document must be; nothing if it must not be there.
type Document = Option<BTreeMap<&'static str, Field>>;

/// A field of a document.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Number(i64),
    Numbers(Vec<i64>),
}

/// What is done to a document.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(i64),
    Merge(i64),
    Add(i64),
    Append(i64),
    Delete,
}

/// What is not as it must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Differences {
    /// Documents that miss something.
    pub(super) lost: u64,
    /// Documents that have something twice.
    pub(super) doubled: u64,
    /// The first of them.
    pub(super) wrong: Vec<String>,
}

/// One who writes.
pub(super) struct Writer {
    number: u32,
    random: StdRng,
    documents: BTreeMap<u32, Document>,
    /// The write that was not acknowledged yet.
    open: Option<(u32, Step)>,
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Writes that were cut off and written again.
    pub(super) repeated: u64,
}

/// Returns a client that repeats nothing by itself.
pub(super) fn client(address: SocketAddr) -> Result<Client, Error> {
    let options = ChannelOptions { retries: 0, ..ChannelOptions::default() };
    let channel = Channel::lazy(&format!("http://{address}"), options, Telemetry::silent("writer"))?;
    Ok(Client::over(channel))
}

/// Sends all that waits.
pub(super) async fn store(client: &mut Client) -> Result<(), Error> {
    client.flush(FlushRequest::default()).await.map_err(|status| failed("Flush", &status))?;
    Ok(())
}

impl Writer {
    pub(super) fn new(number: u32, seed: u64) -> Self {
        Self {
            number,
            random: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number.into())),
            documents: BTreeMap::new(),
            open: None,
            acknowledged: 0,
            repeated: 0,
        }
    }

    /// Returns how many documents it wrote.
    pub(super) fn documents(&self) -> usize {
        self.documents.len()
    }

    /// Writes until a write fails: the service is gone.
    pub(super) async fn write_until_gone(&mut self, mut client: Client) {
        self.repeated += u64::from(self.open.is_some());
        while self.write(&mut client).await.is_ok() {}
    }

    /// Writes what was cut off again.
    pub(super) async fn finish(&mut self, client: &mut Client) -> Result<(), Error> {
        match self.open {
            None => Ok(()),
            Some(_) => self.write(client).await.map_err(|status| failed("Write", &status)),
        }
    }

    async fn write(&mut self, client: &mut Client) -> Result<(), Status> {
        let (document, step) = self.open.unwrap_or_else(|| self.draw());
        self.open = Some((document, step));
        let write = DocumentWrite {
            collection: COLLECTION.to_owned(),
            document_id: self.id(document),
            // By the same key when it is written again.
            idempotency_key: format!("{}-{}", self.number, self.acknowledged),
            ..step.write()
        };
        client.write(WriteRequest { write: Some(write), ..Default::default() }).await?;
        let state = self.documents.entry(document).or_default();
        step.apply(state);
        (self.open, self.acknowledged) = (None, self.acknowledged + 1);
        Ok(())
    }

    fn draw(&mut self) -> (u32, Step) {
        let random = &mut self.random;
        let (document, number) = (random.random_range(0..DOCUMENTS), random.random_range(0..1_000));
        let step = match random.random_range(0..20) {
            0 => Step::Delete,
            1..3 => Step::Set(number),
            3..7 => Step::Merge(number),
            7..9 => Step::Append(number % 50),
            _ => Step::Add(number),
        };
        (document, step)
    }

    fn id(&self, document: u32) -> String {
        format!("{}-{document}", self.number)
    }

    /// Compares what the sink holds with what it must hold.
    pub(super) async fn compare(
        &self,
        client: &mut Client,
        differences: &mut Differences,
    ) -> Result<(), Error> {
        for (number, expected) in &self.documents {
            let id = self.id(*number);
            let request = GetRequest { collection: COLLECTION.to_owned(), document_id: id.clone() };
            let found = match client.get(request).await {
                Ok(answer) => answer.into_inner().document,
                Err(status) if status.code() == Code::NotFound => None,
                Err(status) => return Err(failed("Get", &status)),
            };
            let is_pending = found.as_ref().is_some_and(|found| found.pending);
            let found: Document = found.map(|found| read(&found.fields));
            if &found == expected && !is_pending {
                continue;
            }
            let count = |document: &Document| match document.as_ref().and_then(|fields| fields.get(COUNT)) {
                Some(Field::Number(count)) => *count,
                _ => 0,
            };
            if count(&found) > count(expected) {
                differences.doubled += 1
            } else {
                differences.lost += 1
            }
            if differences.wrong.len() < TOLD {
                let pending = if is_pending { ", not at the sink" } else { "" };
                differences.wrong.push(format!("{id}: {found:?}{pending}, expected {expected:?}"));
            }
        }
        Ok(())
    }
}

impl Step {
    /// Applies it to what a document must be, as Firestore does.
    fn apply(self, document: &mut Document) {
        if let Self::Delete = self {
            *document = None;
            return;
        }
        let fields = document.get_or_insert_default();
        match self {
            Self::Set(number) => {
                fields.clear();
                fields.insert(STATE, Field::Number(number));
            }
            Self::Merge(number) => drop(fields.insert(STATE, Field::Number(number))),
            Self::Add(number) => match fields.entry(COUNT).or_insert(Field::Number(0)) {
                Field::Number(count) => *count += number,
                Field::Numbers(_) => {}
            },
            Self::Append(number) => match fields.entry(LIST).or_insert(Field::Numbers(Vec::new())) {
                Field::Numbers(numbers) if !numbers.contains(&number) => numbers.push(number),
                _ => {}
            },
            Self::Delete => {}
        }
    }

    fn write(self) -> DocumentWrite {
        let integer = |number| Value { kind: Some(Kind::IntegerValue(number)) };
        let fields = |number| [(STATE.to_owned(), integer(number))].into();
        let with = |field: &str, transform| {
            let transform = FieldTransform { field_path: field.to_owned(), transform_type: Some(transform) };
            DocumentWrite {
                mode: WriteMode::Merge.into(),
                update_transforms: vec![transform],
                ..DocumentWrite::default()
            }
        };
        match self {
            Self::Set(number) => DocumentWrite {
                mode: WriteMode::Set.into(),
                fields: fields(number),
                ..DocumentWrite::default()
            },
            Self::Merge(number) => DocumentWrite {
                mode: WriteMode::Merge.into(),
                fields: fields(number),
                ..DocumentWrite::default()
            },
            Self::Add(number) => with(COUNT, TransformType::Increment(integer(number))),
            Self::Append(number) => {
                let values = vec![integer(number)];
                with(LIST, TransformType::AppendMissingElements(ArrayValue { values }))
            }
            Self::Delete => DocumentWrite { mode: WriteMode::Delete.into(), ..DocumentWrite::default() },
        }
    }
}

/// Reads the fields that writers write; others are none of theirs and show as a difference.
fn read(fields: &std::collections::HashMap<String, Value>) -> BTreeMap<&'static str, Field> {
    let number = |value: &Value| match value.kind {
        Some(Kind::IntegerValue(number)) => number,
        _ => i64::MIN,
    };
    let name =
        |name: &str| [COUNT, LIST, STATE].into_iter().find(|known| *known == name).unwrap_or("unknown");
    let field = |value: &Value| match &value.kind {
        Some(Kind::ArrayValue(list)) => Field::Numbers(list.values.iter().map(number).collect()),
        _ => Field::Number(number(value)),
    };
    fields.iter().map(|(of, value)| (name(of), field(value))).collect()
}

fn failed(what: &'static str, status: &Status) -> Error {
    Error::Rpc { what, why: status.to_string() }
}
