//! Bytes that are no call: what port scanners, broken proxies and attackers send.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::mutation;

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// `POST`, `http`, `/` from HPACK's own table: a request without an authority.
const HEADERS: [u8; 3] = [0x83, 0x86, 0x84];

const HEADS: [&str; 14] = [
    "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /api/targets?window_seconds=NaN HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /api/traces?min_ms=1e999&limit=18446744073709551616 HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /api/traces/%00%ff%C0%AF?a=%zz HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET http://[::1]:99999/../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551615\r\n\r\nabc",
    "POST /metrics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nffffffffffffffff1\r\nabc",
    "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 9\r\n\r\n\0\0\0\0",
    "GET / HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAA\r\n\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
    "* LOGIN a b\r\n",
    "\0\0\0\0\0\0\0\0",
];

/// Makes the bytes of one connection.
pub(super) fn bytes(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 => mutation::noise(rng),
        1 | 2 => {
            let mut head = HEADS.choose(rng).copied().unwrap_or_default().as_bytes().to_vec();
            if rng.random() {
                mutation::mutate(rng, &mut head, b"\r\n\r\n");
            }
            head
        }
        3 => [b"GET / HTTP/1.1\r\nx: ", &vec![b'a'; rng.random_range(0..300_000)][..]].concat(),
        _ => http2(rng),
    }
}

/// Makes a connection of HTTP/2 whose frames have any type, flags, stream and length.
fn http2(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = [PREFACE, &SETTINGS].concat();
    for _ in 0..rng.random_range(0..40) {
        let payload = if rng.random() { HEADERS.to_vec() } else { mutation::noise(rng) };
        let length = if rng.random_bool(0.9) { payload.len() } else { rng.random_range(0..1 << 24) };
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or_default().to_be_bytes()[1..]);
        bytes.push(rng.random_range(0..11));
        bytes.push(if rng.random() { rng.random() } else { 0x05 });
        // The streams of a client have odd numbers.
        bytes.extend_from_slice(&rng.random_range(0..40_u32).to_be_bytes());
        bytes.extend(payload);
    }
    bytes
}
