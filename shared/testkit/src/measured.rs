//! What a benchmark measures of processes, and how it starts and ends them.

use std::{io, net::SocketAddr};

use serde_json::Value;

use crate::Process;

/// A process that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it uses.
    pub process: Process,
}

/// A service as a process that comes and goes, over a folder that stays.
pub trait Instance: Send {
    /// Starts it and returns it once it serves.
    fn start(&mut self) -> impl Future<Output = io::Result<Server>> + Send;
    /// Asks it to stop, and waits until it has.
    fn stop(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// Ends it without a word to it.
    fn kill(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// What one round measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The benchmark's value.
    pub value: f64,
    /// Every further quantity, by its documented key.
    pub details: Value,
}

/// Returns the middle one of some figures; the upper one of two.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
