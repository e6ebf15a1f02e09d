//! An index in the parts of a checkpoint.
//!
//! Written are the codes of the vectors, the facts, the words, what each row says, the claims, the names and the threads; what follows from these is made anew.

use std::io;

use super::{
    Index, Names,
    column::Column,
    facts::Facts,
    postings::{rows_from_bytes, rows_to_bytes},
    sayings::Sayings,
    text::{
        Text,
        bytes::{put, put_part, take, take_part},
    },
    threads::Threads,
};
use crate::{
    hygiene::{claims::Claims, saying::Saying},
    memory::Memory,
    shape::Shape,
    store::{FromParts, FromRows, Image, Mark, Parts, Site, join, split},
    vector::{arena::Arena, metric::Metric},
};

const CHUNK: &str = "chunk";
const FACTS: &str = "facts";
const LIVE: &str = "live";
const TEXT: &str = "text";
const CLAIMS: &str = "claims";
/// Another name once the same memory says something else: what was written before then fits no more.
const SAYINGS: &str = "sayings 1";
/// Bytes of what a row says.
const SAYING_BYTES: usize = 12;
const THREADS: &str = "threads";
const NAMES: [&str; 5] = ["categories", "pools", "agents", "tags", "in threads"];
/// Bytes of a row's facts.
const FACTS_BYTES: usize = 40;

impl Index {
    /// Returns what a checkpoint of it holds, of the space at that site.
    pub(crate) fn mark(&self, Site { space, vectors, .. }: Site) -> Mark {
        let rows = self.vectors.rows();
        let last = rows.len().checked_sub(1).and_then(|row| u32::try_from(row).ok());
        let last = last.map_or(0, |row| rows.seq(row));
        Mark { space, vectors, generation: self.generation, last }
    }
}

impl Image for Index {
    fn save(&self, to: &mut Parts<'_>) -> io::Result<()> {
        let rows = self.vectors.rows();
        for chunk in rows.chunks() {
            to.put(CHUNK, &chunk.to_bytes())?;
        }
        let rows = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let facts: Vec<u8> = (0..rows).flat_map(|row| written(&self.facts.get(row))).collect();
        to.put(FACTS, &facts)?;
        let sayings: Vec<u8> = (0..rows).flat_map(|row| said(self.sayings.column().get(row))).collect();
        to.put(SAYINGS, &sayings)?;
        to.put(LIVE, &rows_to_bytes(&self.live))?;
        to.put(TEXT, &self.text.to_bytes())?;
        to.put(THREADS, &self.neighbours.to_bytes())?;
        to.put(CLAIMS, &stated(&self.claims))?;
        let names = [&self.categories, &self.pools, &self.agents, &self.tags, &self.threads];
        NAMES.into_iter().zip(names).try_for_each(|(name, names)| to.put(name, &names.to_bytes()))
    }
}

impl FromParts for Index {
    fn load(
        shape: &Shape,
        parts: &mut dyn FnMut() -> io::Result<Option<(String, Vec<u8>)>>,
    ) -> io::Result<Option<Self>> {
        let (metric, dimensions) = (shape.metric, shape.dimensions);
        let (mut chunks, mut others) = (Vec::new(), Vec::new());
        while let Some((name, bytes)) = parts()? {
            if name == CHUNK { chunks.push(bytes) } else { others.push((name, bytes)) }
        }
        Ok(restored(metric, dimensions, chunks, &others))
    }
}

impl FromRows for Index {
    fn bare(shape: &Shape) -> Self {
        Self::new(shape.metric, shape.dimensions, 0)
    }

    fn put(&mut self, seq: u64, memory: &Memory, vector: &[f32]) {
        self.put(seq, memory, Saying::of(memory), vector);
    }

    fn leave_out(&mut self, seqs: Vec<u64>) {
        self.leave_out(seqs);
    }

    fn reached(&mut self, generation: u64) {
        self.generation = generation;
    }
}

