//! Server-sent events, as far as chat completions use them: `data:` lines.

use bytes::BytesMut;

use super::Failure;

/// Most bytes of one line.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Cuts a byte stream into the data of its events, wherever the chunks end.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: BytesMut,
}

impl Lines {
    /// Takes the next chunk and returns the data lines it completes.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<Vec<String>, Failure> {
        self.rest.extend_from_slice(chunk);
        let mut found = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end + 1);
            let line =
                std::str::from_utf8(&line).map_err(|_| Failure::Malformed)?.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                found.push(data.trim().to_owned());
            }
        }
        if self.rest.len() > MAX_LINE_BYTES { Err(Failure::Malformed) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, MAX_LINE_BYTES};

    #[test]
    fn events_are_found_wherever_the_chunks_end() {
        let text = ": ping\r\n\r\ndata: {\"é\":1}\r\n\r\nevent: x\ndata:[DONE]\n\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let found: Vec<_> =
                text.as_bytes().chunks(size).flat_map(|chunk| lines.feed(chunk).unwrap()).collect();
            assert_eq!(found, ["{\"é\":1}", "[DONE]"]);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        assert!(Lines::default().feed(&vec![b'x'; MAX_LINE_BYTES + 1]).is_err());
    }
}
