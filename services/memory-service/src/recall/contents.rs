//! Where what was found is read.

use std::sync::Arc;

use crate::{
    memory::Memory,
    vector::source::{Unread, Vectors},
};

/// Memories by the numbers that their store gave them, beside their vectors.
pub(crate) trait Contents: Vectors {
    /// Returns the memories of `seqs`, in this order.
    ///
    /// # Errors
    /// [`Unread`]; also if one of them is not there.
    fn memories(&self, seqs: &[u64]) -> Result<Vec<Arc<Memory>>, Unread>;
}
