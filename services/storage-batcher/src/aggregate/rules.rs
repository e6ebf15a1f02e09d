//! Rules: what is kept of the samples of a collection.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::figure::{Figure, Figures};
use crate::codec::{Corrupt, Reader, Writer};

/// Seconds of a window where no rule says otherwise.
pub const WINDOW_SECONDS: i64 = 15 * 60;

/// Most bytes of a shared document where a rule does not say otherwise.
pub const PACK_BYTES: usize = 100 * 1024;

/// Most entities in a shared document where a rule does not say otherwise.
pub const PACK_ENTITIES: u32 = 500;

/// How the samples of one collection become documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: Arc<str>,
    /// Seconds of a window; whole minutes of which a day is a multiple.
    pub window: i64,
    /// How long after its end a window waits for late samples.
    pub lateness: Duration,
    /// What is kept of which readings.
    pub kept: Kept,
    /// How many buckets share a document; `None` gives each its own.
    pub packing: Option<Packing>,
}

/// What is kept of which readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of those named.
    pub named: BTreeMap<String, Figures>,
    /// Of all others; none of them is kept if empty.
    pub others: Figures,
}

/// How many buckets share a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Most entities.
    pub entities: u32,
    /// Most bytes, by the rules of Firestore's limit.
    pub bytes: usize,
}

/// The rules by collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Each with its layout.
    by_collection: HashMap<Arc<str>, (Rule, Arc<[u8]>)>,
    other: Rule,
}

impl Kept {
    /// Returns what is kept of the reading `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> &Figures {
        self.named.get(name).unwrap_or(&self.others)
    }
}

impl Rule {
    /// Returns the rule of collections that have none: 15 minutes, every figure of every reading, a document for each bucket.
    #[must_use]
    pub fn built_in(lateness: Duration) -> Self {
        let kept = Kept { named: BTreeMap::new(), others: Figures::from(Figure::ALL) };
        Self { name: "built-in".into(), window: WINDOW_SECONDS, lateness, kept, packing: None }
    }

    /// Returns the first second of the window in which `time` (microseconds since the epoch) lies.
    #[must_use]
    pub fn start_of(&self, time: i64) -> i64 {
        let second = time.div_euclid(1_000_000);
        second - second.rem_euclid(self.window)
    }

    /// Returns what decides the places of entities, and what their buckets hold, as bytes; none where each bucket has a document of its
    /// own.
    #[must_use]
    pub fn layout(&self) -> Vec<u8> {
        let Some(Packing { entities, bytes }) = self.packing else { return Vec::new() };
        let mut writer = Writer::new();
        writer.number(u64::from(entities));
        writer.number(bytes as u64);
        writer.signed(self.window);
        writer.number(self.kept.named.len() as u64);
        for (name, figures) in &self.kept.named {
            writer.text(name);
            writer.number(
                Figure::ALL
                    .iter()
                    .filter(|figure| figures.contains(figure))
                    .fold(0, |bits, figure| bits | figure.bit()),
            );
        }
        writer.finish()
    }
}

impl Kept {
    /// Reads what buckets hold out of a [`Rule::layout`].
    ///
    /// # Errors
    /// [`Corrupt`] if the bytes are none.
    pub fn of_layout(layout: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(layout)?;
        let (_entities, _bytes, _window) = (reader.number()?, reader.number()?, reader.signed()?);
        let mut kept = Self::default();
        for _ in 0..reader.number()? {
            let name = reader.text()?.to_owned();
            let bits = reader.number()?;
            let figures = Figure::ALL.into_iter().filter(|figure| bits & figure.bit() != 0).collect();
            kept.named.insert(name, figures);
        }
        reader.finish()?;
        Ok(kept)
    }
}

impl Rules {
    /// Makes rules by collection; `other`, which packs nothing, is that of the rest.
    #[must_use]
    pub fn new(by_collection: HashMap<Arc<str>, Rule>, other: Rule) -> Self {
        let laid_out = |(collection, rule): (Arc<str>, Rule)| {
            let layout = rule.layout().into();
            (collection, (rule, layout))
        };
        Self { by_collection: by_collection.into_iter().map(laid_out).collect(), other }
    }

    /// Returns the rules of a service without a file of them.
    #[must_use]
    pub fn built_in(lateness: Duration) -> Self {
        Self::new(HashMap::new(), Rule::built_in(lateness))
    }

    /// Returns the rule of `collection`.
    #[must_use]
    pub fn of(&self, collection: &str) -> &Rule {
        self.by_collection.get(collection).map_or(&self.other, |(rule, _)| rule)
    }

    /// Returns the [`Rule::layout`] of `collection`, if its buckets share documents.
    #[must_use]
    pub fn layout(&self, collection: &str) -> Option<&Arc<[u8]>> {
        self.by_collection.get(collection).map(|(_, layout)| layout).filter(|layout| !layout.is_empty())
    }

    /// Returns the seconds of the longest window.
    #[must_use]
    pub fn longest_window(&self) -> i64 {
        self.by_collection.values().map(|(rule, _)| rule.window).fold(self.other.window, i64::max)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Kept, Packing, Rule};
    use crate::aggregate::figure::{Figure, Figures};

    #[test]
    fn a_window_starts_at_a_multiple_of_its_length() {
        let mut rule = Rule::built_in(Duration::ZERO);
        assert_eq!(rule.start_of(1_795_343_399_999_999), 1_795_342_500);
        assert_eq!(rule.start_of(1_795_343_400_000_000), 1_795_343_400);
        assert_eq!(rule.start_of(-1), -900);
        rule.window = 3_600;
        assert_eq!(rule.start_of(1_795_343_399_999_999), 1_795_341_600);
    }

    #[test]
    fn the_layout_is_another_whenever_a_bucket_would_take_other_bytes() {
        let mut rule = Rule::built_in(Duration::ZERO);
        assert!(rule.layout().is_empty());
        rule.packing = Some(Packing { entities: 10, bytes: 1_000 });
        rule.kept =
            Kept { named: [("apr".to_owned(), Figures::from([Figure::Min]))].into(), others: Figures::new() };
        let mut layouts = vec![rule.layout()];
        rule.kept.named.insert("apr".to_owned(), Figures::from([Figure::Min, Figure::Max]));
        layouts.push(rule.layout());
        rule.kept.named.insert("tvl".to_owned(), Figures::from([Figure::Last]));
        layouts.push(rule.layout());
        rule.packing = Some(Packing { entities: 10, bytes: 1_001 });
        layouts.push(rule.layout());
        rule.packing = Some(Packing { entities: 11, bytes: 1_001 });
        layouts.push(rule.layout());
        assert_eq!(Kept::of_layout(&rule.layout()).as_ref(), Ok(&rule.kept));
        layouts.sort_unstable();
        layouts.dedup();
        assert_eq!(layouts.len(), 5);
        rule.lateness = Duration::from_secs(5);
        assert!(layouts.contains(&rule.layout()), "lateness moves nobody");
    }
}
