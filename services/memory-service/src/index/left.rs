//! How much is left of an index for somebody who goes through it by numbers.

use super::Index;

impl Index {
    /// Returns how many memories have a number greater than `seq`.
    pub(crate) fn after(&self, seq: u64) -> u64 {
        let rows = self.vectors.rows();
        let (mut first, mut end) = (0, u32::try_from(rows.len()).unwrap_or(u32::MAX));
        while first < end {
            let middle = first.midpoint(end);
            if rows.seq(middle) <= seq { first = middle + 1 } else { end = middle }
        }
        self.live.range_cardinality(first..)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        index::{Index, tests::record},
        vector::metric::Metric,
    };

    #[test]
    fn what_is_left_are_the_live_memories_of_greater_numbers() {
        let mut index = Index::new(Metric::Cosine, 1, 0);
        assert_eq!(index.after(0), 0);
        for seq in [2, 3, 5, 9] {
            let record = record("a", &[1.0]);
            index.put(seq, &record.memory, record.saying, &record.embedding);
        }
        index.leave_out([5]);
        let left: Vec<u64> = [0, 1, 2, 4, 8, 9, u64::MAX].into_iter().map(|seq| index.after(seq)).collect();
        assert_eq!(left, [3, 3, 2, 1, 1, 0, 0]);
    }
}
