//! Fakes for tests, and for benchmarks behind the feature `bench`; never in a shipped image.
//!
//! - [`upstream::Upstream`] answers like an OpenAI-compatible model server, by a script, and keeps what it was asked.
//! - [`port_nobody_listens_on`] gives an address that refuses connections, for as long as it is held.
//! - [`SmallDisk`] is a disk that can be filled.
//!
//! Nothing here waits by sleeping: [`upstream::Upstream::arrived`] returns when so many calls came, and
//! [`upstream::Upstream::hold`] keeps their answers back until a test lets them go.

mod disk;
mod port;
pub mod upstream;

pub use disk::SmallDisk;
pub use port::{Unserved, port_nobody_listens_on};
