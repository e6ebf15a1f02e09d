//! Benchmark `memory.evidence`: the share of the turns that answer a question which a recall finds in a long conversation.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use embedding::Embedder;
use jiff::{civil::DateTime, tz::TimeZone};
use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    index::{
        entities::Entities,
        text::Text,
        threads::{Lending, Threads},
    },
    recall::{
        fusion::{self, Parts, Weights},
        period::Periods,
    },
};

/// How many memories are looked at.
const DEPTHS: [usize; 3] = [5, 10, 20];
/// Texts embedded at a time.
const BATCH: usize = 64;
/// The category of questions that have no answer in the conversation.
const UNANSWERABLE: u8 = 5;
/// How the times of sessions are written.
const TIMES: &str = "%I:%M %p on %d %B, %Y";

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file has another shape.
    #[error("the conversations cannot be read")]
    Shape(#[from] serde_json::Error),
    /// The file holds no question with evidence.
    #[error("the file holds no question with evidence")]
    Empty,
    /// The embedder failed.
    #[error("the embedder failed")]
    Embedder(#[from] embedding::Error),
}

/// A conversation of the file, as LoCoMo has them.
#[derive(Deserialize)]
struct Conversation {
    /// `session_N`, lists of turns, and `session_N_date_time`, beside other things.
    conversation: BTreeMap<String, Value>,
    qa: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    question: String,
    #[serde(default)]
    evidence: Vec<String>,
    category: u8,
}

#[derive(Deserialize)]
struct Turn {
    speaker: String,
    dia_id: String,
    text: String,
}

/// The memories of one conversation.
struct Memories {
    text: Text,
    threads: Threads,
    entities: Entities,
    /// By row.
    turns: Vec<Turn>,
    times: Vec<SystemTime>,
    vectors: Vec<Vec<f32>>,
    rows: RoaringBitmap,
}

/// The ways of ranking that are compared, by their keys.
const WAYS: [&str; 5] = ["dense", "bm25", "rrf", "weighted", "ours"];

/// Asks every question of every conversation in `data` that has evidence in it; returns the evidence that the default ranking finds among the
/// first ten, in percent, mean over the questions, and the details.
///
/// A turn is a memory: its speaker is the entity it is about and stands before the words, its session is the thread, and the session's time is its
/// own. `bm25` and `dense` look at the memory alone, `rrf` fuses their ranks, `weighted` is cosine + 0.03 × BM25, `ours` is the default
/// ranking of a recall.
///
/// # Errors
/// [`Error`] if the file has another shape or no question, or the embedder fails.
pub async fn measure(data: &[u8], embedder: &dyn Embedder) -> Result<(f64, Value), Error> {
    let conversations: Vec<Conversation> = serde_json::from_slice(data)?;
    let mut found = [[0.0; DEPTHS.len()]; WAYS.len()];
    let (mut questions, mut turns) = (0, 0);
    for Conversation { conversation, qa } in conversations {
        let memories = Memories::read(conversation, embedder).await?;
        turns += memories.turns.len();
        for question in qa.iter().filter(|question| question.category != UNANSWERABLE) {
            let evidence = memories.evidence(question);
            if evidence.is_empty() {
                continue;
            }
            questions += 1;
            let vector = embedder.embed_one(&question.question).await?;
            for (scores, found) in memories.scores(&question.question, &vector).iter().zip(&mut found) {
                add(&memories, scores, &evidence, found);
            }
        }
    }
    if questions == 0 {
        return Err(Error::Empty);
    }
    let mut details = Map::new();
    let percent = |sum: f64| 100.0 * sum / f64::from(questions);
    for (way, found) in WAYS.iter().zip(found) {
        let depths = DEPTHS.iter().zip(found).map(|(depth, sum)| (depth.to_string(), json!(percent(sum))));
        details.insert((*way).to_owned(), Value::Object(depths.collect()));
    }
    details.insert("embedder".to_owned(), json!(embedder.name()));
    details.insert("questions".to_owned(), json!(questions));
    details.insert("turns".to_owned(), json!(turns));
    Ok((percent(found[WAYS.len() - 1][1]), Value::Object(details)))
}

impl Memories {
    async fn read(conversation: BTreeMap<String, Value>, embedder: &dyn Embedder) -> Result<Self, Error> {
        let mut memories = Self {
            text: Text::new(),
            threads: Threads::new(),
            entities: Entities::default(),
            turns: Vec::new(),
            times: Vec::new(),
            vectors: Vec::new(),
            rows: RoaringBitmap::new(),
        };
        let mut contents = Vec::new();
        for number in 1_usize.. {
            let session = format!("session_{number}");
            let time =
                conversation.get(&format!("{session}_date_time")).and_then(Value::as_str).and_then(time);
            let turns = conversation.get(&session).map(Vec::<Turn>::deserialize).transpose()?;
            if turns.is_none() && time.is_none() {
                break;
            }
            for (turn, position) in turns.unwrap_or_default().into_iter().zip(0_u32..) {
                let start = time.unwrap_or(SystemTime::UNIX_EPOCH);
                contents.push(format!("{}: {}", turn.speaker, turn.text));
                memories.add(turn, &session, position, start);
            }
        }
        for (content, row) in contents.iter().zip(0..) {
            memories.text.insert(row, content);
        }
        for batch in contents.chunks(BATCH) {
            let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
            memories.vectors.extend(embedder.embed(&batch).await?);
        }
        Ok(memories)
    }

    fn add(&mut self, turn: Turn, session: &str, position: u32, start: SystemTime) {
        #[expect(clippy::cast_possible_truncation, reason = "a file holds no 2^32 turns")]
        let row = self.turns.len() as u32;
        self.rows.insert(row);
        self.threads.insert(session, position.into(), row);
        self.entities.insert(&turn.speaker);
        self.times.push(start + Duration::from_secs(position.into()));
        self.turns.push(turn);
    }

    /// Returns the rows of a question's evidence. Some entries of the file name several turns, a few name none.
    fn evidence(&self, question: &Question) -> BTreeSet<usize> {
        let names = question.evidence.iter().flat_map(|entry| entry.split([';', ',', ' ']));
        names.filter_map(|name| self.turns.iter().position(|turn| turn.dia_id == name)).collect()
    }

    /// Returns the score of each row in each of [`WAYS`].
    fn scores(&self, question: &str, vector: &[f32]) -> [Vec<f64>; WAYS.len()] {
        let likeness: Vec<f32> = self.vectors.iter().map(|other| dot(vector, other)).collect();
        let search = self.text.search(question);
        let bm25 = |lending| {
            let mut scores = vec![0.0; likeness.len()];
            for (row, score) in search.scores(&self.rows, self.threads.links(), lending) {
                scores[row as usize] = score;
            }
            scores
        };
        let words = bm25(Lending::NOTHING);
        let alone: Vec<Parts> = likeness
            .iter()
            .zip(&words)
            .map(|(vector, text)| Parts { vector: *vector, text: *text, ..Parts::default() })
            .collect();
        let named = self.entities.named(question);
        let periods = Periods::of(question);
        let lent = bm25(Lending::default());
        let most = search.most().max(f32::MIN_POSITIVE);
        let ours = (0..likeness.len()).zip(0..).map(|(at, row)| {
            let is_about = named.contains(self.turns[at].speaker.as_str());
            let likeness = |row: u32| likeness[row as usize];
            let parts = Parts {
                vector: fusion::lent(row, self.threads.links(), Lending::default(), likeness),
                text: lent[at] / most,
                entity: if is_about { 1.0 / named.len() as f32 } else { 0.0 },
                period: periods.fit(self.times[at]),
                ..Parts::default()
            };
            Weights::default().score(&parts)
        });
        let exact = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect();
        let weighted = |parts: &Parts| f64::from(parts.vector) + 0.03 * f64::from(parts.text);
        [
            exact(&likeness),
            exact(&words),
            fusion::reciprocal(&alone),
            alone.iter().map(weighted).collect(),
            ours.collect(),
        ]
    }
}

/// Adds the share of `evidence` that is found at each depth; equal scores newest first.
fn add(memories: &Memories, scores: &[f64], evidence: &BTreeSet<usize>, found: &mut [f64; DEPTHS.len()]) {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let newest = |one: &usize, other: &usize| memories.times[*other].cmp(&memories.times[*one]);
    order.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]).then_with(|| newest(one, other)));
    for (depth, found) in DEPTHS.iter().zip(found) {
        let hits = order.iter().take(*depth).filter(|row| evidence.contains(row)).count();
        *found += hits as f64 / evidence.len() as f64;
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn time(text: &str) -> Option<SystemTime> {
    let time = DateTime::strptime(TIMES, text).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(time.timestamp().into())
}

#[cfg(test)]
mod tests {
    use embedding::Hashing;
    use serde_json::json;

    use super::{Error, measure};

    #[tokio::test]
    async fn what_answers_a_question_is_found_by_its_words_and_its_neighbours() {
        let turn =
            |id: &str, speaker: &str, text: &str| json!({ "dia_id": id, "speaker": speaker, "text": text });
        let data = json!([{
            "conversation": {
                "speaker_a": "Ann",
                "session_1_date_time": "1:56 pm on 8 May, 2023",
                "session_1": [
                    turn("D1:1", "Ann", "Which instrument did you pick up?"),
                    turn("D1:2", "Bob", "The cello."),
                    turn("D1:3", "Ann", "Nice."),
                ],
                "session_2_date_time": "9:00 am on 1 June, 2023",
                "session_2": [turn("D2:1", "Ann", "We painted the barn red.")],
            },
            "qa": [
                { "question": "What colour did Ann paint the barn?", "evidence": ["D2:1"], "category": 4 },
                { "question": "Which instrument did Bob pick up?", "evidence": ["D1:1; D1:2", "D"], "category": 1 },
                { "question": "Who?", "evidence": [], "category": 1 },
                { "question": "Whose horse?", "evidence": ["D1:1"], "category": 5 },
            ],
        }]);
        let (value, details) = measure(data.to_string().as_bytes(), &Hashing::new(64)).await.unwrap();
        assert_eq!((value, &details["ours"]["5"]), (100.0, &json!(100.0)));
        assert_eq!((&details["questions"], &details["turns"]), (&json!(2), &json!(4)));
        assert_eq!(details["embedder"], "hashing-64");
    }

    #[tokio::test]
    async fn a_file_without_questions_is_refused() {
        assert!(matches!(measure(b"[]", &Hashing::new(16)).await, Err(Error::Empty)));
        assert!(matches!(measure(b"{}", &Hashing::new(16)).await, Err(Error::Shape(_))));
    }
}
