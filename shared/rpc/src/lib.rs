//! Serves and calls gRPC: health, reflection, deadlines, retries, authentication; the one place a `Status` is made.
//!
//! Design facts:
//!
//! 1. A [`Host`] owns its listener and its accept loop: h2c gRPC and HTTP/1.1 share one port, an expired deadline is
//!    answered DEADLINE_EXCEEDED and not CANCELLED, and a drain ends when its time is over.
//! 2. The door around every call authenticates, reads `grpc-timeout` and `traceparent`, opens the server span on the
//!    service's own dispatch and measures until the last byte of the answer, streams included.
//! 3. What the next hop must know (the deadline, the caller's token) is the task's [`Deadline::current`] context. A
//!    [`Channel`] sends it on by itself; a spawned task keeps it through [`carry`].
//! 4. A [`Channel`] repeats a call only if its contract says that it may be repeated (`idempotency_level`) and the server
//!    was UNAVAILABLE. A broken connection is UNAVAILABLE, whatever the transport called it.
//! 5. A tenant comes from the token and never from a message ([`Caller`]).
//! 6. A request is checked with a [`Check`], which names every wrong field by its path ([`At`]). What cannot be read as a
//!    message is the caller's fault, INVALID_ARGUMENT, and not the service's.
//! 7. A caller gets a code, a safe message, the field that was wrong and whether a retry helps ([`Fault`]); the cause is
//!    logged here once and never sent.

mod accept;
mod access;
mod body;
mod call;
mod caller;
mod channel;
mod check;
mod context;
mod contract;
mod deadline;
mod door;
mod draining;
mod error;
mod fault;
mod garbled;
mod health;
mod host;
mod methods;
mod program;
mod retry;
mod settings;
pub mod time;

pub use caller::{Caller, Role};
pub use channel::{Channel, ChannelOptions};
pub use check::{At, Check};
pub use context::carry;
pub use contract::{Client, Service};
pub use deadline::Deadline;
pub use draining::{Draining, shutdown_signal};
pub use error::Error;
pub use fault::{Fault, Violation, code_name};
pub use health::Health;
pub use host::Host;
pub use program::program;
pub use settings::{HostSettings, LogFormat};
pub use tonic::Code;
