//! Two sets of vectors for one space: the one that is read, and the one that a re-embedding fills.
//!
//! A set is a number, from the counter of the spaces' own, under which vectors lie by their memories' numbers. A re-embedding begins one,
//! brings vectors to it page by page, each in a commit with the job as it stands then, and makes it the space's own in one commit that is
//! refused if anything was written since its index was made. What nobody reads any more is removed in small slices.

use std::{fs, time::SystemTime};

#[cfg(test)]
use redb::ReadableTableMetadata as _;
use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};

use super::{
    FromRows, Mark, Store, checkpoint, erase, failed, job,
    load::{self, Losses, Rows},
    open::catch_up,
    record::{self, Row},
    tables::{CHECKPOINTS, JOBS, OLD_SETS, RECORDS, REMOVED, SpaceRow, VECTORS},
    trash,
    write::{AT_ONCE, Refused, find, number, put, take},
};
use crate::{
    error::Error,
    memory::Memory,
    shape::{Shape, SpaceKey},
    upkeep::reembed::{Job, State},
};

/// Memories in the order of their numbers; one that cannot be read is absent.
pub(crate) type Page = Vec<(u64, Option<Memory>)>;

/// The space and the name of a checkpoint that fits no longer.
type Unfit = (u32, u128);

/// A space that was changed to another set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The number of the change among the space's writes.
    pub(crate) generation: u64,
    /// The set that was read until then.
    pub(crate) old: u32,
}

impl Store {
    /// Begins to re-embed the space of `key` by `embedder`, whose vectors have `dimensions` values, and returns the job. Where the space is of
    /// these vectors already, or on the way to them, that is its job.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Reembedding`] if another embedder is at it, and those of [`Store::commit`].
    pub(crate) async fn begin_reembedding(
        &self,
        key: &SpaceKey,
        embedder: &str,
        dimensions: usize,
        now: SystemTime,
    ) -> Result<Job, Error> {
        let (key, embedder) = (key.clone(), embedder.to_owned());
        let begin = move |write: &WriteTransaction| begin(write, &key, (&embedder, dimensions), now);
        self.journal.commit(begin).await.map_err(failed)
    }

    /// Keeps the job of the space of `key` as it stands, with vectors for those of the memories that are still there.
    ///
    /// # Errors
    /// [`Error::NoReembedding`] if it is over, and those of [`Store::commit`]; nothing was kept then.
    pub(crate) async fn bring(
        &self,
        key: &SpaceKey,
        job: Job,
        vectors: Vec<(u64, Vec<f32>)>,
    ) -> Result<(), Error> {
        let key = key.clone();
        let mut rows: Vec<(u64, Row)> =
            vectors.iter().map(|(seq, vector)| (*seq, Row::vector(vector))).collect();
        let bytes = rows.iter().map(|(_, row)| row.len()).sum();
        let bring = move |write: &WriteTransaction| bring(write, &key, &job, &mut rows);
        self.journal.commit_sized(bytes, bring).await.map_err(failed)
    }

    /// Changes the space of `key` to the set of `job`, if nothing was written to it since `generation` and no memory is there that has no
    /// vector; otherwise the job takes note that it came too late, and nothing else. What was forgotten cannot come back any more: its vectors
    /// are of the other maker.
    ///
    /// # Errors
    /// [`Error::NoReembedding`] if the job is over, and those of [`Store::commit`]; nothing was changed then.
    pub(crate) async fn change(
        &self,
        key: &SpaceKey,
        job: Job,
        generation: u64,
    ) -> Result<Option<Changed>, Error> {
        let key = key.clone();
        let change = move |write: &WriteTransaction| change(write, &key, job.clone(), generation);
        let done = self.journal.commit(change).await.map_err(failed)?;
        Ok(done.map(|(changed, checkpoint)| {
            // A file that nobody names is removed at the next start, if not now.
            checkpoint.into_iter().for_each(|(space, name)| {
                drop(fs::remove_file(checkpoint::file(&checkpoint::folder(&self.path), space, name)));
            });
            changed
        }))
    }

    /// Ends the re-embedding of the space of `key` if it runs, and returns it as it stands.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NoReembedding`] if there never was one, and those of [`Store::commit`].
    pub(crate) async fn cancel_reembedding(&self, key: &SpaceKey) -> Result<Job, Error> {
        let key = key.clone();
        self.journal.commit(move |write| cancel(write, &key)).await.map_err(failed)
    }

