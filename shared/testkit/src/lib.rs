//! Fakes for tests, and for benchmarks behind the feature `bench`; never in a shipped image.
//!
//! - [`upstream::Upstream`] answers like an OpenAI-compatible model server, by a script, and keeps what it was asked.
//! - [`faulty::Faulty`] is such a server that hangs, resets, cuts and drips, byte by byte, and counts its connections.
//! - [`port_nobody_listens_on`] gives an address that refuses connections, for as long as it is held.
//! - [`SmallDisk`] is a disk that can be filled.
//!
//! Nothing here waits by sleeping: [`upstream::Upstream::arrived`] returns when so many calls came, and
//! [`upstream::Upstream::hold`] keeps their answers back until a test lets them go.

mod disk;
pub mod faulty;
mod port;
pub mod upstream;

pub use disk::SmallDisk;
pub use port::{Unserved, port_nobody_listens_on};
