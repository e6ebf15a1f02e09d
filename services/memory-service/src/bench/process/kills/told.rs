//! What a writer was told, and how that differs from what is there.

use std::collections::HashMap;

use crate::bench::process::clients::Client;

/// Every so many writes one is of several ids, how many those are, and every so many an id of earlier is forgotten or written again.
const SEVERAL: u32 = 7;
const IDS: usize = 3;
const FORGOTTEN: u32 = 5;
const AGAIN: u32 = 3;
/// Differences that are kept in words.
const WORDS: usize = 10;

/// A writer and what it was told of its ids, by their numbers.
#[derive(Debug)]
pub(super) struct Writer {
    name: u32,
    /// Its last write; also its content.
    turn: u32,
    /// The content that was acknowledged last, if it is not forgotten.
    told: Vec<Option<u32>>,
    /// True once what was forgotten may have come back.
    back: bool,
    /// The write that was cut off.
    unsure: Option<Write>,
    /// Memories whose writing was acknowledged.
    pub(super) remembered: u64,
    /// Ids whose forgetting was.
    pub(super) forgotten: u64,
}

/// A write of some ids: the content they get, or that they are forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    ids: Vec<usize>,
    content: Option<u32>,
}

/// Where what is there is not what was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Acknowledged writes and forgettings that are not there as they were acknowledged.
    pub lost: u64,
    /// Memories that are there more than once, or that nobody wrote.
    pub doubled: u64,
    /// Calls that were cut off and happened in part.
    pub torn: u64,
    /// The first of them in words.
    pub wrong: Vec<String>,
}

impl Writer {
    pub(super) fn new(name: u32) -> Self {
        Self { name, turn: 0, told: Vec::new(), back: false, unsure: None, remembered: 0, forgotten: 0 }
    }

    /// Writes until a call fails.
    pub(super) async fn write_until_gone(&mut self, mut client: Client) {
        loop {
            let write = self.next();
            let ids = write.ids.iter().map(|id| self.id(*id)).collect();
            let done = match write.content {
                Some(content) => client.remember(ids, content).await,
                None => client.forget(ids).await,
            };
            if done.is_err() {
                self.unsure = Some(write);
                return;
            }
            self.acknowledged(&write);
        }
    }

    /// Returns the next write: most are of new ids, some of earlier ones.
    fn next(&mut self) -> Write {
        self.turn += 1;
        let (turn, known) = (self.turn, self.told.len());
        let forgets = turn.is_multiple_of(FORGOTTEN) && known >= IDS;
        let again = forgets || (turn.is_multiple_of(AGAIN) && known >= IDS);
        // Times an odd number, so that earlier ids come in no order.
        let first = if again { (turn as usize).wrapping_mul(0x9E37_79B1) % known } else { known };
        let count = if turn.is_multiple_of(SEVERAL) { IDS } else { 1 };
        let ids = (first..first + count).map(|id| if again { id % known } else { id }).collect();
        Write { ids, content: (!forgets).then_some(turn) }
    }

    fn acknowledged(&mut self, write: &Write) {
        let count = write.ids.len() as u64;
        match write.content {
            Some(_) => self.remembered += count,
            None => self.forgotten += count,
        }
        for id in &write.ids {
            self.set(*id, write.content);
        }
    }

    fn set(&mut self, id: usize, content: Option<u32>) {
        if self.told.len() <= id {
            self.told.resize(id + 1, None);
        }
        self.told[id] = content;
    }

    /// Notes that forgettings were undone: what came back was written before.
    pub(super) fn may_be_back(&mut self) {
        self.back = true;
    }

    fn id(&self, id: usize) -> String {
        format!("{}-{id}", self.name)
    }

    /// Takes the writer's ids out of `found`, notes how they differ from what it was told, and goes on from what is there.
    pub(super) fn compare(&mut self, found: &mut HashMap<String, Vec<u32>>, differences: &mut Differences) {
        let unsure = self.unsure.take();
        for id in unsure.iter().flat_map(|write| &write.ids) {
            self.set(*id, self.told.get(*id).copied().flatten());
        }
        let (mut changed, mut unchanged) = (0, 0);
        for id in 0..self.told.len() {
            let name = self.id(id);
            let there = found.remove(&name).unwrap_or_default();
            if there.len() > 1 {
                differences
                    .doubled(there.len() as u64 - 1, || format!("{name} is there {} times", there.len()));
            }
            let (before, there) = (self.told[id], there.last().copied());
            let after = unsure.as_ref().filter(|write| write.ids.contains(&id)).map(|write| write.content);
            match after {
                Some(after) if there == after && before != after => changed += 1,
                Some(after) if there == before && before != after => unchanged += 1,
                _ if there == before || (before.is_none() && self.back) => {}
                _ => differences.lost(1, || format!("{name} was told as {before:?} and is {there:?}")),
            }
            self.told[id] = there;
        }
        if changed > 0 && unchanged > 0 {
            differences.torn(|| format!("{unsure:?} of writer {} happened in part", self.name));
        }
    }
}