    /// Removes some of the vectors of a set that nobody reads any more; returns whether there are more.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub(crate) async fn remove_set(&self, set: u32) -> Result<bool, Error> {
        self.journal.commit(move |write| remove(write, set)).await.map_err(failed)
    }

    /// Returns the sets that nobody reads any more and that have vectors. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) fn old_sets(&self) -> Result<Vec<u32>, Error> {
        let read = |read: &ReadTransaction| {
            let sets = read.open_table(OLD_SETS)?;
            sets.iter()?.map(|entry| Ok(entry?.0.value())).collect::<Result<_, Refused>>()
        };
        self.journal.read(read).map_err(failed)
    }

    /// Returns how many vectors there are in all, of whatever set.
    #[cfg(test)]
    pub(crate) async fn vectors(&self) -> u64 {
        let count = |write: &WriteTransaction| Ok::<_, Refused>(write.open_table(VECTORS)?.len()?);
        self.journal.commit(count).await.unwrap_or(u64::MAX)
    }

    /// Returns the re-embeddings that run, by the numbers of their spaces. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) fn running(&self) -> Result<Vec<(u32, Job)>, Error> {
        let read = |read: &ReadTransaction| {
            let mut running = Vec::new();
            for entry in read.open_table(JOBS)?.iter()? {
                let (space, row) = entry?;
                let job = job::decode(space.value(), row.value()).ok().filter(Job::runs);
                running.extend(job.map(|job| (space.value(), job)));
            }
            Ok::<_, Refused>(running)
        };
        self.journal.read(read).map_err(failed)
    }

    /// Returns the re-embedding of the space of `key` that runs, or the last one. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NoReembedding`] if there never was one, [`Error::Store`] if it cannot be read.
    pub(crate) fn reembedding(&self, key: &SpaceKey) -> Result<Job, Error> {
        let read = |read: &ReadTransaction| {
            let space = load::space(read, key)?.ok_or(Refused::NoNamespace)?;
            let jobs = read.open_table(JOBS)?;
            let row = jobs.get(space.number)?.ok_or(Refused::NoReembedding)?;
            Ok::<_, Refused>(job::decode(space.number, row.value())?)
        };
        self.journal.read(read).map_err(failed)
    }

    /// Returns up to `most` memories of the space of number `space` after number `after`. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) fn after(&self, space: u32, after: u64, most: usize) -> Result<Page, Error> {
        let read = |read: &ReadTransaction| {
            let records = read.open_table(RECORDS)?;
            let mut page = Page::new();
            let Some(first) = after.checked_add(1) else { return Ok(page) };
            for entry in records.range((space, first)..=(space, u64::MAX))?.take(most) {
                let (key, row) = entry?;
                let key = key.value();
                page.push((key.1, record::memory(key, row.value()).ok()));
            }
            Ok::<_, Refused>(page)
        };
        self.journal.read(read).map_err(failed)
    }

    /// Makes what is searched of the set that `job` fills, of the memories that it has come to, or brings up to date what was made before, with
    /// the moment that it is of. Blocks the thread; nobody else waits.
    ///
    /// # Errors
    /// [`Error::NoReembedding`] if the job is over, [`Error::Store`] if the space cannot be read.
    pub(crate) fn remake<I: FromRows>(
        &self,
        key: &SpaceKey,
        job: &Job,
        from: Option<(I, Mark)>,
    ) -> Result<(I, Mark), Error> {
        let read = |read: &ReadTransaction| {
            let space = load::space(read, key)?.filter(|space| space.coming == Some(job.set));
            let mut space = space.ok_or(Refused::NoReembedding)?;
            take_on(&mut space, job);
            let memories = catch_up(&Rows::open(read)?, &space, from, job.after, &mut Losses::default())?;
            let SpaceRow { number, generation, vectors, .. } = space;
            Ok::<_, Refused>((memories, Mark { space: number, vectors, generation, last: job.after }))
        };
        self.journal.read(read).map_err(failed)
    }
}

/// Returns whether a re-embedding of `space` runs. One whose row cannot be read does not.
pub(super) fn runs(write: &WriteTransaction, space: u32) -> Result<bool, Refused> {
    Ok(of(write, space)?.is_some_and(|job| job.runs()))
}

/// Ends the re-embedding of a space, if one runs; the row of the space is for the caller to write.
pub(super) fn abandon(write: &WriteTransaction, space: &mut SpaceRow) -> Result<Option<Job>, Refused> {
    let Some(set) = space.coming.take() else { return Ok(None) };
    write.open_table(OLD_SETS)?.insert(set, space.number)?;
    let mut job = of(write, space.number)?;
    if let Some(job) = &mut job {
        job.cancel();
        keep(write, space.number, job)?;
    }
    Ok(job)
}

