//! Numbers as few bytes: for postings, and for an index on disk.

/// Appends `number` in groups of seven bits, the lowest first (LEB128).
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends the length of `part`, then `part`.
pub(crate) fn put_part(bytes: &mut Vec<u8>, part: &[u8]) {
    put(bytes, part.len() as u64);
    bytes.extend_from_slice(part);
}

/// Takes a number from the front of `bytes`; nothing if they hold none.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    // Most numbers are one byte.
    if let Some((byte @ 0..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some((*byte).into());
    }
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a number that fits into 32 bits.
pub(crate) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes)?.try_into().ok()
}

/// Takes what [`put_part`] appended.
pub(crate) fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{put, put_part, take, take_part};

    proptest! {
        #[test]
        fn what_was_put_is_taken(numbers: Vec<u64>, part: Vec<u8>) {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|number| put(&mut bytes, *number));
            put_part(&mut bytes, &part);
            let mut rest = bytes.as_slice();
            for number in numbers {
                prop_assert_eq!(take(&mut rest), Some(number));
            }
            prop_assert_eq!(take_part(&mut rest), Some(part.as_slice()));
            prop_assert_eq!(take(&mut rest), None);
        }

        #[test]
        fn broken_bytes_are_no_number(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while take(&mut rest).is_some() {}
            prop_assert!(rest.is_empty() || bytes.len() >= 10);
        }
    }
}
