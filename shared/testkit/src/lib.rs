//! Fakes for tests, and for benchmarks behind the feature `bench`; never in a shipped image.
//!
//! - [`upstream::Upstream`] answers like an OpenAI-compatible model server, by a script, and keeps what it was asked.
//! - [`faulty::Faulty`] is such a server that hangs, resets, cuts and drips, byte by byte, and counts its connections.
//! - [`port_nobody_listens_on`] gives an address that refuses connections, for as long as it is held.
//! - [`SmallDisk`] is a disk that can be filled, [`free_bytes`] what room one has.
//! - With the feature `bench`: `Mock` is a model server that is fast enough to measure what stands before it, `load::Load` asks a
//!   server in open loop and says how long its answers took, `Process` reads what another process used, and stops it; `Instance` is a
//!   service that is started and killed, `Round` what was measured.
//!
//! Nothing here waits by sleeping: [`upstream::Upstream::arrived`] returns when so many calls came, and
//! [`upstream::Upstream::hold`] keeps their answers back until a test lets them go.

mod disk;
pub mod faulty;
#[cfg(feature = "bench")]
pub mod load;
#[cfg(feature = "bench")]
mod measured;
#[cfg(feature = "bench")]
mod mock;
mod port;
#[cfg(feature = "bench")]
mod process;
pub mod upstream;

pub use disk::{SmallDisk, free_bytes};
#[cfg(feature = "bench")]
pub use measured::{Instance, Round, Server, median};
#[cfg(feature = "bench")]
pub use mock::Mock;
pub use port::{Unserved, port_nobody_listens_on};
#[cfg(feature = "bench")]
pub use process::Process;
