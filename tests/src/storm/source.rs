//! Where the frames of a storm come from: the n-th is always the same.

use athena::Service;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost_reflect::MessageDescriptor;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{mutation, otlp, random, raw};
use crate::{
    encoded, inputs,
    wire::{frame, framed},
};

/// What is longer is sent rarely: it is the many that find something.
const LONG: usize = 4 << 10;

/// Makes the frames for one service.
#[derive(Debug)]
pub struct Source {
    seed: u64,
    rpcs: Vec<Rpc>,
}

/// One rpc and the messages that are made worse.
#[derive(Debug)]
struct Rpc {
    path: String,
    stream: bool,
    request: Option<MessageDescriptor>,
    short: Vec<Vec<u8>>,
    long: Vec<Vec<u8>>,
}

/// One thing to send.
#[derive(Clone, Debug)]
pub enum Shot {
    /// A call.
    Call {
        /// `/package.Service/Method`.
        path: String,
        /// Its headers.
        headers: HeaderMap,
        /// Its frames.
        body: Bytes,
        /// Whether the answer is a stream.
        stream: bool,
    },
    /// A connection that is no client's.
    Raw(Vec<u8>),
}

/// Headers that a call may carry, and their values.
const HEADERS: [(&str, &[&str]); 4] = [
    ("grpc-timeout", &["0n", "1n", "1u", "5m", "1S", "99999999H", "x", "-1S"]),
    ("grpc-encoding", &["identity", "gzip", "x"]),
    ("traceparent", &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff-0-0-0", "00-é"]),
    ("authorization", &["Bearer x", "Basic", ""]),
];

impl Source {
    /// Makes the source of the frames of a seed.
    #[must_use]
    pub fn new(service: Service, seed: u64) -> Self {
        let own = inputs::methods(service).into_iter().map(|method| {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let messages = inputs::cases(&method).into_iter().map(|case| case.value);
            Rpc::new(path, method.is_server_streaming(), Some(method.input()), messages.collect())
        });
        let mut rpcs: Vec<Rpc> = own.collect();
        let foreign = [
            ("/grpc.health.v1.Health/Check", false),
            ("/grpc.health.v1.Health/Watch", true),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true),
        ];
        let name = service.health_name().as_bytes();
        let asked = [&[0x0a, u8::try_from(name.len()).unwrap_or(0)], name].concat();
        rpcs.extend(foreign.map(|(path, stream)| Rpc::new(path.into(), stream, None, vec![asked.clone()])));
        if service == Service::Monitor {
            rpcs.extend(
                otlp::seeds().into_iter().map(|(path, seeds)| Rpc::new(path.into(), false, None, seeds)),
            );
        }
        let salt = service.name().bytes().fold(0, |salt: u64, byte| salt.rotate_left(8) ^ u64::from(byte));
        Self { seed: seed ^ salt, rpcs }
    }

    /// Returns the n-th thing to send.
    #[must_use]
    pub fn nth(&self, n: u64) -> Shot {
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n));
        let rng = &mut rng;
        if rng.random_range(0..500) == 0 {
            return Shot::Raw(raw::bytes(rng));
        }
        let Some(rpc) = self.rpcs.choose(rng) else { return Shot::Raw(Vec::new()) };
        let message = rpc.message(rng);
        Shot::Call {
            path: path(rng, &rpc.path),
            headers: headers(rng),
            body: body(rng, &message),
            stream: rpc.stream,
        }
    }
}

impl Rpc {
    fn new(path: String, stream: bool, request: Option<MessageDescriptor>, messages: Vec<Vec<u8>>) -> Self {
        let (short, long) = messages.into_iter().partition(|message| message.len() <= LONG);
        Self { path, stream, request, short, long }
    }

    fn message(&self, rng: &mut StdRng) -> Vec<u8> {
        let seeds =
            if rng.random_range(0..1_000) == 0 && !self.long.is_empty() { &self.long } else { &self.short };
        let seed = |rng: &mut StdRng| seeds.choose(rng).cloned().unwrap_or_default();
        let mut message = match &self.request {
            Some(request) if rng.random() => encoded(&random::message(rng, request, 0)),
            _ => seed(rng),
        };
        if rng.random_bool(0.7) {
            let other = seed(rng);
            mutation::mutate(rng, &mut message, &other);
        }
        message
    }
}

fn path(rng: &mut StdRng, path: &str) -> String {
    if rng.random_range(0..200) == 0 { format!("{path}/nothing") } else { path.to_owned() }
}

fn headers(rng: &mut StdRng) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in HEADERS {
        if rng.random_range(0..20) == 0
            && let Some(value) = values.choose(rng)
            && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// Puts a message into frames that are mostly right.
fn body(rng: &mut StdRng, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    match rng.random_range(0..40) {
        0 => framed(0, length.wrapping_add(rng.random_range(0..9)).wrapping_sub(4), message),
        1 => framed(0, rng.random(), message),
        2 => framed(rng.random(), length, message),
        3 => [frame(message), frame(message)].concat().into(),
        4 => frame(message).slice(..rng.random_range(0..message.len() + 5)),
        5 => mutation::noise(rng).into(),
        6 => [&frame(message)[..], &mutation::noise(rng)].concat().into(),
        _ => frame(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_frame_is_always_the_same() {
        let [one, again] = [7, 7].map(|seed| Source::new(Service::MemoryService, seed));
        let other = Source::new(Service::MemoryService, 8);
        let show = |source: &Source, n| format!("{:?}", source.nth(n));
        assert!((0..200).all(|n| show(&one, n) == show(&again, n)));
        assert!((0..200).any(|n| show(&one, n) != show(&other, n)));
    }
}
