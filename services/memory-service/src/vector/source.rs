//! Where full vectors come from.

/// Full vectors by the number their row was given in the store.
pub(crate) trait Vectors {
    /// Why vectors cannot be read.
    type Error;

    /// Reads the vectors of `seqs` and hands each over with its place among them, in any order, each once.
    ///
    /// # Errors
    /// The store's own; also if one of them is not there: a row that is scanned has its vector.
    fn read(&self, seqs: &[u64], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Self::Error>;
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
    type Error = std::num::TryFromIntError;

    fn read(&self, seqs: &[u64], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Self::Error> {
        for (place, seq) in seqs.iter().enumerate() {
            each(place, self.vector(usize::try_from(*seq)?));
        }
        Ok(())
    }
}
