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

use super::asking::Asking;
use crate::{
    index::{
        text::Text,
        threads::{Lending, Threads},
    },
    memory::{Memory, Place, Record},
    query::{Likeness, Query, Ranking},
    recall::fusion,
    vector::metric::Metric,
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
    /// A recall failed.
    #[error(transparent)]
    Recall(#[from] super::Error),
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
    /// By row.
    turns: Vec<Turn>,
    times: Vec<SystemTime>,
    vectors: Vec<Vec<f32>>,
    rows: RoaringBitmap,
    /// The service's own recall of them.
    asking: Asking,
}

/// The ways of ranking that are compared, by their keys.
const WAYS: [&str; 5] = ["dense", "bm25", "rrf", "weighted", "ours"];

/// Asks every question of every conversation in `data` that has evidence in it; returns the evidence that the default ranking finds among the
/// first ten, in percent, mean over the questions, and the details.
///
/// A turn is a memory: its speaker is the entity it is about and stands before the words, its session is the thread, and the session's time is its
/// own. `bm25` and `dense` look at the memory alone, `rrf` fuses their ranks, `weighted` is cosine + 0.03 × BM25, `ours` is a recall by its
/// default ranking.
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
            let baselines = memories.scores(&question.question, &vector);
            let orders = baselines.iter().map(|scores| memories.order(scores));
            let ours = memories.recall(&question.question, vector)?;
            for (order, found) in orders.chain([ours]).zip(&mut found) {
                add(&order, &evidence, found);
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
        let (mut turns, mut memories) = (Vec::new(), Vec::new());
        for number in 1_usize.. {
            let session = format!("session_{number}");
            let time =
                conversation.get(&format!("{session}_date_time")).and_then(Value::as_str).and_then(time);
            let in_session = conversation.get(&session).map(Vec::<Turn>::deserialize).transpose()?;
            if in_session.is_none() && time.is_none() {
                break;
            }
            for (turn, position) in in_session.unwrap_or_default().into_iter().zip(0_u32..) {
                let start = time.unwrap_or(SystemTime::UNIX_EPOCH);
                memories.push(memory(&turn, &session, position, start));
                turns.push(turn);
            }
        }
        let contents: Vec<&str> = memories.iter().map(|memory| memory.content.as_str()).collect();
        let mut vectors = Vec::new();
        for batch in contents.chunks(BATCH) {
            vectors.extend(embedder.embed(batch).await?);
        }
        let mut text = Text::new();
        contents.iter().zip(0..).for_each(|(content, row)| text.insert(row, content));
        let times = memories.iter().map(|memory| memory.time).collect();
        let records = memories.into_iter().zip(&vectors);
        let records = records.map(|(memory, vector)| Record::new(memory, vector.clone())).collect();
        let asking = Asking::new(Metric::Cosine, embedder.dimensions(), records)?;
        let rows = (0..).take(turns.len()).collect();
        Ok(Self { text, turns, times, vectors, rows, asking })
    }

    /// Returns the rows of a question's evidence. Some entries of the file name several turns, a few name none.
    fn evidence(&self, question: &Question) -> BTreeSet<usize> {
        let names = question.evidence.iter().flat_map(|entry| entry.split([';', ',', ' ']));
        names.filter_map(|name| self.turns.iter().position(|turn| turn.dia_id == name)).collect()
    }

    /// Returns the score of each row in each of [`WAYS`] but the last.
    fn scores(&self, question: &str, vector: &[f32]) -> [Vec<f64>; WAYS.len() - 1] {
        let likeness: Vec<f32> = self.vectors.iter().map(|other| dot(vector, other)).collect();
        let mut words = vec![0.0; likeness.len()];
        let (alone, search) = (Threads::new(), self.text.search(question));
        for (row, score) in search.scores(&self.rows, alone.links(), Lending::NOTHING) {
            words[row as usize] = score;
        }
        let exact = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect();
        let weighted = |(vector, text): (&f32, &f32)| f64::from(*vector) + 0.03 * f64::from(*text);
        let by_vector: Vec<_> = likeness.iter().map(|vector| Some(*vector)).collect();
        let by_words: Vec<_> = words.iter().map(|text| Some(*text).filter(|text| *text > 0.0)).collect();
        [
            exact(&likeness),
            exact(&words),
            fusion::reciprocal(&by_vector, &by_words),
            likeness.iter().zip(&words).map(weighted).collect(),
        ]
    }

    /// Returns the rows in the order of their scores; equal ones newest first.
    fn order(&self, scores: &[f64]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let newest = |one: &usize, other: &usize| self.times[*other].cmp(&self.times[*one]);
        order.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]).then_with(|| newest(one, other)));
        order
    }

    /// Returns the rows that a recall finds, the best first.
    fn recall(&self, question: &str, vector: Vec<f32>) -> Result<Vec<usize>, Error> {
        let likeness = Likeness::Both(question.to_owned(), vector);
        let query = Query { likeness, ranking: Ranking::Usual, ..Query::newest(DEPTHS[DEPTHS.len() - 1]) };
        let ran = self.asking.run(&query.canonical(Metric::Cosine), None)?;
        let row =
            |found: &crate::recall::Found| self.turns.iter().position(|turn| turn.dia_id == *found.memory.id);
        Ok(ran.answer.found.iter().filter_map(row).collect())
    }
}

/// Returns a turn as a memory.
fn memory(turn: &Turn, session: &str, position: u32, start: SystemTime) -> Memory {
    Memory {
        id: turn.dia_id.as_str().into(),
        content: format!("{}: {}", turn.speaker, turn.text),
        pools: vec![turn.speaker.clone()],
        time: start + Duration::from_secs(position.into()),
        place: Some(Place { thread: session.to_owned(), position: position.into() }),
        ..Memory::bare()
    }
}

/// Adds the share of `evidence` that is found at each depth of `order`.
fn add(order: &[usize], evidence: &BTreeSet<usize>, found: &mut [f64; DEPTHS.len()]) {
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
