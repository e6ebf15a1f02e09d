//! The wire contracts, generated from `proto/`, and the descriptor set for reflection.
//!
//! Nothing here is written by hand but the module tree: a comment above a field in `proto/` is its documentation here.

use std::{collections::HashSet, sync::LazyLock};

use prost::Message as _;
use prost_types::{FileDescriptorSet, method_options::IdempotencyLevel};

macro_rules! contract {
    ($doc:literal, $name:ident, $package:literal $(, $($lint:tt)+)?) => {
        #[doc = $doc]
        #[expect(
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            clippy::missing_errors_doc,
            clippy::too_many_lines,
            $($($lint)+,)?
            reason = "generated: errors are documented above each rpc in the contract"
        )]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

contract!("Agent cycles: `athena.agent.v1`.", agent, "athena.agent.v1");
contract!("Answers and analyses: `athena.llm.v1`.", llm, "athena.llm.v1");
contract!("Memories: `athena.memory.v1`.", memory, "athena.memory.v1", clippy::module_inception);
contract!("Targets and traces: `athena.monitor.v1`.", monitor, "athena.monitor.v1");
contract!("Documents and buckets: `athena.storage.v1`.", storage, "athena.storage.v1");

/// The encoded descriptor set of every contract with its imports and comments, as reflection serves it.
pub const DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptor");

/// Paths (`/package.Service/Method`) of the rpcs whose contract declares them safe to repeat (`idempotency_level`).
static RETRYABLE: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap_or_default().file;
    let mut paths = HashSet::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let level =
                    method.options.as_ref().map_or(0, |options| options.idempotency_level.unwrap_or(0));
                if level != IdempotencyLevel::IdempotencyUnknown as i32 {
                    paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
    }
    paths
});

/// Returns whether the contract says that the rpc at `path` (`/package.Service/Method`) may be repeated.
#[must_use]
pub fn is_retryable(path: &str) -> bool {
    RETRYABLE.contains(path)
}

#[cfg(test)]
mod tests {
    use super::is_retryable;

    #[test]
    fn reads_may_be_repeated_and_cycles_may_not() {
        assert!(is_retryable("/athena.memory.v1.MemoryService/Recall"));
        assert!(!is_retryable("/athena.agent.v1.OrchestratorService/RunCycle"));
        assert!(!is_retryable("/athena.memory.v1.MemoryService/Remember"));
    }
}
