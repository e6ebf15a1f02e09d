//! Opening: the file, its layout, every memory of it; and what is done where the file cannot be read.

use std::{
    error::Error as Cause,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use caching::Cache;
use clock::Clock;
use journal::{Failed, Journal};
use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use telemetry::Telemetry;

use super::{
    FILE, FromParts, Mark, Options, Store, accounts, checkpoint, failed, legacy,
    load::{self, Losses, Rows},
    quarantine, reembeddings, snapshot,
    tables::{
        ACCOUNTS, CHECKPOINTS, DAMAGED, DROPPED, FORGETTINGS, FORMAT, FORMAT_NAME, IDS, JOBS, META, OLD_SETS,
        RECORDS, REMOVED, SPACES, SpaceRow, TRASH, VECTORS,
    },
    trash,
    write::Refused,
};
use crate::{
    error::Error,
    memory::Memory,
    shape::{Shape, SpaceKey},
    upkeep::accounts::Accounts,
};

/// What a start makes of the memories of a space: from its checkpoint, or bare, then from what came after.
pub(crate) trait FromRows: FromParts {
    /// Makes it of no memories, for vectors of `shape`.
    fn bare(shape: &Shape) -> Self;
    /// Takes a memory, whose number is greater than every one before.
    fn put(&mut self, seq: u64, memory: &Memory, vector: &[f32]);
    /// Leaves out what is there no more.
    fn leave_out(&mut self, seqs: Vec<u64>);
    /// Hears that this is the state after the write `generation`.
    fn reached(&mut self, generation: u64);
}

/// What a store held when it was opened.
#[derive(Debug)]
pub(crate) struct Loaded<I> {
    /// The spaces.
    pub(crate) spaces: Vec<LoadedSpace<I>>,
    /// Memories that could not be read.
    pub(crate) corrupt: u64,
    /// Files that were set aside, now or earlier, because they could not be read.
    pub(crate) quarantined: Vec<PathBuf>,
}

/// A space as it was on disk.
#[derive(Debug)]
pub(crate) struct LoadedSpace<I> {
    /// Whose it is.
    pub(crate) key: SpaceKey,
    /// Its number.
    pub(crate) number: u32,
    /// What its vectors are.
    pub(crate) shape: Shape,
    /// The set that they lie in.
    pub(crate) vectors: u32,
    /// Its readable memories.
    pub(crate) memories: I,
    /// How often they were recalled and said.
    pub(crate) accounts: Accounts,
    /// The checkpoint that they were made from, if there was one.
    pub(crate) mark: Option<Mark>,
}

/// Why a file was not opened.
enum Refusal {
    /// It cannot be read, today or ever.
    Damaged(Box<dyn Cause + Send + Sync>),
    Other(Error),
}

impl Store {
    /// Opens the store, makes it if missing, brings it to the present layout, and reads every memory. A memory that cannot be
    /// read is logged and counted, and stays where it is. A file that cannot be read is set aside, whole, and a new one begun.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Store`], [`Error::Later`], or [`Error::Maker`] if the vectors of a default namespace do not fit
    /// the settings, which it names.
    pub(crate) async fn open<I: FromRows + Send + 'static>(
        options: &Options,
        clock: &Clock,
        telemetry: &Telemetry,
    ) -> Result<(Self, Loaded<I>), Error> {
        let path = options.folder.join(FILE);
        let opened = match open(options, clock, telemetry).await {
            Err(Refusal::Damaged(error)) => {
                set_aside(&path, &*error)?;
                open(options, clock, telemetry).await
            }
            opened => opened,
        };
        let (store, mut loaded) = opened.map_err(|refusal| match refusal {
            Refusal::Damaged(error) => Error::Store(journal::Reason::Store, error),
            Refusal::Other(error) => error,
        })?;
        loaded.quarantined = quarantine::held(&path);
        Ok((store, loaded))
    }
}

