//! The handle of a writer, and what it shares with the task that has the stream.

mod link;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use contracts::storage::{
    DocumentWrite, WriteLevel, WriteStreamRequest,
    storage_batcher_service_client::StorageBatcherServiceClient,
};
use parking_lot::Mutex;
use prost::Message as _;
use rpc::{Channel, Client as _, Code, Fault, chance::Chance};
use telemetry::Telemetry;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::AbortHandle,
};

use self::link::Link;
use super::{Error, Options, window::Window};

/// Sends writes over a stream that it makes when there is something to send, and again when it breaks. Several tasks may share one.
///
/// Dropping it ends the stream and gives up what is not answered; [`Writer::close`] says what that was.
///
/// ```
/// use contracts::storage::{DocumentWrite, WriteLevel};
/// use storage_batcher::client::{Error, Options, Writer};
///
/// async fn keep(channel: rpc::Channel, telemetry: &telemetry::Telemetry, writes: Vec<DocumentWrite>) -> Result<(), Error> {
///     let writer = Writer::open(channel, Options::default(), telemetry);
///     for write in writes {
///         writer.send(write, WriteLevel::Durable).await?;
///     }
///     writer.flush().await?;
///     let left = writer.close(std::time::Duration::from_secs(10)).await;
///     assert!(left.is_empty());
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    key_prefix: String,
    max_bytes: usize,
    max_write_bytes: usize,
    task: AbortHandle,
}

/// What comes of one write: its place in the journal, or why it is not acknowledged.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<Result<u64, Error>>);

/// A write that was not answered when its writer was closed. It may have been accepted: sent again with its key, it is accepted once.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// The write, with its key.
    pub write: DocumentWrite,
    /// When it was to be acknowledged.
    pub level: WriteLevel,
}

/// What handle and task share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Room for writes and for their bytes.
    writes: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// There may be something to send, or the writer is closed.
    work: Notify,
    progress: watch::Sender<Progress>,
}

/// How far the answers came.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The first number that is not answered.
    first: u64,
    /// No further answer comes.
    is_over: bool,
}

#[derive(Debug, Default)]
struct State {
    window: Window<Promise>,
    closing: bool,
    /// Why no stream can be had.
    failure: Option<Fault>,
    /// What was not answered when that was known.
    left: Vec<Left>,
}

/// A write that somebody was promised an answer to.
#[derive(Debug)]
struct Promise {
    request: WriteStreamRequest,
    ack: oneshot::Sender<Result<u64, Error>>,
    _room: [OwnedSemaphorePermit; 2],
}