fn begin(
    write: &WriteTransaction,
    key: &SpaceKey,
    (embedder, dimensions): (&str, usize),
    now: SystemTime,
) -> Result<Job, Refused> {
    let mut space = find(write, key)?.ok_or(Refused::NoNamespace)?;
    let last = of(write, space.number)?;
    let is_wanted = |job: &Job| job.embedder == embedder && job.dimensions == dimensions;
    if let Some(running) = last.as_ref().filter(|_| space.coming.is_some()) {
        let ours = is_wanted(running).then(|| running.clone());
        return ours.ok_or_else(|| Refused::Reembedding(running.embedder.clone()));
    }
    // One whose job cannot be read.
    abandon(write, &mut space)?;
    let Shape { embedder: ours, dimensions: values, .. } = &space.shape;
    if ours == embedder && *values == dimensions {
        let changed = last.filter(|job| job.state == State::Changed && is_wanted(job));
        let nothing = || {
            let job = Job::new(embedder.to_owned(), dimensions, space.vectors, now);
            Job { state: State::Changed, ..job }
        };
        return Ok(changed.unwrap_or_else(nothing));
    }
    let set = number(write)?;
    let job = Job::new(embedder.to_owned(), dimensions, set, now);
    space.coming = Some(set);
    keep(write, space.number, &job)?;
    put(write, key, &space)?;
    Ok(job)
}

fn bring(
    write: &WriteTransaction,
    key: &SpaceKey,
    job: &Job,
    rows: &mut [(u64, Row)],
) -> Result<(), Refused> {
    let space = running(write, key, job)?;
    let (records, mut vectors) = (write.open_table(RECORDS)?, write.open_table(VECTORS)?);
    for (seq, row) in rows {
        if records.get((space.number, *seq))?.is_some() {
            let place = (job.set, *seq);
            vectors.insert(place, row.under(place))?;
        }
    }
    keep(write, space.number, job)
}

/// Also returns which checkpoint fits no longer.
fn change(
    write: &WriteTransaction,
    key: &SpaceKey,
    mut job: Job,
    generation: u64,
) -> Result<Option<(Changed, Option<Unfit>)>, Refused> {
    let mut space = running(write, key, &job)?;
    let number = space.number;
    let bare =
        write.open_table(RECORDS)?.range((number, job.after + 1)..=(number, u64::MAX))?.next().is_some();
    let is_late = bare || space.generation != generation;
    job.changed(!is_late);
    keep(write, number, &job)?;
    if is_late {
        return Ok(None);
    }
    let changed = Changed { generation: space.generation + 1, old: space.vectors };
    take_on(&mut space, &job);
    (space.generation, space.coming) = (changed.generation, None);
    put(write, key, &space)?;
    write.open_table(OLD_SETS)?.insert(changed.old, number)?;
    // What was forgotten has vectors of the other maker: it cannot come back.
    trash::end_all(write, number)?;
    let mut checkpoints = write.open_table(CHECKPOINTS)?;
    let named = checkpoints.get(number)?.map(|noted| noted.value().0);
    if named.is_some() {
        checkpoints.insert(number, (0, 0))?;
    }
    Ok(Some((changed, named.filter(|name| *name != 0).map(|name| (number, name)))))
}

fn cancel(write: &WriteTransaction, key: &SpaceKey) -> Result<Job, Refused> {
    let mut space = find(write, key)?.ok_or(Refused::NoNamespace)?;
    let ended = abandon(write, &mut space)?;
    put(write, key, &space)?;
    ended.map_or_else(|| of(write, space.number), |job| Ok(Some(job)))?.ok_or(Refused::NoReembedding)
}

/// Removes some vectors of a set, and then what was noted of removals for the sake of a re-embedding alone.
fn remove(write: &WriteTransaction, set: u32) -> Result<bool, Refused> {
    let mut sets = write.open_table(OLD_SETS)?;
    let Some(space) = sets.get(set)?.map(|space| space.value()) else { return Ok(false) };
    let mut left = AT_ONCE;
    take(&mut write.open_table(VECTORS)?, set, &mut left)?;
    let is_logged = write.open_table(CHECKPOINTS)?.get(space)?.is_some() || runs(write, space)?;
    if !is_logged {
        take(&mut write.open_table(REMOVED)?, space, &mut left)?;
    }
    if left < AT_ONCE {
        erase::leave(write)?;
    }
    if left > 0 {
        sets.remove(set)?;
    }
    Ok(left == 0)
}

/// Returns the space of `key`, if `job` is the one that runs there.
fn running(write: &WriteTransaction, key: &SpaceKey, job: &Job) -> Result<SpaceRow, Refused> {
    find(write, key)?.filter(|space| space.coming == Some(job.set)).ok_or(Refused::NoReembedding)
}

/// Makes the vectors of `space` those of `job`.
fn take_on(space: &mut SpaceRow, job: &Job) {
    space.vectors = job.set;
    space.shape.embedder.clone_from(&job.embedder);
    space.shape.dimensions = job.dimensions;
}

/// Returns the job of `space`; one that cannot be read is none.
fn of(write: &WriteTransaction, space: u32) -> Result<Option<Job>, Refused> {
    let jobs = write.open_table(JOBS)?;
    let row = jobs.get(space)?;
    Ok(row.and_then(|row| job::decode(space, row.value()).ok()))
}

/// Writes the job of `space`.
fn keep(write: &WriteTransaction, space: u32, job: &Job) -> Result<(), Refused> {
    write.open_table(JOBS)?.insert(space, job::encode(space, job).as_slice())?;
    Ok(())
}
