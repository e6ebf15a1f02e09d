//! kill -9 while vectors are made anew: the job goes on where it was, and every answer is exact and of one maker, before, meanwhile and after.

use contracts::memory::{
    GetReembeddingRequest, Memory, Query, Ranking, RecallRequest, ReembedRequest, Reembedding,
    ReembeddingState, RememberBatchRequest, memory_admin_service_client::MemoryAdminServiceClient,
    memory_service_client::MemoryServiceClient,
};
use embedding::Hashing;
use rpc::Channel;
use testkit::Instance as _;

use crate::running::Running;

/// Memories in all, how many are embedded between two kills, and how many kills there are at most.
const MEMORIES: usize = 600;
const BETWEEN: u64 = 100;
const KILLS: u32 = 4;
/// Values of the vectors of before and of after.
const OLD: usize = 256;
const NEW: usize = 64;

fn text(number: usize) -> String {
    format!("fees of pool {number} rose {} times in week {}", number % 7, number % 53)
}

/// Returns the best scores that memories can have for `asked`, by looking at every one.
fn best(asked: &str, values: usize, limit: usize) -> Vec<f64> {
    let (maker, cosine) = (Hashing::new(values), |one: &[f32], other: &[f32]| {
        let product = |one: &[f32], other: &[f32]| -> f64 {
            one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
        };
        product(one, other) / (product(one, one) * product(other, other)).sqrt()
    });
    let asked = maker.vector(asked);
    let mut scores: Vec<f64> =
        (0..MEMORIES).map(|number| cosine(&asked, &maker.vector(&text(number)))).collect();
    scores.sort_by(|one, other| other.total_cmp(one));
    scores.truncate(limit);
    scores
}

/// Asks some questions, checks that no memory would be a better answer to any, and returns how many values the vectors have.
async fn values(channel: &Channel) -> usize {
    let mut client = MemoryServiceClient::new(channel.clone());
    let mut values = 0;
    for number in [0, 17, 299, 300, 599] {
        let asked = format!("did the fees of pool {number} rise?");
        let (ranking, limit) = (Ranking::Vector.into(), 20);
        let query =
            Query { text: asked.clone(), limit, ranking, include_embedding: true, ..Query::default() };
        let request = RecallRequest { query: Some(query), namespace: String::new() };
        let answer = client.recall(request).await.unwrap().into_inner();
        assert!(answer.exact && answer.candidates == MEMORIES as u64, "{answer:?}");
        let length = |memory: &Option<Memory>| memory.as_ref().map_or(0, |memory| memory.embedding.len());
        let lengths: Vec<usize> = answer.memories.iter().map(|found| length(&found.memory)).collect();
        values = lengths[0];
        assert!(lengths.iter().all(|length| *length == values), "an answer is of one maker: {lengths:?}");
        let expected = best(&asked, values, lengths.len());
        let scores = answer.memories.iter().map(|found| found.score).zip(&expected);
        assert_eq!(lengths.len(), 20);
        scores.for_each(|(score, best)| assert!((score - best).abs() < 1e-6, "{score} and not {best}"));
    }
    values
}

async fn stands(channel: &Channel) -> Reembedding {
    let mut admin = MemoryAdminServiceClient::new(channel.clone());
    let request = GetReembeddingRequest { namespace: String::new() };
    admin.get_reembedding(request).await.unwrap().into_inner().reembedding.unwrap()
}

/// Waits until so many memories are embedded, or all.
async fn embedded(channel: &Channel, wanted: u64) -> Reembedding {
    loop {
        let now = stands(channel).await;
        assert!(now.failures == 0, "{now:?}");
        if now.done >= wanted || now.state() == ReembeddingState::Changed {
            return now;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_killed_goes_on_where_it_was_and_no_answer_is_worse_for_it() {
    let settings = ["memory_upkeep_batch=1", "memory_checkpoint_interval=1s", "memory_checkpoint_min=1"];
    let mut running = Running::memories(&settings);
    running.start().await.unwrap();
    let channel = running.channel();
    let memory = |number: usize| Memory {
        id: number.to_string(),
        category: "fees".into(),
        content: text(number),
        ..Memory::default()
    };
    let memories = (0..MEMORIES).map(memory).collect();
    let request = RememberBatchRequest { memories, ..RememberBatchRequest::default() };
    MemoryServiceClient::new(channel.clone()).remember_batch(request).await.unwrap();
    assert_eq!(values(&channel).await, OLD);
    let request = ReembedRequest { embedder: format!("hashing-{NEW}"), ..ReembedRequest::default() };
    let began = MemoryAdminServiceClient::new(channel).reembed(request).await.unwrap().into_inner();
    let began = began.reembedding.unwrap().start_time;
    let (mut done, mut kills) = (0, 0);
    while kills < KILLS {
        let now = embedded(&running.channel(), done + BETWEEN).await;
        if now.state() == ReembeddingState::Changed {
            break;
        }
        kills += 1;
        running.kill().await.unwrap();
        running.start().await.unwrap();
        let then = stands(&running.channel()).await;
        assert!(then.done >= now.done && then.start_time == began, "it begins nothing again: {then:?}");
        done = now.done;
        values(&running.channel()).await;
    }
    assert!(kills > 1, "it was faster than anybody can kill it");
    let now = embedded(&running.channel(), u64::MAX).await;
    assert_eq!((now.state(), now.done, now.left), (ReembeddingState::Changed, MEMORIES as u64, 0));
    assert_eq!(values(&running.channel()).await, NEW);
    running.kill().await.unwrap();
    running.start().await.unwrap();
    assert_eq!(values(&running.channel()).await, NEW);
    running.stop().await.unwrap();
}
