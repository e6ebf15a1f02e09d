//! What every dialect says piece by piece.

use crate::conversation::{Finish, Piece, Usage};

/// What one event of a streamed answer says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) pieces: Vec<Piece>,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Option<Usage>,
    /// Whether nothing follows.
    pub(super) done: bool,
}
