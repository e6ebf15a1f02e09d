//! What is in memory of a space, in a file, so that a start need not make it from every row.
//!
//! A checkpoint holds the space as it was at one generation. It is a help and never the truth: the store names the file that
//! fits it, and a file that is missing, damaged or another's is passed over, and the space made from its rows. A start reads the
//! file, leaves out what was removed since, and adds the rows after the last that it holds.
//!
//! A space that takes checkpoints says so first ([`Store::log_removals`]), so that no other pays for noting what was removed.
//! A file is written, synced, and then named in the store, in the commit that also forgets which rows were removed until then. So
//! whenever the process ends, the store names a file that is whole, or one that is not there.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};

use super::{
    Store, bytes, failed, reembeddings, snapshot,
    tables::{CHECKPOINTS, REMOVED, SpaceRow},
    write::Refused,
};
use crate::{error::Error, shape::Shape};

/// The folder beside the store's file.
const FOLDER: &str = "checkpoints";
/// What a file begins with; another form gets another.
const MAGIC: [u8; 8] = *b"ATHCKP01";
/// The first part.
const MARK: &str = "mark";
/// Longest name of a part.
const NAME_BYTES: u32 = 256;

/// What can be put into a checkpoint.
pub(crate) trait Image {
    /// Writes its parts by name.
    ///
    /// # Errors
    /// Those of `to`.
    fn save(&self, to: &mut Parts<'_>) -> io::Result<()>;
}

/// What can be made from a checkpoint.
pub(crate) trait FromParts: Sized {
    /// Makes it from its parts; nothing if they are not of a form it knows.
    fn load(
        shape: &Shape,
        parts: &mut dyn FnMut() -> io::Result<Option<(String, Vec<u8>)>>,
    ) -> io::Result<Option<Self>>;
}

/// The folder of checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// A checkpoint that is written and not named yet.
#[derive(Debug)]
pub(crate) struct Unnamed {
    mark: Mark,
    name: u128,
    path: PathBuf,
}

/// Takes the parts of a checkpoint.
pub(crate) struct Parts<'w>(&'w mut dyn Write);

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The number of the space.
    pub(crate) space: u32,
    /// The set that the vectors it is made of lie in.
    pub(crate) vectors: u32,
    /// The last write that it holds.
    pub(crate) generation: u64,
    /// The number of the last memory that it holds.
    pub(crate) last: u64,
}

impl Mark {
    fn encode(self) -> Vec<u8> {
        // A set has one space, and lies under its number as long as the space was never re-embedded.
        [&self.vectors.to_le_bytes()[..], &self.generation.to_le_bytes(), &self.last.to_le_bytes()].concat()
    }

    fn decode(space: &SpaceRow, name: &str, bytes: &[u8]) -> Option<Self> {
        let mut reader = bytes::Reader(bytes);
        let (vectors, generation, last) = (reader.count().ok()?, reader.long().ok()?, reader.long().ok()?);
        let is_whole = name == MARK && reader.end().is_ok();
        is_whole.then_some(Self { space: space.number, vectors, generation, last })
    }
}

impl Parts<'_> {
    /// Writes a part.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub(crate) fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(name.as_bytes())?;
        self.0.write_all(&(bytes.len() as u64).to_le_bytes())?;
        self.0.write_all(&bytes::checksum(&[name.as_bytes(), bytes]).to_le_bytes())?;
        self.0.write_all(bytes)
    }
}

impl Folder {
    /// Writes `image`, which holds what `mark` says, into a file; [`Store::name_checkpoint`] makes it the checkpoint. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file cannot be written.
    pub(crate) fn write(&self, mark: Mark, image: &impl Image) -> Result<Unnamed, Error> {
        let name = ulid::Ulid::generate().0;
        let path = write(&self.0, name, mark, image).map_err(Error::Checkpoint)?;
        Ok(Unnamed { mark, name, path })
    }
}

impl Unnamed {
    /// Returns what it holds.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }
}

impl Store {
    /// Notes from now on what is removed from `space`. Comes before what the first checkpoint is to hold is looked at.
    ///
    /// # Errors
    /// Those of a write.
    pub(crate) async fn log_removals(&self, space: u32) -> Result<(), Error> {
        let begin = move |write: &WriteTransaction| {
            let mut checkpoints = write.open_table(CHECKPOINTS)?;
            if checkpoints.get(space)?.is_none() {
                checkpoints.insert(space, (0, 0))?;
            }
            Ok(())
        };
        self.journal.commit(begin).await.map_err(failed)
    }

    /// Returns where checkpoints are written.
    pub(crate) fn checkpoints(&self) -> Folder {
        Folder(folder(&self.path))
    }

    /// Removes the files of checkpoints that the store does not name. Blocks the thread; no checkpoint may be written meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read which those are.
    pub(crate) fn tidy_checkpoints(&self) -> Result<(), Error> {
        let read = |read: &ReadTransaction| {
            let mut names = Vec::new();
            for entry in read.open_table(CHECKPOINTS)?.iter()? {
                let (space, noted) = entry?;
                names.push(named(space.value(), noted.value().0));
            }
            Ok(names)
        };
        let names = self.journal.read(read).map_err(failed)?;
        tidy(&self.path, |file| names.iter().any(|name| name == file));
        Ok(())
    }

