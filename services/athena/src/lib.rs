//! Composes the five services into one mesh and one command.
//!
//! Facts of the design:
//!
//! 1. [`Mesh`] runs the services in one process over real gRPC; it is also the harness of the tests.
//! 2. This crate and `tests` are the only ones that see several services; the services meet in their contracts.
//! 3. Standard output is the result, standard error is progress and logs; `--json` prints exactly one object.
//! 4. Exit codes: 0 fine, 1 the thing checked failed, 2 wrong use.

#[cfg(feature = "bench")]
mod bench;
pub mod cli;
mod clients;
pub mod data;
pub mod demo;
mod mesh;
mod reach;
mod serve;
mod service;
mod status;
mod up;

pub use crate::{
    clients::{Cycle, NoCycle, Served, Span, Target, Warning},
    mesh::{Mesh, Options, Replay, declared, ephemeral},
    service::Service,
};
