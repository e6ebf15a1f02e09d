//! One who writes, and knows what each of its documents must be.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::bench::{
    Error,
    clients::Client,
    step::{COUNT, Document, Field, Step},
};

/// Documents of a writer.
const DOCUMENTS: u32 = 40;
/// Most differences that are told in words.
const TOLD: usize = 10;
/// What is not as it must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Differences {
    /// Documents that miss something.
    pub(super) lost: u64,
    /// Documents that have something twice.
    pub(super) doubled: u64,
    /// The first of them.
    pub(super) wrong: Vec<String>,
}

/// One who writes.
pub(super) struct Writer {
    number: u32,
    random: StdRng,
    documents: BTreeMap<u32, Document>,
    /// The write that was not acknowledged yet.
    open: Option<(u32, Step)>,
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Writes that were cut off and written again.
    pub(super) repeated: u64,
}

impl Writer {
    pub(super) fn new(number: u32, seed: u64) -> Self {
        Self {
            number,
            random: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number.into())),
            documents: BTreeMap::new(),
            open: None,
            acknowledged: 0,
            repeated: 0,
        }
    }

    /// Returns how many documents it wrote.
    pub(super) fn documents(&self) -> usize {
        self.documents.len()
    }

    /// Writes until a write fails: the service is gone.
    pub(super) async fn write_until_gone(&mut self, mut client: Client) {
        self.repeated += u64::from(self.open.is_some());
        while self.write(&mut client).await.is_ok() {}
    }

    /// Writes what was cut off again.
    pub(super) async fn finish(&mut self, client: &mut Client) -> Result<(), Error> {
        match self.open {
            None => Ok(()),
            Some(_) => self.write(client).await,
        }
    }

    async fn write(&mut self, client: &mut Client) -> Result<(), Error> {
        let (document, step) = self.open.unwrap_or_else(|| self.draw());
        self.open = Some((document, step));
        // By the same key when it is written again.
        let key = format!("{}-{}", self.number, self.acknowledged);
        client.write(self.id(document), key, step).await?;
        let state = self.documents.entry(document).or_default();
        step.apply(state);
        (self.open, self.acknowledged) = (None, self.acknowledged + 1);
        Ok(())
    }

    fn draw(&mut self) -> (u32, Step) {
        let random = &mut self.random;
        let (document, number) = (random.random_range(0..DOCUMENTS), random.random_range(0..1_000));
        let step = match random.random_range(0..20) {
            0 => Step::Delete,
            1..3 => Step::Set(number),
            3..7 => Step::Merge(number),
            7..9 => Step::Append(number % 50),
            _ => Step::Add(number),
        };
        (document, step)
    }

    fn id(&self, document: u32) -> String {
        format!("{}-{document}", self.number)
    }

    /// Compares what the sink holds with what it must hold.
    pub(super) async fn compare(
        &self,
        client: &mut Client,
        differences: &mut Differences,
    ) -> Result<(), Error> {
        for (number, expected) in &self.documents {
            let id = self.id(*number);
            let (found, is_pending) = client.get(id.clone()).await?;
            if &found == expected && !is_pending {
                continue;
            }
            let count = |document: &Document| match document.as_ref().and_then(|fields| fields.get(COUNT)) {
                Some(Field::Number(count)) => *count,
                _ => 0,
            };
            if count(&found) > count(expected) {
                differences.doubled += 1
            } else {
                differences.lost += 1
            }
            if differences.wrong.len() < TOLD {
                let pending = if is_pending { ", not at the sink" } else { "" };
                differences.wrong.push(format!("{id}: {found:?}{pending}, expected {expected:?}"));
            }
        }
        Ok(())
    }
}
