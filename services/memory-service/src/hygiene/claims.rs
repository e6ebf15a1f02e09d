//! Which memories state different values for one field of one subject.

use std::collections::{BTreeMap, HashMap};

use wording::Text;

use super::form::{self, Print};
use crate::memory::Claim;

/// The claims of a space by what they are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Subject and field to the values stated, by the numbers of the memories that state them.
    stated: HashMap<Print, BTreeMap<u64, Box<str>>>,
}

impl Claims {
    /// Takes the claim of the memory under `seq`.
    pub(crate) fn insert(&mut self, seq: u64, claim: &Claim) {
        self.stated.entry(about(claim)).or_default().insert(seq, claim.value.as_str().into());
    }

    /// Lets go of the claim of the memory under `seq`.
    pub(crate) fn remove(&mut self, seq: u64, claim: &Claim) {
        let about = about(claim);
        if let Some(stated) = self.stated.get_mut(&about) {
            stated.remove(&seq);
            if stated.is_empty() {
                self.stated.remove(&about);
            }
        }
    }

    /// Lets go of all claims but those of the memories that `is_live` lets pass.
    pub(crate) fn retain(&mut self, is_live: impl Fn(u64) -> bool) {
        self.stated.retain(|_, stated| {
            stated.retain(|seq, _| is_live(*seq));
            !stated.is_empty()
        });
    }

    /// Returns every claim: what it is about, the number of the memory, and the value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Print, u64, &str)> {
        let all = self.stated.iter();
        all.flat_map(|(about, stated)| stated.iter().map(move |(seq, value)| (about, *seq, &**value)))
    }

    /// Takes what [`Claims::iter`] returned.
    pub(crate) fn restore(&mut self, about: Print, seq: u64, value: &str) {
        self.stated.entry(about).or_default().insert(seq, value.into());
    }

    /// Returns the numbers of memories that state another value than `claim` for its subject and field: at most `most`, the last written
    /// first, and only those that `is_live` lets pass.
    pub(crate) fn against(&self, claim: &Claim, most: usize, is_live: impl Fn(u64) -> bool) -> Vec<u64> {
        let stated = self.stated.get(&about(claim)).into_iter().flatten().rev();
        let others = stated.filter(|(seq, value)| is_live(**seq) && !is_same(value, &claim.value));
        others.map(|(seq, _)| *seq).take(most).collect()
    }

    /// Calls `each` with the numbers of the live memories of each subject and field for which more than one value is stated.
    pub(crate) fn contradictions(&self, is_live: impl Fn(u64) -> bool, mut each: impl FnMut(&[u64])) {
        for stated in self.stated.values().filter(|stated| stated.len() > 1) {
            let live: Vec<_> = stated.iter().filter(|(seq, _)| is_live(**seq)).collect();
            let Some((_, first)) = live.first() else { continue };
            if live.iter().any(|(_, value)| !is_same(first, value)) {
                each(&live.iter().map(|(seq, _)| **seq).collect::<Vec<_>>());
            }
        }
    }
}

fn about(claim: &Claim) -> Print {
    form::print([form::normal(&claim.subject).as_str(), &form::normal(&claim.field)])
}

/// Returns true if two values are spellings of one: of one text, or of one number with its unit.
fn is_same(one: &str, other: &str) -> bool {
    if form::normal(one) == form::normal(other) {
        return true;
    }
    let (one, other) = (Text::new(one), Text::new(other));
    match (one.words.as_slice(), other.words.as_slice(), one.numbers.as_slice(), other.numbers.as_slice()) {
        ([_], [_], [left], [right]) => left.equals(right) && left.unit == right.unit,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Claims, is_same};
    use crate::memory::Claim;

    fn claim(subject: &str, value: &str) -> Claim {
        Claim { subject: subject.into(), field: "fee".into(), value: value.into() }
    }

    #[test]
    fn another_value_for_the_same_field_contradicts_until_it_goes() {
        let mut claims = Claims::default();
        claims.insert(1, &claim("pool A", "0.3%"));
        claims.insert(2, &claim("Pool a", "0.30 %"));
        claims.insert(3, &claim("pool A", "1%"));
        claims.insert(4, &claim("pool B", "5%"));
        let against = |claims: &Claims, value| claims.against(&claim("pool a", value), 9, |_| true);
        assert_eq!(against(&claims, "1%"), [2, 1]);
        assert_eq!(against(&claims, "0.3%"), [3]);
        assert_eq!(claims.against(&claim("pool a", "2%"), 2, |_| true), [3, 2]);
        assert_eq!(claims.against(&claim("pool a", "2%"), 9, |seq| seq != 3), [2, 1], "the dead say nothing");
        let mut found = Vec::new();
        claims.contradictions(|_| true, |seqs| found.push(seqs.to_vec()));
        assert_eq!(found, [[1, 2, 3]]);
        let mut kept = Claims::default();
        claims.iter().for_each(|(about, seq, value)| kept.restore(*about, seq, value));
        assert_eq!(against(&kept, "1%"), [2, 1], "a checkpoint keeps them");
        kept.retain(|seq| seq == 3);
        assert_eq!((kept.stated.len(), against(&kept, "0.3%")), (1, vec![3]));
        claims.remove(3, &claim("pool A", "1%"));
        claims.contradictions(|_| true, |seqs| panic!("{seqs:?}"));
        [1, 2].into_iter().for_each(|seq| claims.remove(seq, &claim("pool A", "0.3%")));
        claims.remove(4, &claim("pool B", "5%"));
        assert!(claims.stated.is_empty());
    }

    #[test]
    fn a_number_is_compared_by_value_and_unit() {
        for (one, other) in [("1,000", "1000.0"), ("Low", "low"), ("5%", "5.0 %")] {
            assert!(is_same(one, other), "{one} {other}");
        }
        for (one, other) in [("25", "250"), ("5%", "5"), ("5 to 7", "5 to 8"), ("-5", "5"), ("low", "high")] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }
}
