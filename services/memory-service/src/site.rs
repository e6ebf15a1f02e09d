//! Where the rows of a space lie, and up to which write something holds them.

/// Where the rows of a space lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// The number of the space.
    pub(crate) space: u32,
    /// The set that its vectors lie in.
    pub(crate) vectors: u32,
    /// Values of its vectors.
    pub(crate) dimensions: usize,
}

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
