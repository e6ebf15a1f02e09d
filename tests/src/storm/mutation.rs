//! Bytes made worse.

use rand::{Rng as _, rngs::StdRng};

/// Bytes at which parsers have stumbled: ends of numbers, wire types, lengths.
const ODD: [u8; 10] = [0x00, 0x01, 0x07, 0x0b, 0x7f, 0x80, 0xc0, 0xf8, 0xfe, 0xff];
/// Longest stretch that is copied, cut or filled.
const STRETCH: usize = 64;
/// Deepest nesting that is made.
const DEPTH: usize = 4_000;

/// Changes `bytes` in 1 to 4 places; `other` is what they may be spliced with.
pub(super) fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            bytes.extend(noise(rng));
            continue;
        }
        let at = rng.random_range(0..bytes.len());
        let end = bytes.len().min(at + rng.random_range(1..=STRETCH));
        match rng.random_range(0..10) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = ODD[rng.random_range(0..ODD.len())],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let stretch = bytes[at..end].to_vec();
                bytes.splice(at..at, stretch);
            }
            5 => {
                let new = noise(rng);
                bytes.splice(at..at, new);
            }
            // A message may be repeated: the fields of the second one are merged into the first.
            6 => bytes.extend_from_within(..),
            7 => {
                bytes.truncate(at);
                bytes.extend_from_slice(
                    &other[other.len() - other.len().min(rng.random_range(0..=other.len()))..],
                );
            }
            8 => bytes.extend(unknown(rng)),
            _ => *bytes = nested(rng, bytes),
        }
        // Doubling what was doubled must not fill the memory.
        bytes.truncate(1 << 20);
    }
}

/// Makes a few random bytes.
pub(super) fn noise(rng: &mut StdRng) -> Vec<u8> {
    let length = rng.random_range(0..=STRETCH);
    (0..length)
        .map(|_| if rng.random() { rng.random() } else { ODD[rng.random_range(0..ODD.len())] })
        .collect()
}

/// Makes a field that no contract has, of a random type.
fn unknown(rng: &mut StdRng) -> Vec<u8> {
    let mut field = Vec::new();
    varint(&mut field, u64::from(rng.random_range(1_000..1_u32 << 29)) << 3 | rng.random_range(0..8));
    field.extend(noise(rng));
    field
}

/// Puts a message into a field of itself, again and again.
fn nested(rng: &mut StdRng, inner: &[u8]) -> Vec<u8> {
    let tag = rng.random_range(1..12_u64) << 3 | 2;
    let depth = if rng.random_bool(0.1) { rng.random_range(0..DEPTH) } else { rng.random_range(0..24) };
    // Written backwards, so that each level costs its own bytes only.
    let mut reversed: Vec<u8> = inner.iter().rev().copied().collect();
    for _ in 0..depth {
        let length = reversed.len() as u64;
        let mut head = Vec::new();
        varint(&mut head, tag);
        varint(&mut head, length);
        reversed.extend(head.into_iter().rev());
    }
    reversed.reverse();
    reversed
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