    /// Names a checkpoint that was written, in place of the one before.
    ///
    /// # Errors
    /// Those of a write.
    pub(crate) async fn name_checkpoint(&self, unnamed: Unnamed) -> Result<(), Error> {
        let Unnamed { mark, name, path } = unnamed;
        let note = move |write: &WriteTransaction| note(write, mark, name);
        let before = self.journal.commit(note).await.map_err(failed);
        let old = before.as_ref().map_or(path, |older| file(&folder(&self.path), mark.space, *older));
        // A file that nobody names is removed at the next start, if not now.
        drop(fs::remove_file(old));
        before.map(drop)
    }
}

/// Reads the checkpoint that the store names for `space`, with the name and generation that it notes; nothing, and a line in the
/// log, if there is none that fits.
pub(super) fn read<I: FromParts>(store: &Path, space: &SpaceRow, noted: (u128, u64)) -> Option<(I, Mark)> {
    if noted.0 == 0 {
        return None;
    }
    let path = file(&folder(store), space.number, noted.0);
    let why = match open::<I>(&path, space) {
        Ok(Some((image, mark))) if mark.generation == noted.1 && mark.vectors == space.vectors => {
            return Some((image, mark));
        }
        Ok(_) => "it is of other vectors, another form or another moment".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(file = %path.display(), why, "a checkpoint is passed over: its space is made from every row");
    None
}

/// Removes the files that the store does not name.
pub(super) fn tidy(store: &Path, named: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder(store)) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(&named) {
            // One that stays is in nobody's way.
            drop(fs::remove_file(path));
        }
    }
}

/// Returns the name of the file of a space's checkpoint.
pub(super) fn named(space: u32, name: u128) -> String {
    format!("{space}-{name:032x}")
}

pub(super) fn folder(store: &Path) -> PathBuf {
    store.with_file_name(FOLDER)
}

pub(super) fn file(folder: &Path, space: u32, name: u128) -> PathBuf {
    folder.join(named(space, name))
}

fn write(folder: &Path, name: u128, mark: Mark, image: &impl Image) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = file(folder, mark.space, name);
    let done = (|| {
        let mut to = BufWriter::with_capacity(1 << 20, File::create_new(&path)?);
        to.write_all(&MAGIC)?;
        let mut parts = Parts(&mut to);
        parts.put(MARK, &mark.encode())?;
        image.save(&mut parts)?;
        // So that a file that was cut between two parts is noticed.
        parts.put("", &[])?;
        to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        snapshot::sync_folder(&path)
    })();
    if done.is_err() {
        drop(fs::remove_file(&path));
    }
    done.map(|()| path)
}

fn open<I: FromParts>(path: &Path, space: &SpaceRow) -> io::Result<Option<(I, Mark)>> {
    let mut from = BufReader::with_capacity(1 << 20, File::open(path)?);
    if array(&mut from)? != MAGIC {
        return Ok(None);
    }
    let Some(mark) = part(&mut from)?.and_then(|(name, bytes)| Mark::decode(space, &name, &bytes)) else {
        return Ok(None);
    };
    let mut ended = false;
    let mut next = || {
        let part = part(&mut from)?;
        ended = part.is_none();
        Ok(part)
    };
    let image = I::load(&space.shape, &mut next)?;
    while !ended && image.is_some() {
        let part = part(&mut from)?;
        ended = part.is_none();
    }
    Ok(image.map(|image| (image, mark)))
}

/// Reads a part; nothing after the last.
fn part(from: &mut impl Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let length = u32::from_le_bytes(array(from)?);
    if length > NAME_BYTES {
        return Err(damaged());
    }
    let mut name = vec![0; length as usize];
    from.read_exact(&mut name)?;
    let length = u64::from_le_bytes(array(from)?);
    let sum = u64::from_le_bytes(array(from)?);
    let mut bytes = Vec::new();
    // Not made at once: a length that is damaged would ask for all memory there is.
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length || bytes::checksum(&[&name, &bytes]) != sum {
        return Err(damaged());
    }
    let name = String::from_utf8(name).map_err(|_| damaged())?;
    Ok((!name.is_empty()).then_some((name, bytes)))
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Names a checkpoint and forgets the removals that it knows; returns the name of the one before.
fn note(write: &WriteTransaction, mark: Mark, name: u128) -> Result<u128, Refused> {
    let mut checkpoints = write.open_table(CHECKPOINTS)?;
    let before =
        checkpoints.insert(mark.space, (name, mark.generation))?.map_or(0, |before| before.value().0);
    if reembeddings::runs(write, mark.space)? {
        // Its index may be of a moment before.
        return Ok(before);
    }
    let mut removed = write.open_table(REMOVED)?;
    removed.retain_in((mark.space, 0)..=(mark.space, u64::MAX), |_, by| by > mark.generation)?;
    Ok(before)
}
