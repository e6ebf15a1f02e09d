//! The file as the database sees it, and a witness of what went wrong on it.

use std::{
    io,
    sync::Arc,
    thread::{self, ThreadId},
};

use parking_lot::{Mutex, RwLock};
use redb::StorageBackend;

use crate::{
    failure::{Outage, Reason},
    overlay::Overlay,
};

/// Bytes of a file that are kept as its header; the database's own takes 320.
const HEADER_BYTES: u64 = 512;

/// Writes and reads a file, and from the first write on that fails, memory laid over it.
///
/// redb refuses everything after the first error of its file, reads of what it has not cached too. So it does not hear of it:
/// snapshots that are open are read to their end, and whoever commits asks the witness.
#[derive(Debug)]
pub(crate) struct Disk {
    file: Box<dyn StorageBackend>,
    over: RwLock<Option<Overlay>>,
    witness: Arc<Witness>,
}

/// What is known of a file.
#[derive(Debug)]
pub(crate) struct Witness {
    writer: ThreadId,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What failed first.
    fault: Option<Outage>,
    /// Whether what was written is not all in the file.
    detached: bool,
    /// The header as it was written last, if no sync has followed.
    unsynced: Option<Vec<u8>>,
    /// The header as it surely is on the disk.
    synced: Option<Vec<u8>>,
    /// Headers synced since the last [`Witness::begin`].
    syncs: u32,
}

impl Disk {
    /// Takes `file`, on the thread that will write it.
    ///
    /// # Errors
    ///
    /// Fails if the header cannot be read.
    pub(crate) fn new(file: Box<dyn StorageBackend>) -> io::Result<Self> {
        let mut header = vec![0; usize::try_from(file.len()?.min(HEADER_BYTES)).unwrap_or(0)];
        file.read(0, &mut header)?;
        let synced = (!header.is_empty()).then_some(header);
        let seen = Mutex::new(Seen { synced, ..Seen::default() });
        let witness = Arc::new(Witness { writer: thread::current().id(), seen });
        Ok(Self { file, over: RwLock::new(None), witness })
    }

    /// Takes `file` and never writes it; `header` is what it begins with.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub(crate) fn read_only(file: Box<dyn StorageBackend>, header: Option<&[u8]>) -> io::Result<Self> {
        let mut over = Overlay::new(file.len()?);
        if let Some(header) = header {
            over.write(&*file, 0, header)?;
        }
        let disk = Self::new(file)?;
        *disk.over.write() = Some(over);
        Ok(disk)
    }

    /// Returns who knows what went wrong.
    pub(crate) fn witness(&self) -> Arc<Witness> {
        Arc::clone(&self.witness)
    }

    /// Changes the file, or from its first fault on what lies over it.
    fn change(
        &self,
        on_disk: impl FnOnce(&dyn StorageBackend) -> io::Result<()>,
        in_memory: impl FnOnce(&mut Overlay) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.over.read().is_none() {
            let Err(error) = on_disk(&*self.file) else { return Ok(()) };
            if !self.witness.detach(&error) {
                return Err(error);
            }
        }
        let mut over = self.over.write();
        if over.is_none() {
            *over = Some(Overlay::new(self.file.len()?));
        }
        over.as_mut().map_or(Ok(()), in_memory)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.over.read().as_ref().map_or_else(|| self.file.len(), |over| Ok(over.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let done = match &*self.over.read() {
            Some(over) => over.read(&*self.file, offset, out),
            None => self.file.read(offset, out),
        };
        done.inspect_err(|error| self.witness.note(error))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(
            |file| file.set_len(len),
            |over| {
                over.set_len(len);
                Ok(())
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        let on_disk = |file: &dyn StorageBackend| {
            file.sync_data()?;
            self.witness.synced();
            Ok(())
        };
        self.change(on_disk, |_| Ok(()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let on_disk = |file: &dyn StorageBackend| {
            if offset == 0 {
                // Before it is written: a part of it may be.
                self.witness.seen.lock().unsynced = Some(data.to_vec());
            }
            file.write(offset, data)
        };
        self.change(on_disk, |over| over.write(&*self.file, offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

impl Witness {
    /// Begins to count the headers of one commit.
    pub(crate) fn begin(&self) {
        self.seen.lock().syncs = 0;
    }

    /// Returns how many headers reached the disk since [`Witness::begin`]: a commit writes one, or two with quick repair, and
    /// has happened when the last of them did.
    pub(crate) fn syncs(&self) -> u32 {
        self.seen.lock().syncs
    }

    /// Returns the first fault of the file.
    pub(crate) fn fault(&self) -> Option<Outage> {
        self.seen.lock().fault.clone()
    }

    /// Returns whether what the database holds is not all in the file: a snapshot taken from now on may show what never was
    /// committed.
    pub(crate) fn is_detached(&self) -> bool {
        self.seen.lock().detached
    }

    /// Returns the last header that surely is on the disk; absent if there never was one.
    pub(crate) fn header(&self) -> Option<Vec<u8>> {
        self.seen.lock().synced.clone()
    }

    fn synced(&self) {
        let mut seen = self.seen.lock();
        if let Some(header) = seen.unsynced.take() {
            seen.synced = Some(header);
            seen.syncs += 1;
        }
    }

    fn note(&self, error: &io::Error) {
        let copy = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        let outage = Outage { reason: Reason::of(error), cause: Arc::new(redb::Error::Io(copy)) };
        self.seen.lock().fault.get_or_insert(outage);
    }

    /// Notes a write that failed; returns whether memory takes it. A reader's does not: all it writes is what redb evicts to
    /// make room, and redb keeps that if it fails.
    fn detach(&self, error: &io::Error) -> bool {
        let ours = thread::current().id() == self.writer;
        if ours {
            self.note(error);
            self.seen.lock().detached = true;
        }
        ours
    }
}