fn restored(
    metric: Metric,
    dimensions: usize,
    chunks: Vec<Vec<u8>>,
    others: &[(String, Vec<u8>)],
) -> Option<Index> {
    let part =
        |wanted: &str| others.iter().find(|(name, _)| name == wanted).map(|(_, bytes)| bytes.as_slice());
    let mut index = Index::new(metric, dimensions, 0);
    index.vectors = Arena::restored(metric, dimensions, chunks)?;
    let (facts, rest) = part(FACTS)?.as_chunks::<FACTS_BYTES>();
    let rows = index.vectors.rows().len();
    if facts.len() != rows || !rest.is_empty() {
        return None;
    }
    for (row, bytes) in (0..).zip(facts) {
        index.facts.set(row, read(bytes)?);
    }
    let (sayings, rest) = part(SAYINGS)?.as_chunks::<SAYING_BYTES>();
    if sayings.len() != rows || !rest.is_empty() {
        return None;
    }
    index.claims = restated(part(CLAIMS)?)?;
    index.live = rows_from_bytes(part(LIVE)?)?;
    index.text = Text::from_bytes(part(TEXT)?).ok()?;
    index.neighbours = Threads::from_bytes(part(THREADS)?)?;
    for (names, name) in index.names().into_iter().zip(NAMES) {
        *names = Names::from_bytes(part(name)?)?;
    }
    if index.live.max().is_some_and(|last| last as usize >= rows) {
        return None;
    }
    let mut column = Column::new(Saying::default());
    (0..).zip(sayings).for_each(|(row, bytes)| column.set(row, saying(bytes)));
    index.sayings = Sayings::restored(column, &index.live);
    index.derive();
    Some(index)
}

/// Writes what a row says: words, scope.
fn said(Saying { words, scope }: Saying) -> [u8; SAYING_BYTES] {
    let mut bytes = [0; SAYING_BYTES];
    bytes[..8].copy_from_slice(&words.to_le_bytes());
    bytes[8..].copy_from_slice(&scope.to_le_bytes());
    bytes
}

fn saying([a, b, c, d, e, f, g, h, rest @ ..]: &[u8; SAYING_BYTES]) -> Saying {
    let words = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
    Saying { words, scope: u32::from_le_bytes(*rest) }
}

/// Writes claims: of each what it is about, the number of its memory, and the value.
fn stated(claims: &Claims) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (about, seq, value) in claims.iter() {
        put_part(&mut bytes, about);
        put(&mut bytes, seq);
        put_part(&mut bytes, value.as_bytes());
    }
    bytes
}

fn restated(mut bytes: &[u8]) -> Option<Claims> {
    let (bytes, mut claims) = (&mut bytes, Claims::default());
    while !bytes.is_empty() {
        let about = take_part(bytes)?.try_into().ok()?;
        let seq = take(bytes)?;
        claims.restore(about, seq, str::from_utf8(take_part(bytes)?).ok()?);
    }
    Some(claims)
}

/// Writes facts: time, whether it expires and when, confidence, importance.
fn written(facts: &Facts) -> [u8; FACTS_BYTES] {
    let mut bytes = [0; FACTS_BYTES];
    let (seconds, nanos) = split(facts.time);
    bytes[..8].copy_from_slice(&seconds.to_le_bytes());
    bytes[8..12].copy_from_slice(&nanos.to_le_bytes());
    // Nanoseconds that no time has say that it does not expire.
    let (seconds, nanos) = facts.expires.map_or((0, u32::MAX), split);
    bytes[12..20].copy_from_slice(&seconds.to_le_bytes());
    bytes[20..24].copy_from_slice(&nanos.to_le_bytes());
    bytes[24..32].copy_from_slice(&facts.confidence.to_le_bytes());
    bytes[32..40].copy_from_slice(&facts.importance.to_le_bytes());
    bytes
}

fn read(bytes: &[u8; FACTS_BYTES]) -> Option<Facts> {
    let long = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let short = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let time = |seconds: u64, nanos| join(seconds.cast_signed(), nanos).ok();
    let expires = if short(20)? == u32::MAX { None } else { Some(time(long(12)?, short(20)?)?) };
    Some(Facts {
        time: time(long(0)?, short(8)?)?,
        expires,
        confidence: f64::from_bits(long(24)?),
        importance: f64::from_bits(long(32)?),
    })
}
