//! Wire ⇄ plain words.

mod agent;
mod peers;

#[cfg(feature = "bench")]
pub(crate) use agent::{Ran, ran};
pub(crate) use agent::{agent_id, cycle, deadline, limit, list_agent, wanted_id};
pub(crate) use peers::{
    analysed, analyze_request, memories, missed, problem, recall_request, record_request, remember_request,
    targets_request, write_request,
};
