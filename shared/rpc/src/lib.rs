//! Serves and calls gRPC: health, reflection, deadlines, retries, load shedding, authentication, TLS, graceful drain; the one place a `Status` is made.
//!
//! Design facts:
//!
//! 1. A [`Host`] owns its listener and its accept loop: gRPC and HTTP/1.1 share one port, with TLS or without, an expired
//!    deadline is answered DEADLINE_EXCEEDED and not CANCELLED, and a drain ends when its time is over.
//! 2. The door around every call sheds what is too much, authenticates, reads `grpc-timeout` and `traceparent`, opens the
//!    server span on the service's own dispatch and measures until the last byte of the answer, streams included. Every
//!    answer names its trace.
//! 3. What the next hop must know (the deadline, the caller's token) is the task's [`Deadline::current`] context. A
//!    [`Channel`] sends it on by itself; a spawned task keeps it through [`carry`].
//! 4. A [`Channel`] has its own connections, one to each address. It asks one that is connected, says that it serves, is not
//!    left alone by its breaker and has little to do; nothing runs between calls but connections and their health.
//! 5. A call that no server has seen is made again whatever it is. One that a server may have seen is repeated only if its
//!    contract says that it may be (`idempotency_level`), the server was UNAVAILABLE, and the budget of all calls allows it.
//!    A broken connection is UNAVAILABLE, whatever the transport called it.
//! 6. What holds calls back from a server that fails or is full ([`breaker`], [`budget`], [`limit`]) knows nothing of gRPC: who calls others may use it.
//! 7. A tenant comes from the token and never from a message ([`Caller`]).
//! 8. A request is checked with a [`Check`], which names every wrong field by its path ([`At`]). What cannot be read as a
//!    message is the caller's fault, INVALID_ARGUMENT, and not the service's.
//! 9. A caller gets a code, a safe message, the field that was wrong and whether a retry helps ([`Fault`]); the cause is
//!    logged here once and never sent.

mod accept;
mod access;
mod again;
mod allocator;
mod body;
pub mod breaker;
pub mod budget;
mod call;
mod caller;
pub mod chance;
mod channel;
mod check;
mod connection;
mod context;
mod contract;
mod deadline;
mod door;
mod draining;
mod error;
mod failure;
mod fault;
mod garbled;
mod health;
mod host;
mod leaving;
pub mod limit;
mod listing;
mod methods;
pub mod net;
mod page;
mod peer;
mod probe;
mod program;
mod reflection;
mod settings;
pub mod time;
mod tls;

pub use breaker::BreakerOptions;
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
pub use leaving::Leaving;
pub use net::Listener;
pub use page::{Api, come_back};
pub use peer::PeerSettings;
pub use probe::{Serving, follow, outcomes, states, until_serving};
pub use program::program;
pub use settings::{HostSettings, LogFormat};
pub use tonic::Code;
