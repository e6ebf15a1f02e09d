//! What the descriptor sets say of rpcs: which answer with a stream, and which are asked with one message.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// What is known of an rpc.
#[derive(Clone, Copy, Debug)]
struct Shape {
    answers_stream: bool,
    sends_stream: bool,
}

/// The rpcs by their paths (`/package.Service/Method`).
static SHAPES: LazyLock<HashMap<String, Shape>> = LazyLock::new(|| {
    let sets = [
        contracts::DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap_or_default().file);
    let mut shapes = HashMap::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let shape = Shape {
                    answers_stream: method.server_streaming(),
                    sends_stream: method.client_streaming(),
                };
                shapes.insert(path, shape);
            }
        }
    }
    shapes
});

/// Returns whether the rpc at `path` answers with a stream, which without a deadline of its own may stay open; `false` for
/// an rpc nobody here knows.
pub(crate) fn is_streaming(path: &str) -> bool {
    SHAPES.get(path).is_some_and(|shape| shape.answers_stream)
}

/// Returns whether the rpc at `path` is asked with one message, which can be kept; `false` for an rpc nobody here knows.
pub(crate) fn sends_one(path: &str) -> bool {
    SHAPES.get(path).is_some_and(|shape| !shape.sends_stream)
}

#[cfg(test)]
mod tests {
    use super::{is_streaming, sends_one};

    #[test]
    fn watches_stream_and_reads_do_not() {
        assert!(is_streaming("/grpc.health.v1.Health/Watch"));
        assert!(is_streaming("/athena.monitor.v1.MonitorService/WatchTargets"));
        assert!(!is_streaming("/athena.memory.v1.MemoryService/Recall"));
    }

    #[test]
    fn only_a_known_question_of_one_message_can_be_kept() {
        assert!(sends_one("/athena.memory.v1.MemoryService/Recall"));
        assert!(sends_one("/grpc.health.v1.Health/Watch"));
        assert!(!sends_one("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
        assert!(!sends_one("/nobody.Knows/This"));
    }
}
