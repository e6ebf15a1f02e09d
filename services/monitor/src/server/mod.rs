//! gRPC adapters: convert, ask the observer, convert back.

mod collector;
mod monitor;

pub(crate) use collector::Collector;
pub(crate) use monitor::Monitor;

#[cfg(test)]
mod tests;
