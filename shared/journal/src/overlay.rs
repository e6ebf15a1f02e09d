//! What is written over a file that cannot be written, kept in memory.

use std::{collections::HashMap, io};

use redb::StorageBackend;

const BLOCK: usize = 4096;

/// Blocks of memory over a file.
#[derive(Debug)]
pub(crate) struct Overlay {
    blocks: HashMap<u64, Box<[u8; BLOCK]>>,
    len: u64,
    /// Bytes of the file that still show.
    shown: u64,
}

impl Overlay {
    /// Covers nothing of a file of `len` bytes yet.
    pub(crate) fn new(len: u64) -> Self {
        Self { blocks: HashMap::new(), len, shown: len }
    }

    /// Returns the bytes of the whole.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads what lies over `file`, and what of the file shows.
    ///
    /// # Errors
    ///
    /// The file's, and `UnexpectedEof` beyond the end of the whole.
    pub(crate) fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (number, within, bytes) in pieces(offset, rest.len()) {
            let (piece, after) = rest.split_at_mut(bytes);
            match self.blocks.get(&number) {
                Some(block) => piece.copy_from_slice(&block[within..within + bytes]),
                None => self.beneath(file, number * BLOCK as u64 + within as u64, piece)?,
            }
            rest = after;
        }
        Ok(())
    }

    /// Lays `data` over `file`.
    ///
    /// # Errors
    ///
    /// The file's, if the rest of a block cannot be read.
    pub(crate) fn write(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        for (number, within, bytes) in pieces(offset, data.len()) {
            let (piece, after) = rest.split_at(bytes);
            if !self.blocks.contains_key(&number) {
                let mut block = Box::new([0; BLOCK]);
                self.beneath(file, number * BLOCK as u64, &mut block[..])?;
                self.blocks.insert(number, block);
            }
            if let Some(block) = self.blocks.get_mut(&number) {
                block[within..within + bytes].copy_from_slice(piece);
            }
            rest = after;
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    /// Cuts the whole, or adds zeros.
    pub(crate) fn set_len(&mut self, len: u64) {
        let last = len / BLOCK as u64;
        self.blocks.retain(|number, _| number * (BLOCK as u64) < len);
        if let Some(block) = self.blocks.get_mut(&last) {
            block[usize::try_from(len % BLOCK as u64).unwrap_or(0)..].fill(0);
        }
        (self.len, self.shown) = (len, self.shown.min(len));
    }

    /// Reads what of the file shows at `offset`; the rest is zero.
    fn beneath(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(self.shown.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (shown, beyond) = out.split_at_mut(bytes);
        beyond.fill(0);
        file.read(offset, shown)
    }
}

/// Returns the blocks that `len` bytes at `offset` lie in: number, first byte within it, and bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let place = offset + at as u64;
        let within = usize::try_from(place % BLOCK as u64).unwrap_or(0);
        let bytes = (BLOCK - within).min(len - at);
        at += bytes;
        (bytes > 0).then_some((place / BLOCK as u64, within, bytes))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::{collection::vec, prelude::*, sample::Index};
    use redb::backends::FileBackend;

    use super::Overlay;

    #[derive(Clone, Debug)]
    enum Step {
        Write(Index, Vec<u8>),
        Resize(usize),
        Read(Index, Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (any::<Index>(), vec(any::<u8>(), 1..9000)).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (1..40_000_usize).prop_map(Step::Resize),
            any::<(Index, Index)>().prop_map(|(from, to)| Step::Read(from, to)),
        ];
        vec(step, 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_reads_as_if_the_file_had_been_written(
            before in vec(any::<u8>(), 1..20_000), steps in steps()
        ) {
            let mut path = tempfile::NamedTempFile::new().unwrap();
            path.write_all(&before).unwrap();
            let file = FileBackend::new(std::fs::File::open(path.path()).unwrap()).unwrap();
            let mut overlay = Overlay::new(before.len() as u64);
            let mut model = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        let at = at.index(model.len());
                        model.resize(model.len().max(at + bytes.len()), 0);
                        model[at..at + bytes.len()].copy_from_slice(&bytes);
                        overlay.write(&file, at as u64, &bytes).unwrap();
                    }
                    Step::Resize(len) => {
                        model.resize(len, 0);
                        overlay.set_len(len as u64);
                    }
                    Step::Read(from, to) => {
                        let (from, to) = (from.index(model.len()), to.index(model.len()));
                        let (from, to) = (from.min(to), from.max(to));
                        let mut out = vec![7; to - from];
                        overlay.read(&file, from as u64, &mut out).unwrap();
                        prop_assert_eq!(&out, &model[from..to]);
                    }
                }
                prop_assert_eq!(overlay.len(), model.len() as u64);
            }
            let mut out = vec![7; model.len()];
            overlay.read(&file, 0, &mut out).unwrap();
            prop_assert!(out == model);
            prop_assert!(overlay.read(&file, model.len() as u64, &mut [0]).is_err());
        }
    }
}
