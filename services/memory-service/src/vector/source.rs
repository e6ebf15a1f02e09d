//! Where full vectors come from.

use std::error::Error;

/// Full vectors by the number their row was given in the store.
pub(crate) trait Vectors {
    /// Reads the vectors of `seqs` and hands each over with its place among them, in any order, each once.
    ///
    /// # Errors
    /// [`Unread`]; also if one of them is not there: a row that is scanned has its vector.
    fn read(&self, seqs: &[u64], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Unread>;
}

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// The one of this number is not there: it was replaced or deleted since the rows were looked at, or it is lost.
    #[error("memory {0} is not there")]
    Gone(u64),
    /// The one of this number is damaged.
    #[error("memory {0} is damaged")]
    Damaged(u64),
    /// It cannot be read.
    #[error("memories cannot be read")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Vectors in memory, one after the other; the first has number 0.
#[cfg(any(test, feature = "bench"))]
#[derive(Debug)]
pub(crate) struct InMemory {
    /// Values of a vector.
    pub(crate) dimensions: usize,
    /// Values of all.
    pub(crate) values: Vec<f32>,
}

#[cfg(any(test, feature = "bench"))]
impl InMemory {
    /// Returns the vector of `number`.
    pub(crate) fn vector(&self, number: usize) -> &[f32] {
        &self.values[number * self.dimensions..][..self.dimensions]
    }
}

#[cfg(any(test, feature = "bench"))]
impl Vectors for InMemory {
    fn read(&self, seqs: &[u64], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Unread> {
        for (place, seq) in seqs.iter().enumerate() {
            each(place, self.vector(usize::try_from(*seq).map_err(|_| Unread::Gone(*seq))?));
        }
        Ok(())
    }
}
