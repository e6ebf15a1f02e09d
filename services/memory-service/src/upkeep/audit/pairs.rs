//! Which memories may be near duplicates, without comparing each with each.

use std::collections::{BTreeMap, BTreeSet};

use wording::Text;

use crate::{hygiene::form, memory::Memory};

/// Blocks that a memory is put into: those of its words whose hashes are the least. Two texts that differ in few words share one of them, most
/// likely (the minima of hashes of sets, Broder, "On the resemblance and containment of documents", 1997).
const BLOCKS: usize = 3;
/// How many memories before it a memory is paired with in a block.
const REACH: usize = 16;

/// Memories by words that few others have.
#[derive(Debug, Default)]
pub(super) struct Blocks(BTreeMap<[u8; 16], Vec<u64>>);

impl Blocks {
    /// Takes note of the memory under `seq`.
    pub(super) fn add(&mut self, seq: u64, memory: &Memory) {
        let text = Text::new(&memory.content);
        let words = text.words.iter().filter(|word| word.is_content());
        let blocks: BTreeSet<_> =
            words.map(|word| form::print([memory.category.as_str(), &memory.agent, &word.stem])).collect();
        for block in blocks.into_iter().take(BLOCKS) {
            self.0.entry(block).or_default().push(seq);
        }
    }

    /// Returns at most `most` pairs of memories that share a block, and whether pairs were left out.
    pub(super) fn pairs(self, most: usize) -> (Vec<(u64, u64)>, bool) {
        let (mut pairs, mut cut) = (BTreeSet::new(), false);
        for block in self.0.into_values() {
            cut |= block.len() > REACH + 1;
            for (at, seq) in block.iter().enumerate() {
                for before in &block[at.saturating_sub(REACH)..at] {
                    if pairs.len() < most {
                        pairs.insert((*before, *seq));
                    } else if !pairs.contains(&(*before, *seq)) {
                        return (pairs.into_iter().collect(), true);
                    }
                }
            }
        }
        (pairs.into_iter().collect(), cut)
    }
}
