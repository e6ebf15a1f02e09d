//! Wire to domain and back for the administration of namespaces.

use std::sync::Arc;

use contracts::memory as wire;
use rpc::{Check, Fault};

use crate::{
    administer::{Listed, Wish},
    shape::{Metric, SpaceKey},
};

/// Longest name of a snapshot.
const NAME_BYTES: usize = 128;

/// Reads which namespace of `tenant` is to be made, and as what.
pub(crate) fn wish(tenant: Arc<str>, namespace: Option<wire::Namespace>) -> Result<(SpaceKey, Wish), Fault> {
    let namespace = namespace.ok_or_else(|| Fault::invalid("namespace", "must be given"))?;
    let mut check = Check::default();
    check.text("namespace.name", &namespace.name, 0..=super::NAMESPACE_BYTES);
    check.text("namespace.embedder", &namespace.embedder, 0..=128);
    let metric = match check.known::<wire::Metric>("namespace.metric", namespace.metric) {
        Some(wire::Metric::Dot) => Metric::Dot,
        Some(wire::Metric::Euclidean) => Metric::Euclidean,
        _ => Metric::Cosine,
    };
    let dimensions = usize::try_from(namespace.dimensions).unwrap_or(usize::MAX);
    let wish = Wish { embedder: namespace.embedder, dimensions, metric };
    check.end((SpaceKey::new(tenant, namespace.name), wish))
}

/// Writes a namespace.
pub(crate) fn namespace(space: Listed) -> wire::Namespace {
    wire::Namespace {
        name: space.namespace.to_string(),
        embedder: space.shape.embedder,
        dimensions: u32::try_from(space.shape.dimensions).unwrap_or(u32::MAX),
        metric: match space.shape.metric {
            Metric::Cosine => wire::Metric::Cosine,
            Metric::Dot => wire::Metric::Dot,
            Metric::Euclidean => wire::Metric::Euclidean,
        }
        .into(),
        memories: space.memories,
        generation: space.generation,
    }
}

/// Reads the name of a snapshot.
pub(crate) fn name(name: String) -> Result<String, Fault> {
    let mut check = Check::default();
    check.text("name", &name, 1..=NAME_BYTES);
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    check.require("name", plain, "must be letters, digits, `-` and `_`");
    check.end(name)
}
