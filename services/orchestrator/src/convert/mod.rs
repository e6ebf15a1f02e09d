//! Wire ⇄ plain words.

mod agent;
mod peers;

#[cfg(feature = "bench")]
pub(crate) use agent::{Ran, ran};
pub(crate) use agent::{cycle, list, run, wanted_id, watch};
pub(crate) use peers::{
    analysed, analyze_request, memories, missed, problem, recall_request, record_request, remember_request,
    targets_request, write_request,
};