impl Writer {
    /// Makes a writer over `channel`; it connects with the first write. Needs a tokio runtime.
    #[must_use]
    pub fn open(channel: Channel, options: Options, telemetry: &Telemetry) -> Self {
        let max_bytes = options.max_bytes.clamp(1, u32::MAX as usize);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            writes: Arc::new(Semaphore::new(options.max_writes.max(1))),
            bytes: Arc::new(Semaphore::new(max_bytes)),
            work: Notify::new(),
            progress: watch::Sender::new(Progress { first: 1, is_over: false }),
        });
        let link = Link {
            shared: Arc::clone(&shared),
            client: StorageBatcherServiceClient::over(channel),
            chance: options.seed.map_or_else(Chance::new, Chance::seeded),
            pauses: (options.first_pause, options.longest_pause),
            failures: 0,
        };
        let key_prefix = options.key_prefix.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let task = telemetry.spawn_apart(link.run()).abort_handle();
        Self { shared, key_prefix, max_bytes, max_write_bytes: options.max_write_bytes, task }
    }

    /// Takes a write when there is room for it, and returns what will come of it. Writes are sent in the order in which they are taken; one
    /// without a key gets one. To wait for the answer is nobody's duty.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is larger than [`Options::max_write_bytes`], [`Error::Failed`] or [`Error::Closed`] if nothing is sent any
    /// more.
    pub async fn send(&self, write: DocumentWrite, level: WriteLevel) -> Result<Ack, Error> {
        let size = write.encoded_len().min(self.max_bytes);
        // Semaphores of tokio are fair: nobody is overtaken for long.
        let one = Arc::clone(&self.shared.writes).acquire_owned().await;
        let one = one.map_err(|_| self.shared.why())?;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.shared.bytes).acquire_many_owned(size).await;
        let bytes = bytes.map_err(|_| self.shared.why())?;
        let (ack, answer) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            if state.closing || state.failure.is_some() {
                drop(state);
                return Err(self.shared.why());
            }
            let number = state.window.next_number();
            let mut write = write;
            if write.idempotency_key.is_empty() {
                write.idempotency_key = format!("{}-{number}", self.key_prefix);
            }
            let request = WriteStreamRequest { number, write: Some(write), level: level.into() };
            let size = request.encoded_len();
            if size > self.max_write_bytes {
                return Err(Error::Refused(self.too_large(size)));
            }
            state.window.push(Promise { request, ack, _room: [one, bytes] }, size as u64);
        }
        self.shared.work.notify_one();
        Ok(Ack(answer))
    }

    fn too_large(&self, size: usize) -> Fault {
        let message = format!("the write has {size} bytes, and max_write_bytes = {}", self.max_write_bytes);
        Fault::new(Code::OutOfRange, message)
    }

    /// Waits until every write that was taken before is answered, well or not.
    ///
    /// # Errors
    /// [`Error::Failed`] or [`Error::Closed`] if some never will be.
    pub async fn flush(&self) -> Result<(), Error> {
        let next = self.shared.state.lock().window.next_number();
        if self.shared.answered(next).await { Ok(()) } else { Err(self.shared.why()) }
    }

    /// Takes no more, and waits for the answers to what was taken, for at most `patience` of wall time. Returns the writes that are not answered, in order;
    /// who waits for those is told [`Error::Closed`].
    pub async fn close(&self, patience: Duration) -> Vec<Left> {
        self.shared.state.lock().closing = true;
        self.shared.shut();
        let over = self.shared.answered(u64::MAX);
        if tokio::time::timeout(patience, over).await.is_err() {
            self.task.abort();
            self.shared.end();
        }
        let mut state = self.shared.state.lock();
        let late = state.window.take();
        let mut left = std::mem::take(&mut state.left);
        drop(state);
        left.extend(late.into_iter().filter_map(|promise| promise.give_up().0));
        left
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
        let left = self.shared.state.lock().window.take();
        drop(left);
    }
}

impl Future for Ack {
    type Output = Result<u64, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}

impl Promise {
    fn give_up(self) -> (Option<Left>, oneshot::Sender<Result<u64, Error>>) {
        let level = self.request.level();
        (self.request.write.map(|write| Left { write, level }), self.ack)
    }
}

impl Shared {
    /// Says why nothing is sent any more.
    fn why(&self) -> Error {
        self.state.lock().failure.clone().map_or(Error::Closed, Error::Failed)
    }

    /// Lets nobody in any more.
    fn shut(&self) {
        self.writes.close();
        self.bytes.close();
        self.work.notify_one();
    }

    /// Waits until all before `number` are answered; `false` if they never will be.
    async fn answered(&self, number: u64) -> bool {
        let mut progress = self.progress.subscribe();
        let came = progress.wait_for(|progress| progress.is_over || progress.first >= number).await;
        // The sender lives as long as this does.
        came.is_ok_and(|progress| progress.first >= number)
    }

    /// Tells who waits that no further answer comes.
    fn end(&self) {
        self.progress.send_modify(|progress| progress.is_over = true);
    }

    /// Gives up: who waits is told why, and so is who comes.
    fn fail(&self, fault: &Fault) {
        let mut state = self.state.lock();
        state.failure = Some(fault.clone());
        for promise in state.window.take() {
            let (left, ack) = promise.give_up();
            state.left.extend(left);
            // Who left does not need the answer.
            drop(ack.send(Err(Error::Failed(fault.clone()))));
        }
        drop(state);
        self.shut();
    }
}