impl Differences {
    /// Notes what is left of what was found: nobody wrote it.
    pub(super) fn nobodys(&mut self, found: &HashMap<String, Vec<u32>>) {
        for (id, contents) in found {
            self.doubled(contents.len() as u64, || format!("{id} was written by nobody"));
        }
    }

    /// Notes a count that is not the expected one.
    pub(super) fn counted(&mut self, what: &str, count: u64, expected: u64) {
        let say = || format!("{count} memories are {what}, {expected} should be");
        if count < expected {
            self.lost(expected - count, say);
        } else if count > expected {
            self.doubled(count - expected, say);
        }
    }

    fn lost(&mut self, count: u64, say: impl FnOnce() -> String) {
        self.lost += count;
        self.say(say);
    }

    fn doubled(&mut self, count: u64, say: impl FnOnce() -> String) {
        self.doubled += count;
        self.say(say);
    }

    fn torn(&mut self, say: impl FnOnce() -> String) {
        self.torn += 1;
        self.say(say);
    }

    fn say(&mut self, say: impl FnOnce() -> String) {
        if self.wrong.len() < WORDS {
            self.wrong.push(say());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that was told of ids 0 to 2 and cut off while it wrote 1, 3 and 4 as 9.
    fn writer() -> Writer {
        let mut writer = Writer::new(1);
        for (id, content) in [Some(5), Some(6), None].into_iter().enumerate() {
            writer.acknowledged(&Write { ids: vec![id], content });
        }
        writer.unsure = Some(Write { ids: vec![1, 3, 4], content: Some(9) });
        writer
    }

    /// Returns what is lost, doubled and torn where these are there.
    fn differences(there: &[(usize, u32)]) -> (u64, u64, u64) {
        let mut found: HashMap<String, Vec<u32>> = HashMap::new();
        for (id, content) in there {
            found.entry(format!("1-{id}")).or_default().push(*content);
        }
        let (mut writer, mut differences) = (writer(), Differences::default());
        writer.compare(&mut found, &mut differences);
        differences.nobodys(&found);
        let Differences { lost, doubled, torn, wrong } = differences;
        assert_eq!(wrong.is_empty(), lost + doubled + torn == 0, "{wrong:?}");
        (lost, doubled, torn)
    }

    #[test]
    fn a_call_that_was_cut_off_may_have_happened_or_not() {
        assert_eq!(differences(&[(0, 5), (1, 6)]), (0, 0, 0));
        assert_eq!(differences(&[(0, 5), (1, 9), (3, 9), (4, 9)]), (0, 0, 0));
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_lost() {
        assert_eq!(differences(&[(1, 6)]), (1, 0, 0), "gone");
        assert_eq!(differences(&[(0, 4), (1, 6)]), (1, 0, 0), "an older content");
        assert_eq!(differences(&[(0, 5)]), (1, 0, 0), "neither state of a call that was cut off");
        assert_eq!(differences(&[(0, 5), (1, 6), (2, 7)]), (1, 0, 0), "forgotten, and back");
    }

    #[test]
    fn what_is_there_twice_or_was_written_by_nobody_is_doubled() {
        assert_eq!(differences(&[(0, 5), (0, 5), (1, 6)]), (0, 1, 0));
        assert_eq!(differences(&[(0, 5), (1, 6), (70, 5)]), (0, 1, 0));
        let mut differences = Differences::default();
        differences.counted("recalled", 7, 5);
        differences.counted("counted", 4, 5);
        assert_eq!((differences.lost, differences.doubled), (1, 2));
    }

    #[test]
    fn a_call_that_happened_in_part_is_torn() {
        assert_eq!(differences(&[(0, 5), (1, 9), (3, 9)]), (0, 0, 1));
        assert_eq!(differences(&[(0, 5), (1, 6), (3, 9), (4, 9)]), (0, 0, 1));
    }

    #[test]
    fn a_writer_goes_on_from_what_is_there() {
        let (mut writer, mut differences) = (writer(), Differences::default());
        let found: HashMap<_, _> = [("1-0".to_owned(), vec![5])].into();
        writer.compare(&mut found.clone(), &mut differences);
        assert_eq!(differences.lost, 1);
        writer.compare(&mut found.clone(), &mut differences);
        assert_eq!(differences.lost, 1, "it is lost once");
        assert_eq!(writer.next().ids, [5]);
    }

    #[test]
    fn most_writes_are_of_new_ids_and_no_call_names_one_twice() {
        let mut writer = Writer::new(0);
        let (mut new, mut earlier, mut forgotten) = (0, 0, 0);
        for _ in 0..1_000 {
            let write = writer.next();
            let mut ids = write.ids.clone();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), write.ids.len());
            match write {
                Write { content: None, .. } => forgotten += 1,
                Write { ref ids, .. } if ids[0] < writer.told.len() => earlier += 1,
                Write { .. } => new += 1,
            }
            writer.acknowledged(&write);
        }
        assert!(new > 500 && earlier > 200 && forgotten > 150, "{new} {earlier} {forgotten}");
    }
}
