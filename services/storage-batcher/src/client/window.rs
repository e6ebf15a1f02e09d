//! What a writer has promised and a server has not answered, over as many streams as it takes: pure, told by whoever owns the stream.
//!
//! A write stays until it is answered for good. A new stream is sent all that is left, in order. A write that was refused for now is sent again with all that
//! follow it, once nothing of this stream is on its way any more: what comes late would be taken for an answer to the second sending.

use std::collections::BTreeMap;

/// How much a server takes before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Most writes that are not answered.
    pub writes: u64,
    /// Most bytes of them; one larger write may go by itself.
    pub bytes: u64,
}

/// Holds the writes that are not answered.
#[derive(Debug)]
pub struct Window<W> {
    held: BTreeMap<u64, Held<W>>,
    /// The number of the next write that is pushed; from 1.
    next: u64,
    /// What is told by the present stream; nothing is sent before.
    credit: Option<Credit>,
    /// The first number that was not sent on the present stream.
    cursor: u64,
    /// The least number that was refused for now and not sent again.
    back: Option<u64>,
    /// Sent on the present stream and not answered.
    writes: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Held<W> {
    write: W,
    bytes: u64,
    is_sent: bool,
}

/// What is to be done with an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered<W> {
    /// The write is decided: tell whoever waits.
    Decided(W),
    /// It is sent again.
    Again,
    /// No write of this number is on its way.
    Unasked,
}

impl<W> Default for Window<W> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), next: 1, credit: None, cursor: 1, back: None, writes: 0, bytes: 0 }
    }
}

impl<W> Window<W> {
    /// Returns the number that the next write will have.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Returns the least number that is not answered; that of the next write if all are.
    #[must_use]
    pub fn first_unanswered(&self) -> u64 {
        self.held.keys().next().copied().unwrap_or(self.next)
    }

    /// Returns whether every write is answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes in a write whose message has so many bytes; returns its number.
    pub fn push(&mut self, write: W, bytes: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        self.held.insert(number, Held { write, bytes, is_sent: false });
        number
    }

    /// Begins a stream, on which nothing was sent yet: the one before is forgotten, with what was on its way.
    pub fn begin(&mut self) {
        for held in self.held.values_mut() {
            held.is_sent = false;
        }
        self.credit = None;
        self.cursor = self.first_unanswered();
        self.back = None;
        (self.writes, self.bytes) = (0, 0);
    }

    /// Notes what the server takes.
    pub fn allow(&mut self, credit: Credit) {
        self.credit = Some(credit);
    }

    /// Returns whether the stream has to go back and may: every write that was sent is answered.
    #[must_use]
    pub fn can_go_back(&self) -> bool {
        self.back.is_some() && self.writes == 0
    }

    /// Goes back to the first write that was refused for now, if it may.
    pub fn go_back(&mut self) {
        if self.can_go_back()
            && let Some(back) = self.back.take()
        {
            self.cursor = back;
        }
    }

    /// Returns whether there is a write to be sent now.
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.ready().is_some()
    }

    /// Returns the write to be sent now, with its number, and counts it as sent.
    pub fn send(&mut self) -> Option<(u64, &W)> {
        let number = self.ready()?;
        let held = self.held.get_mut(&number)?;
        held.is_sent = true;
        self.cursor = number + 1;
        self.writes += 1;
        self.bytes += held.bytes;
        Some((number, &held.write))
    }

    /// Notes the answer to the write of `number`: for good, or `for_now`.
    pub fn answer(&mut self, number: u64, for_now: bool) -> Answered<W> {
        let Some(held) = self.held.get_mut(&number).filter(|held| held.is_sent) else {
            return Answered::Unasked;
        };
        self.writes -= 1;
        self.bytes -= held.bytes;
        if for_now {
            held.is_sent = false;
            self.back = Some(self.back.map_or(number, |back| back.min(number)));
            return Answered::Again;
        }
        self.held.remove(&number).map_or(Answered::Unasked, |held| Answered::Decided(held.write))
    }

    /// Gives up what is not answered, in order.
    pub fn take(&mut self) -> Vec<W> {
        std::mem::take(&mut self.held).into_values().map(|held| held.write).collect()
    }

    fn ready(&self) -> Option<u64> {
        let credit = self.credit.filter(|_| self.back.is_none())?;
        let (number, held) = self.held.range(self.cursor..).next()?;
        let fits = self.writes < credit.writes && self.bytes + held.bytes <= credit.bytes;
        (fits || self.writes == 0).then_some(*number)
    }
}

#[cfg(test)]
mod tests;
