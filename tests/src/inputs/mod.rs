//! Requests at every edge and beyond it, made from the contracts' descriptors and a table of what each field may hold.

mod edges;
mod holds;
mod nesting;
mod requests;
mod table;

use athena::Service;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

pub use self::{
    holds::{Case, Verdict},
    nesting::RPCS as NESTING,
    requests::{fields, good},
    table::names,
};

/// Returns the contracts.
///
/// # Panics
///
/// Panics if the descriptor set is damaged, which the build rules out.
#[must_use]
#[expect(clippy::expect_used, reason = "the descriptor set is made by the build")]
pub fn contracts() -> DescriptorPool {
    DescriptorPool::decode(contracts::DESCRIPTOR_SET).expect("the descriptor set of the build")
}

/// Returns the rpcs of the contracts that a service of the mesh serves, but those that are asked by a stream.
#[must_use]
pub fn methods(service: Service) -> Vec<MethodDescriptor> {
    // What is wrong with one message of many is for the tests of those that take them.
    all(service).into_iter().filter(|method| !method.is_client_streaming()).collect()
}

/// Returns those that are, and answer each message for itself.
#[must_use]
pub fn conversations(service: Service) -> Vec<MethodDescriptor> {
    let answers_each =
        |method: &MethodDescriptor| method.is_client_streaming() && method.is_server_streaming();
    all(service).into_iter().filter(answers_each).collect()
}

fn all(service: Service) -> Vec<MethodDescriptor> {
    let package = service.health_name().rsplit_once('.').map_or("", |(package, _)| package);
    let pool = contracts();
    let services = pool.services().filter(|one| one.package_name() == package);
    services.flat_map(|one| one.methods().collect::<Vec<_>>()).collect()
}

/// Makes every case of an rpc, as the bytes of its request.
#[must_use]
pub fn cases(method: &MethodDescriptor) -> Vec<Case<Vec<u8>>> {
    let cases = requests::cases(&method.input(), &[]).into_iter();
    let encoded = cases.map(|case| {
        let value = encoded(&case.value, &case.verdict);
        Case { what: case.what, value, verdict: case.verdict }
    });
    encoded.chain(nesting::cases(method.full_name())).collect()
}

/// Returns the bytes of a message, with what stands for it replaced by what is no UTF-8.
fn encoded(message: &DynamicMessage, verdict: &Verdict) -> Vec<u8> {
    let mut bytes = crate::encoded(message);
    if *verdict == Verdict::Garbled {
        let place = bytes.windows(edges::NOT_UTF8.len()).position(|part| part == edges::NOT_UTF8.as_bytes());
        if let Some(place) = place {
            bytes[place..place + edges::NOT_UTF8.len()].fill(0xff);
        }
    }
    bytes
}