/// Moves a file that cannot be read out of the way.
fn set_aside(path: &Path, error: &(dyn Cause + Send + Sync + 'static)) -> Result<(), Error> {
    let moved = quarantine::set_aside(path);
    let to = moved.map_err(|error| Error::Store(journal::Reason::Store, Box::new(error)))?;
    let (error, file) = (error as &dyn Cause, to.display());
    tracing::error!(error, %file, "the store cannot be read: it is set aside, and a new one begins");
    Ok(())
}

async fn open<I: FromRows + Send + 'static>(
    options: &Options,
    clock: &Clock,
    telemetry: &Telemetry,
) -> Result<(Store, Loaded<I>), Refusal> {
    let path = options.folder.join(FILE);
    let (opened, journal, from) = (path.clone(), options.journal.clone(), options.restore.clone());
    let restore = move || {
        from.map_or(Ok(()), |from| snapshot::restore(&from, &opened))?;
        Ok::<_, std::io::Error>(opened)
    };
    let restored = telemetry.spawn_blocking(restore).await.map_err(of_task)?;
    let opened = restored.map_err(|error| Refusal::Other(Error::Snapshot(error)))?;
    let opening = telemetry.spawn_blocking(move || Journal::open(opened, &journal)).await;
    let journal = opening.map_err(of_task)?.map_err(|error| {
        if quarantine::is_damage(&error) {
            Refusal::Damaged(Box::new(error))
        } else {
            Refusal::Other(Error::Open(error))
        }
    })?;
    match read_all(&journal, options, telemetry).await {
        Ok(loaded) => {
            let cache = Cache::new(options.cached, options.cached_for, clock.clone());
            let namespaces = options.namespaces;
            Ok((Store { journal, path, namespaces, cache }, loaded))
        }
        Err(refusal) => {
            // Whoever tries again, with another setting or another file, finds this one free.
            journal.close().await;
            Err(refusal)
        }
    }
}

async fn read_all<I: FromRows + Send + 'static>(
    journal: &Journal,
    options: &Options,
    telemetry: &Telemetry,
) -> Result<Loaded<I>, Refusal> {
    let is_old = journal.commit(prepare).await.map_err(of_journal)?;
    let format = is_old.map_err(|format| Refusal::Other(Error::Later(format)))?;
    if format {
        migrate(journal).await?;
    }
    let (reading, shape, other) = (journal.clone(), options.shape.clone(), options.other.clone());
    let adopt = move |write: &WriteTransaction| adopt(write, &shape, other.as_ref());
    journal.commit(adopt).await.map_err(of_journal)?.map_err(Refusal::Other)?;
    let path = options.folder.join(FILE);
    let read = move || reading.read(|read| all(read, &path)).map_err(of_journal);
    telemetry.spawn_blocking(read).await.map_err(of_task)?
}

/// Makes the tables; returns whether the file is of the first layout, or of which later one.
pub(super) fn prepare(write: &WriteTransaction) -> Result<Result<bool, u32>, Refused> {
    write.open_table(SPACES)?;
    write.open_table(IDS)?;
    write.open_table(RECORDS)?;
    write.open_table(VECTORS)?;
    write.open_table(REMOVED)?;
    write.open_table(CHECKPOINTS)?;
    write.open_table(DROPPED)?;
    write.open_table(DAMAGED)?;
    // Three that the layout began without: a store of then is one of now that nothing was forgotten in, or recalled from.
    write.open_table(FORGETTINGS)?;
    write.open_table(TRASH)?;
    write.open_table(ACCOUNTS)?;
    // Two that came with layout 3, as did what the row of a space says of its sets of vectors.
    write.open_table(JOBS)?;
    write.open_table(OLD_SETS)?;
    let mut meta = write.open_table(META)?;
    let format = meta.get(FORMAT_NAME)?.and_then(|format| format.value().parse().ok());
    match format {
        Some(format) if format > FORMAT => Ok(Err(format)),
        Some(FORMAT) => Ok(Ok(false)),
        None if legacy::is_here(write)? => Ok(Ok(true)),
        // The rows of layout 2 are read as they are.
        Some(_) | None => {
            meta.insert(FORMAT_NAME, FORMAT.to_string().as_str())?;
            Ok(Ok(false))
        }
    }
}

async fn migrate(journal: &Journal) -> Result<(), Refusal> {
    tracing::info!(to = FORMAT, "the store is of an earlier layout and is brought to the present one");
    while journal.commit(legacy::migrate).await.map_err(of_journal)? > 0 {}
    tracing::info!(to = FORMAT, "the store is of the present layout");
    Ok(())
}

