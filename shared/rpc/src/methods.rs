//! What the contracts say of a method: whether it streams, whether that ends, what a service has.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use prost::{DecodeError, Message};

/// The rpcs by their paths (`/package.Service/Method`).
static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    let sets = [
        contracts::DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let all = sets.into_iter().flat_map(|set| methods(set).unwrap_or_default());
    all.map(|it| (it.path.clone(), it)).collect()
});

/// What is read of a `FileDescriptorSet`: the messages, nearly all of it, are passed over, as decoding them takes a megabyte.
#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    files: Vec<FileDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct FileDescriptor {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<ServiceDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<MethodDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct MethodDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "5")]
    client_streaming: bool,
    #[prost(bool, tag = "6")]
    server_streaming: bool,
}

/// One method of a descriptor set.
pub(crate) struct Method {
    /// Full name of its service.
    service: String,
    path: String,
    /// Whether it answers with a stream.
    pub(crate) streaming: bool,
    /// Whether it is asked with a stream.
    asked_by_stream: bool,
    /// A stream without an end of its own: one that tells changes (by its name, `Watch…`), or that answers for as long as it
    /// is asked.
    pub(crate) endless: bool,
}

/// Returns the rpc at `path`, if somebody here knows it.
pub(crate) fn of(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

/// Returns whether the rpc at `path` answers with a stream; `false` for an rpc nobody here knows.
pub(crate) fn is_streaming(path: &str) -> bool {
    METHODS.get(path).is_some_and(|method| method.streaming)
}

/// Returns whether the rpc at `path` is asked with one message, which can be kept; `false` for an rpc nobody here knows.
pub(crate) fn sends_one(path: &str) -> bool {
    METHODS.get(path).is_some_and(|method| !method.asked_by_stream)
}

/// Returns the paths of the methods of `services`, as the encoded `sets` describe them, that do a bounded piece of work: all
/// but those without an end of their own.
///
/// # Errors
/// If a set cannot be read.
pub(crate) fn bounded(
    sets: &[&'static [u8]],
    services: &BTreeSet<&'static str>,
) -> Result<Vec<String>, DecodeError> {
    let mut paths = Vec::new();
    for set in sets {
        let own = methods(set)?.into_iter();
        let own = own.filter(|it| !it.endless && services.contains(it.service.as_str()));
        paths.extend(own.map(|it| it.path));
    }
    Ok(paths)
}

impl Method {
    /// Returns its full name, `package.Service/Method`.
    pub(crate) fn name(&self) -> &str {
        self.path.trim_start_matches('/')
    }
}

fn methods(set: &[u8]) -> Result<Vec<Method>, DecodeError> {
    let files = Set::decode(set)?.files.into_iter();
    let methods = files.flat_map(|FileDescriptor { package, services }| {
        services.into_iter().flat_map(move |service| {
            let name = format!("{package}.{}", service.name);
            service.methods.into_iter().map(move |method| Method {
                path: format!("/{name}/{}", method.name),
                service: name.clone(),
                streaming: method.server_streaming,
                asked_by_stream: method.client_streaming,
                endless: method.server_streaming
                    && (method.client_streaming || method.name.starts_with("Watch")),
            })
        })
    });
    Ok(methods.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn watches_and_conversations_have_no_end_of_their_own() {
        assert!(of("/grpc.health.v1.Health/Watch").unwrap().endless);
        assert!(of("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").unwrap().endless);
        let generate = "/athena.llm.v1.LlmGatewayService/GenerateStream";
        assert!(is_streaming(generate) && !of(generate).unwrap().endless);
    }

    #[test]
    fn a_damaged_set_is_found() {
        let none = BTreeSet::new();
        let sets = [contracts::DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
        assert_eq!(bounded(&sets, &none), Ok(Vec::new()));
        assert!(bounded(&[contracts::DESCRIPTOR_SET, &[0x0a, 0x05, 0x32]], &none).is_err());
    }

    #[test]
    fn the_bounded_methods_of_a_service_are_its_own_without_watches() {
        let services = BTreeSet::from(["athena.monitor.v1.MonitorService"]);
        let paths = bounded(&[contracts::DESCRIPTOR_SET], &services).unwrap();
        assert!(paths.contains(&"/athena.monitor.v1.MonitorService/GetTargets".to_owned()), "{paths:?}");
        assert!(paths.iter().all(|path| path.starts_with("/athena.monitor.v1.") && !path.contains("Watch")));
    }
}
