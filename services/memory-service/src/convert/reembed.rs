//! Wire to domain and back for what is embedded anew.

use std::sync::Arc;

use contracts::memory as wire;
use rpc::{Check, Fault, time};

use crate::{
    engine::Reembedding,
    shape::SpaceKey,
    upkeep::reembed::{Job, State},
};

/// Longest name of an embedder.
const EMBEDDER_BYTES: usize = 128;

/// Reads which space of `tenant` is to be embedded anew, by whom, and how many values its vectors are to have.
pub(crate) fn aim(
    tenant: Arc<str>,
    request: wire::ReembedRequest,
) -> Result<(SpaceKey, String, usize), Fault> {
    let wire::ReembedRequest { namespace, embedder, dimensions } = request;
    let mut check = Check::default();
    check.text("namespace", &namespace, 0..=super::NAMESPACE_BYTES);
    check.text("embedder", &embedder, 0..=EMBEDDER_BYTES);
    let dimensions = usize::try_from(dimensions).unwrap_or(usize::MAX);
    check.end((SpaceKey::new(tenant, namespace), embedder, dimensions))
}

/// Writes how a re-embedding stands.
pub(crate) fn reembedding(Reembedding { job, left }: Reembedding) -> wire::Reembedding {
    let progress = job.progress(left);
    let Job { embedder, dimensions, began, done, state, .. } = job;
    let is = match &state {
        State::Embedding(_) | State::Ready(_) => wire::ReembeddingState::Running,
        State::Waiting { .. } => wire::ReembeddingState::Paused,
        State::Changed => wire::ReembeddingState::Changed,
        State::Cancelled => wire::ReembeddingState::Cancelled,
    };
    let (failures, failure, next_attempt) = match state {
        State::Waiting { failures, until, reason } => (failures, reason, Some(time::to_proto(until))),
        _ => (0, String::new(), None),
    };
    wire::Reembedding {
        state: is.into(),
        embedder,
        dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
        done,
        left,
        progress,
        failures,
        failure,
        next_attempt,
        start_time: Some(time::to_proto(began)),
    }
}
