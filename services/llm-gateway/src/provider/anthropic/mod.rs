//! Anthropic's Messages.
//!
//! 1. Nothing is left out in silence: what the API has no way to say ([`Failure::Unsupported`](super::Failure)) names its field before
//!    anybody is asked, and parameters nobody here has heard of are sent as they are.
//! 2. What an answer holds beyond words and calls is kept under its name: thinking with its signature (`thinking_blocks`, which a
//!    later turn sends back), `citations`, blocks of the server's own tools (`content_blocks`).
//! 3. Cached input counts as input, as chat completions count it.

mod answer;
mod request;

pub(super) use self::{
    answer::{Reader, answer},
    request::body,
};
