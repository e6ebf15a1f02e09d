//! Which rpcs answer with a stream: a stream without a deadline of its own may stay open.

use std::{collections::HashSet, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Paths (`/package.Service/Method`) of the rpcs that answer with a stream.
static STREAMING: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let sets = [
        contracts::DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap_or_default().file);
    let mut paths = HashSet::new();
    for file in files {
        for service in &file.service {
            for method in service.method.iter().filter(|method| method.server_streaming()) {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
});

/// Returns whether the rpc at `path` answers with a stream; `false` for an rpc nobody here knows.
pub(crate) fn is_streaming(path: &str) -> bool {
    STREAMING.contains(path)
}

#[cfg(test)]
mod tests {
    use super::is_streaming;

    #[test]
    fn watches_stream_and_reads_do_not() {
        assert!(is_streaming("/grpc.health.v1.Health/Watch"));
        assert!(is_streaming("/athena.monitor.v1.MonitorService/WatchTargets"));
        assert!(!is_streaming("/athena.memory.v1.MemoryService/Recall"));
    }
}