/// Checks that somebody here makes the vectors of default namespaces: who makes those of `shape`, the `other`, or hashing. One without
/// memories takes `shape` on.
fn adopt(
    write: &WriteTransaction,
    shape: &Shape,
    other: Option<&Shape>,
) -> Result<Result<(), Error>, Refused> {
    let (mut spaces, records) = (write.open_table(SPACES)?, write.open_table(RECORDS)?);
    let mut empty = Vec::new();
    for entry in spaces.iter()? {
        let (key, row) = entry?;
        let (tenant, namespace) = key.value();
        let row = SpaceRow::decode(row.value())?;
        if let (true, Err(error)) = (namespace.is_empty(), row.fits(shape)) {
            if records.range((row.number, 0)..=(row.number, u64::MAX))?.next().is_some() {
                if row.shape.is_hashing() || other.is_some_and(|other| row.fits(other).is_ok()) {
                    continue;
                }
                return Ok(Err(error));
            }
            empty.push((tenant.to_vec(), SpaceRow { shape: shape.clone(), ..row }));
        }
    }
    for (tenant, mut row) in empty {
        reembeddings::abandon(write, &mut row)?;
        // What was forgotten has vectors of the other maker: it cannot come back.
        trash::end_all(write, row.number)?;
        spaces.insert((tenant.as_slice(), &[][..]), row.encode().as_slice())?;
    }
    Ok(Ok(()))
}

/// Makes the memories of every space: from its checkpoint, if there is one that fits, and from the rows after it.
fn all<I: FromRows>(read: &ReadTransaction, path: &Path) -> Result<Loaded<I>, Refused> {
    let (rows, mut losses) = (Rows::open(read)?, Losses::default());
    let (mut spaces, mut named) = (Vec::new(), Vec::new());
    let checkpoints = read.open_table(CHECKPOINTS)?;
    for (key, row) in load::spaces(read)? {
        let noted = checkpoints.get(row.number)?.map(|noted| noted.value());
        let from = noted.and_then(|noted| checkpoint::read::<I>(path, &row, noted));
        named.extend(noted.map(|(name, _)| checkpoint::named(row.number, name)));
        let mark = from.as_ref().map(|(_, mark)| *mark);
        let memories = catch_up(&rows, &row, from, u64::MAX, &mut losses)?;
        let accounts = Accounts::new(accounts::saved(read, row.number)?);
        let SpaceRow { number, shape, vectors, .. } = row;
        spaces.push(LoadedSpace { key, number, shape, vectors, memories, accounts, mark });
    }
    checkpoint::tidy(path, |file| named.iter().any(|name| name == file));
    Ok(Loaded { spaces, corrupt: losses.count(), quarantined: Vec::new() })
}

/// Brings what is known of a space as of a moment before, or nothing, to what its rows say: what was removed since is left out, and the
/// memories after the last one that is known are added, up to number `upto`.
pub(super) fn catch_up<I: FromRows>(
    rows: &Rows,
    space: &SpaceRow,
    from: Option<(I, Mark)>,
    upto: u64,
    losses: &mut Losses,
) -> Result<I, Refused> {
    let (mut memories, mark) =
        from.map_or_else(|| (I::bare(&space.shape), None), |(memories, mark)| (memories, Some(mark)));
    if let Some(mark) = mark {
        let mut gone = Vec::new();
        rows.removed(space.number, mark.generation, |seq| gone.push(seq))?;
        if !gone.is_empty() {
            memories.leave_out(gone);
        }
    }
    rows.each(space, (mark.map_or(0, |mark| mark.last), upto), losses, |seq, memory, vector| {
        memories.put(seq, &memory, vector);
        ControlFlow::Continue(())
    })?;
    memories.reached(space.generation);
    Ok(memories)
}

impl SpaceRow {
    /// Refuses a default namespace whose vectors the settings do not fit.
    fn fits(&self, settings: &Shape) -> Result<(), Error> {
        let stored = &self.shape;
        let (setting, stored, configured) = if stored.dimensions != settings.dimensions {
            ("memory_dimensions", stored.dimensions.to_string(), settings.dimensions.to_string())
        } else if stored.embedder != settings.embedder {
            ("memory_embedder", stored.embedder.clone(), settings.embedder.clone())
        } else {
            return Ok(());
        };
        Err(Error::Maker { setting, stored, configured })
    }
}

fn of_task(error: tokio::task::JoinError) -> Refusal {
    // redb panics where a page of the file says what no page may say.
    if error.is_panic() { Refusal::Damaged(Box::new(error)) } else { Refusal::Other(Error::Task(error)) }
}

fn of_journal(error: Failed<Refused>) -> Refusal {
    let damaged = match &error {
        Failed::Panicked | Failed::Refused(Refused::Corrupt(_)) => true,
        Failed::Refused(Refused::Database(error)) => quarantine::is_read_damage(error),
        Failed::Store(outage) => quarantine::is_read_damage(&outage.cause),
        _ => false,
    };
    if damaged { Refusal::Damaged(Box::new(error)) } else { Refusal::Other(failed(error)) }
}
