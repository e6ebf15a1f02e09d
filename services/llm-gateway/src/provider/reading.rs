//! A streamed answer as it comes.

use std::{collections::VecDeque, time::Instant};

use super::{
    Failure, MAX_ANSWER_BYTES, Patience, delta::Delta, dialect::Reader, sse::Lines, telling::Told,
    transport::Body,
};
use crate::conversation::{Finish, Piece, Usage};

/// Timeouts that may pass without a piece while the upstream says that it is at work.
const MOST_TIMEOUTS: u32 = 10;

/// A streamed answer, read piece by piece.
#[derive(Debug)]
pub struct Reading {
    body: Body,
    reader: Reader,
    patience: Patience,
    told: Told,
    lines: Lines,
    bytes: usize,
    ready: VecDeque<Piece>,
    finish: Option<Finish>,
    usage: Option<Usage>,
    is_over: bool,
}

impl Reading {
    pub(super) fn new(body: Body, reader: Reader, patience: Patience, told: Told) -> Self {
        Self {
            body,
            reader,
            patience,
            told,
            lines: Lines::default(),
            bytes: 0,
            ready: VecDeque::new(),
            finish: None,
            usage: None,
            is_over: false,
        }
    }

    /// Waits for the first piece, or for the end of an answer without any.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.filled().await?;
        if self.ready.is_empty() { self.end().map(drop) } else { Ok(()) }
    }

    /// Returns the next piece; `None` when there is no more.
    ///
    /// # Errors
    /// [`Failure`] if the stream breaks, pauses longer than the timeout (ten of them while it is kept alive), or is none.
    pub async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        self.filled().await?;
        let piece = self.ready.pop_front();
        if let Some(piece) = &piece {
            self.told.read(piece);
        }
        Ok(piece)
    }

    /// Returns why the answer ended and what it used, if the upstream said.
    ///
    /// # Errors
    /// [`Failure::Malformed`] for a stream that ended without saying why: it was cut.
    pub fn end(&mut self) -> Result<(Finish, Option<Usage>), Failure> {
        let finish = self.told.checked(self.finish.ok_or(Failure::Malformed))?;
        self.told.ended(finish, self.usage);
        Ok((finish, self.usage))
    }

    async fn filled(&mut self) -> Result<(), Failure> {
        let filled = self.fill().await;
        self.told.checked(filled)
    }

    /// Reads until there is a piece, or nothing follows.
    async fn fill(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.ready.is_empty() && !self.is_over {
            let next = async { self.body.chunk().await.map_err(|_| Failure::Unreachable) };
            let Some(chunk) = self.patience.bound(next).await? else {
                self.is_over = true;
                break;
            };
            // Comments keep a stream alive, but not for ever.
            if begun.elapsed() > self.patience.timeout() * MOST_TIMEOUTS {
                return Err(Failure::Unreachable);
            }
            self.bytes += chunk.len();
            if self.bytes > 4 * MAX_ANSWER_BYTES {
                return Err(Failure::Malformed);
            }
            for data in self.lines.feed(&chunk)? {
                self.told.received(data.as_bytes());
                let Delta { pieces, finish, usage, done } = self.reader.read(&data)?;
                self.ready.extend(pieces);
                self.finish = finish.or(self.finish);
                self.usage = usage.or(self.usage);
                if done {
                    self.is_over = true;
                    break;
                }
            }
        }
        Ok(())
    }
}
