//! What says the same becomes one, what was recalled is not stored back, and what contradicts each other says so, over the wire.

use std::{collections::BTreeSet, time::Duration};

use contracts::memory::{memory_admin_service_client::MemoryAdminServiceClient, *};
use futures::future::join_all;
use memory_service::DuplicateHandling;
use rpc::{Client as _, Code};

use crate::harness::{Service, at, fault, memory, recalled};

const LOW: &str = "gas is low on sunday nights";
/// The same in other words that say no more.
const ALSO_LOW: &str = "On sunday nights the gas is low.";

/// A memory whose id the service makes, from `source`.
fn said(content: &str, source: &str) -> Memory {
    Memory { sources: vec![source.into()], ..memory("", content) }
}

fn of(memory: Memory) -> RememberRequest {
    RememberRequest { memory: Some(memory), ..RememberRequest::default() }
}

async fn remember(service: &Service, request: RememberRequest) -> RememberResponse {
    service.client().remember(request).await.unwrap().into_inner()
}

async fn get(service: &Service, id: &str) -> GetResponse {
    let request = GetRequest { id: id.into(), ..GetRequest::default() };
    service.client().get(request).await.unwrap().into_inner()
}

async fn recall(service: &Service, query: Query) -> RecallResponse {
    let request = RecallRequest { query: Some(query), ..RecallRequest::default() };
    service.client().recall(request).await.unwrap().into_inner()
}

/// The contents of all memories, by name. Nobody hears it.
async fn contents(service: &Service) -> Vec<String> {
    let explained = service.client().explain(ExplainRequest::default()).await.unwrap().into_inner();
    let memories = explained.memories.into_iter().filter_map(|scored| scored.memory);
    let mut contents: Vec<String> = memories.map(|memory| memory.content).collect();
    contents.sort();
    contents
}

async fn generation(service: &Service) -> u64 {
    service.client().get_stats(GetStatsRequest::default()).await.unwrap().into_inner().generation
}

async fn undo(service: &Service, forgetting: u64) -> (u64, u64) {
    let mut admin = MemoryAdminServiceClient::over(service.channel(None));
    let undone = admin.undo(UndoRequest { forgetting, ..UndoRequest::default() }).await.unwrap().into_inner();
    (undone.restored, undone.stayed)
}

async fn forget(service: &Service, id: &str) -> u64 {
    let request = ForgetRequest { ids: vec![id.into()], ..ForgetRequest::default() };
    service.client().forget(request).await.unwrap().into_inner().forgetting
}

async fn audit(service: &Service) -> Vec<(FindingKind, u64, Vec<String>)> {
    let mut admin = MemoryAdminServiceClient::over(service.channel(None));
    let audited = admin.audit(AuditRequest::default()).await.unwrap().into_inner();
    let found = audited.findings.into_iter();
    found
        .map(|found| {
            (found.kind(), found.count, found.examples.into_iter().flat_map(|one| one.ids).collect())
        })
        .collect()
}

#[tokio::test]
async fn a_memory_that_says_what_another_one_says_becomes_one_with_it() {
    let service = Service::start().await;
    let first = remember(&service, of(said(LOW, "a"))).await;
    assert_eq!((first.outcome(), first.replaced, first.forgetting), (Outcome::Stored, false, 0));
    service.hand.advance(Duration::from_secs(60));
    let again = remember(&service, of(said(ALSO_LOW, "b"))).await;
    let expected = RememberResponse {
        id: first.id.clone(),
        replaced: false,
        outcome: Outcome::Merged.into(),
        forgetting: 1,
    };
    assert_eq!(again, expected);
    assert_eq!(contents(&service).await, [ALSO_LOW]);
    let merged = get(&service, &first.id).await;
    assert_eq!((merged.said, merged.recalls, merged.last_recall_time), (2, 0, None));
    let merged = merged.memory.unwrap();
    assert_eq!((merged.sources, merged.time), (vec!["a".to_owned(), "b".to_owned()], Some(at(60))));
    for other in [
        said("gas is low on monday nights", "c"),
        Memory { pools: vec!["weth/usdc".into()], ..said(LOW, "c") },
        Memory { category: "other".into(), ..said(LOW, "c") },
        Memory { agent: "scout".into(), ..said(LOW, "c") },
    ] {
        assert_eq!(remember(&service, of(other)).await.outcome(), Outcome::Stored);
    }
    let metrics = service.telemetry.prometheus_text();
    assert!(metrics.contains("athena_memory_forgotten_total{cause=\"merged\"} 1"), "{metrics}");
}

#[tokio::test]
async fn an_undone_merge_leaves_both_memories_as_they_were() {
    let service = Service::start().await;
    let first = remember(&service, of(said(LOW, "a"))).await;
    let merged = remember(&service, of(said(ALSO_LOW, "b"))).await;
    let mut admin = MemoryAdminServiceClient::over(service.channel(None));
    let listed = admin.list_forgettings(ListForgettingsRequest::default()).await.unwrap().into_inner();
    let listed: Vec<_> = listed.forgettings.iter().map(|one| (one.cause(), one.memories)).collect();
    assert_eq!(listed, [(Cause::Merged, 2)]);
    let service = service.restart().await;
    assert_eq!(undo(&service, merged.forgetting).await, (2, 0));
    assert_eq!(contents(&service).await, [ALSO_LOW, LOW]);
    let older = get(&service, &first.id).await.memory.unwrap();
    assert_eq!((older.content.as_str(), older.sources), (LOW, vec!["a".to_owned()]));
    // What was written again since stays as it is, and nothing comes back beside it: its words are there.
    let third = remember(&service, of(said(LOW, "c"))).await;
    let fourth = remember(&service, of(said(LOW, "d"))).await;
    assert_eq!((third.outcome(), fourth.outcome()), (Outcome::Merged, Outcome::Merged));
    assert_eq!(undo(&service, third.forgetting).await, (0, 2));
    assert_eq!(contents(&service).await.len(), 2);
}

#[tokio::test]
async fn who_names_a_memory_gets_it_unless_merging_is_asked_for() {
    let service = Service::start().await;
    let first = remember(&service, of(said(LOW, "a"))).await.id;
    let named = remember(&service, of(memory("mine", LOW))).await;
    assert_eq!((named.id.as_str(), named.outcome()), ("mine", Outcome::Stored));
    forget(&service, "mine").await;
    let asked =
        |memory, duplicates: Duplicates| RememberRequest { duplicates: duplicates.into(), ..of(memory) };
    let merged = remember(&service, asked(memory("yours", ALSO_LOW), Duplicates::Merge)).await;
    assert_eq!((&merged.id, merged.outcome()), (&first, Outcome::Merged));
    let again = remember(&service, asked(memory("yours", ALSO_LOW), Duplicates::Merge)).await;
    assert_eq!((&again.id, again.outcome()), (&first, Outcome::Merged), "it is safe to ask again");
    let kept = remember(&service, asked(said(LOW, "b"), Duplicates::Keep)).await;
    assert_eq!(kept.outcome(), Outcome::Stored);
    // The id of a memory that is there means that one, whatever else says the same.
    remember(&service, of(memory("fees", "fees are high"))).await;
    let changed = remember(&service, asked(memory("fees", LOW), Duplicates::Merge)).await;
    assert_eq!((changed.id.as_str(), changed.outcome(), changed.replaced), ("fees", Outcome::Stored, true));
    assert_eq!(contents(&service).await, [ALSO_LOW, LOW, LOW]);
    let unknown = RememberRequest { duplicates: 9, ..of(said(LOW, "c")) };
    let refused = service.client().remember(unknown).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["duplicates".to_owned()]));
}

#[tokio::test]
async fn where_the_settings_say_so_everything_is_stored_unless_a_request_says_otherwise() {
    let service = Service::with(|config| config.memory_duplicates = DuplicateHandling::Keep).await;
    for _ in 0..2 {
        assert_eq!(remember(&service, of(said(LOW, "a"))).await.outcome(), Outcome::Stored);
    }
    recall(&service, Query::default()).await;
    let merge = RememberRequest { duplicates: Duplicates::Merge.into(), ..of(said(ALSO_LOW, "b")) };
    assert_eq!(remember(&service, merge).await.outcome(), Outcome::Echo);
    assert_eq!(contents(&service).await.len(), 2);
}

#[tokio::test]
async fn the_memories_of_a_batch_are_settled_in_their_order() {
    let service = Service::start().await;
    remember(&service, of(memory("old", "fees of the weth pool are high"))).await;
    let memories = vec![
        said(LOW, "a"),
        said("the fees of the weth pool are high.", "b"),
        memory("mine", LOW),
        said(ALSO_LOW, "c"),
        said("nothing else says this", "d"),
    ];
    let batch = RememberBatchRequest { memories, ..RememberBatchRequest::default() };
    let done = service.client().remember_batch(batch).await.unwrap().into_inner();
    let outcomes: Vec<_> = done.outcomes().collect();
    let (stored, merged) = (Outcome::Stored, Outcome::Merged);
    assert_eq!(outcomes, [stored, merged, stored, merged, stored]);
    assert_eq!((done.ids[1].as_str(), &done.ids[3], done.replaced), ("old", &done.ids[2], 0));
    assert_eq!(contents(&service).await.len(), 4);
    assert_eq!(undo(&service, done.forgetting).await, (4, 0), "two and two");
    assert_eq!(contents(&service).await.len(), 6);
}

#[tokio::test]
async fn a_request_that_is_made_again_changes_nothing() {
    let service = Service::start().await;
    let request = of(Memory { time: Some(at(-5)), ..said(LOW, "a") });
    let first = remember(&service, request.clone()).await;
    let before = generation(&service).await;
    let again = remember(&service, request).await;
    assert_eq!((&again.id, again.outcome(), again.forgetting), (&first.id, Outcome::Merged, 0));
    assert_eq!(generation(&service).await, before, "nothing was written");
    assert_eq!(get(&service, &first.id).await.said, 1);
    let named = of(memory("mine", "fees are high"));
    assert!(!remember(&service, named.clone()).await.replaced);
    let again = remember(&service, named).await;
    assert_eq!((again.id.as_str(), again.outcome(), again.replaced), ("mine", Outcome::Stored, true));
    assert_eq!(contents(&service).await.len(), 2);
}

#[tokio::test]
async fn what_several_say_at_once_becomes_one_memory_and_no_word_is_lost() {
    let service = Service::start().await;
    let sources: Vec<String> = (0..24).map(|number| format!("{number:02}")).collect();
    let calls = sources.iter().map(|source| {
        let content = if source.ends_with('0') { LOW } else { ALSO_LOW };
        remember(&service, of(said(content, source)))
    });
    let done = join_all(calls).await;
    let stored = done.iter().filter(|done| done.outcome() == Outcome::Stored).count();
    let ids: BTreeSet<&str> = done.iter().map(|done| done.id.as_str()).collect();
    assert_eq!((stored, ids.len(), contents(&service).await.len()), (1, 1, 1));
    let merged = get(&service, &done[0].id).await;
    let mut told = merged.memory.unwrap().sources;
    told.sort();
    assert_eq!((merged.said, told), (24, sources));
}

#[tokio::test]
async fn a_merge_beside_a_change_of_the_same_memory_loses_neither() {
    let service = Service::start().await;
    for round in 0..12 {
        let id = format!("mine {round}");
        let content = format!("the fee of pool {round} is 5");
        remember(&service, of(memory(&id, &content))).await;
        let changed = Memory { tags: vec!["changed".into()], ..memory(&id, "something else") };
        let (merged, changed) =
            tokio::join!(remember(&service, of(said(&content, "a"))), remember(&service, of(changed)),);
        assert!(changed.replaced);
        let mine = get(&service, &id).await.memory.unwrap();
        assert_eq!((mine.content.as_str(), mine.sources.len()), ("something else", 0));
        // It was merged before the change, which replaced both, or stored after it.
        if merged.outcome() == Outcome::Stored {
            assert_eq!(get(&service, &merged.id).await.memory.unwrap().content, content);
        } else {
            assert_eq!(merged.id, id);
        }
        forget(&service, &merged.id).await;
    }
}

#[tokio::test]
async fn what_was_recalled_is_not_stored_back() {
    let service = Service::start().await;
    let agents = |agents: &[&str]| Query {
        agents: agents.iter().map(|agent| (*agent).to_owned()).collect(),
        ..Query::default()
    };
    let by = |agent: &str, memory: Memory| of(Memory { agent: agent.into(), ..memory });
    let own = remember(&service, by("scout", said(LOW, "a"))).await.id;
    let pool = |pool: &str| Memory { pools: vec![pool.into()], ..said("fees rise", "a") };
    let first = remember(&service, by("scout", pool("one"))).await.id;
    let before = generation(&service).await;
    recall(&service, agents(&["scout"])).await;
    let echo = |id: &str| RememberResponse {
        id: id.into(),
        outcome: Outcome::Echo.into(),
        ..RememberResponse::default()
    };
    assert_eq!(remember(&service, by("scout", said(LOW, "b"))).await, echo(&own));
    assert_eq!(remember(&service, by("scout", said(ALSO_LOW, "b"))).await, echo(&own));
    let filed = Memory { category: "lesson".into(), ..said(&LOW.to_uppercase(), "b") };
    assert_eq!(remember(&service, by("scout", filed)).await, echo(&own), "wherever it is put");
    assert_eq!(remember(&service, by("scout", pool("one"))).await, echo(&first));
    assert_eq!(generation(&service).await, before);
    assert_eq!(
        remember(&service, by("scout", pool("two"))).await.outcome(),
        Outcome::Stored,
        "of another pool"
    );
    assert_eq!(remember(&service, by("other", said(LOW, "b"))).await.outcome(), Outcome::Stored);
    forget(&service, &first).await;
    let gone = remember(&service, by("scout", pool("one"))).await;
    assert_eq!(gone.outcome(), Outcome::Stored, "nothing says it any more");
    service.hand.advance(Duration::from_secs(600));
    assert_eq!(remember(&service, by("scout", said(LOW, "c"))).await.outcome(), Outcome::Merged);
}

#[tokio::test]
async fn an_explanation_is_heard_by_nobody_and_a_cached_answer_by_who_asked() {
    let service = Service::start().await;
    let id = remember(&service, of(said(LOW, "a"))).await.id;
    let mut client = service.client();
    client.explain(ExplainRequest::default()).await.unwrap();
    client.explain_only(ExplainOnlyRequest::default()).await.unwrap();
    assert_eq!(get(&service, &id).await.recalls, 0);
    assert_eq!(remember(&service, of(said(LOW, "b"))).await.outcome(), Outcome::Merged);
    assert!(!recall(&service, Query::default()).await.cached);
    service.hand.advance(Duration::from_secs(50));
    assert!(recall(&service, Query::default()).await.cached);
    let fared = get(&service, &id).await;
    assert_eq!((fared.recalls, fared.last_recall_time), (2, Some(at(50))));
    service.hand.advance(Duration::from_secs(599));
    assert_eq!(remember(&service, of(said(LOW, "c"))).await.outcome(), Outcome::Echo);
}

#[tokio::test]
async fn what_contradicts_each_other_says_so_until_one_of_them_goes() {
    let service = Service::with(|config| config.memory_checkpoint_min = 1).await;
    let states = |id: &str, value: &str| {
        let claim = Claim { subject: "Pool A".into(), field: "fee".into(), value: value.into() };
        Memory { claim: Some(claim), ..memory(id, &format!("{id} says that the fee is {value}")) }
    };
    for (id, value) in [("one", "0.3%"), ("two", "1 %"), ("same", "0.30 %")] {
        remember(&service, of(states(id, value))).await;
    }
    remember(&service, of(memory("none", "has no claim"))).await;
    let told = async |service: &Service| {
        let mut told: Vec<_> = recall(service, Query::default())
            .await
            .memories
            .into_iter()
            .map(|scored| (scored.memory.unwrap().id, scored.contradicted_by.join(" ")))
            .collect();
        told.sort();
        told
    };
    let expected = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(id, by)| ((*id).to_owned(), (*by).to_owned())).collect()
    };
    let all = expected(&[("none", ""), ("one", "two"), ("same", "two"), ("two", "same one")]);
    assert_eq!(told(&service).await, all);
    assert_eq!(told(&service).await, all, "from the query cache too");
    let named = Query { text: "two".into(), limit: 1, ..Query::default() };
    let only = recall(&service, named).await;
    assert_eq!(recalled(&only), ["two"]);
    assert_eq!(only.memories[0].contradicted_by, ["same", "one"], "also by what was not found");
    let service = service.restart().await;
    assert_eq!(told(&service).await, all);
    let forgetting = forget(&service, "two").await;
    assert_eq!(told(&service).await, expected(&[("none", ""), ("one", ""), ("same", "")]));
    undo(&service, forgetting).await;
    assert_eq!(told(&service).await, all);
    let lives = memory::Expiration::ExpireTime(at(10));
    remember(&service, of(Memory { expiration: Some(lives), ..states("two", "1%") })).await;
    assert_eq!(told(&service).await, all);
    service.hand.advance(Duration::from_secs(10));
    assert_eq!(told(&service).await, expected(&[("none", ""), ("one", ""), ("same", "")]));
}

#[tokio::test]
async fn what_has_expired_is_not_made_alive_by_a_merge() {
    let service = Service::start().await;
    let ends = memory::Expiration::ExpireTime(at(10));
    let first = remember(&service, of(Memory { expiration: Some(ends), ..said(LOW, "a") })).await.id;
    service.hand.advance(Duration::from_secs(10));
    let later = remember(&service, of(said(LOW, "b"))).await;
    assert_eq!((later.outcome(), later.id == first), (Outcome::Stored, false));
}

#[tokio::test]
async fn a_restart_keeps_what_is_said_and_how_often_it_was_recalled() {
    // With a checkpoint, and without.
    for checkpoint_min in [1, 1_000_000] {
        let service = Service::with(|config| config.memory_checkpoint_min = checkpoint_min).await;
        let id = remember(&service, of(said(LOW, "a"))).await.id;
        let gone = remember(&service, of(said("fees are high", "a"))).await.id;
        assert_eq!(remember(&service, of(said(ALSO_LOW, "b"))).await.outcome(), Outcome::Merged);
        recall(&service, Query { text: "gas".into(), limit: 1, ..Query::default() }).await;
        recall(&service, Query { text: "fees".into(), limit: 1, ..Query::default() }).await;
        forget(&service, &gone).await;
        let service = service.restart().await.restart().await;
        let fared = get(&service, &id).await;
        assert_eq!((fared.recalls, fared.last_recall_time, fared.said), (1, Some(at(0)), 2));
        let merged = remember(&service, of(said(LOW, "c"))).await;
        assert_eq!((&merged.id, merged.outcome()), (&id, Outcome::Merged));
        assert_eq!(get(&service, &id).await.said, 3);
        assert_eq!(get(&service, &id).await.recalls, 1, "the count goes with the memory");
        let back = remember(&service, of(said("fees are high", "b"))).await;
        assert_eq!(back.outcome(), Outcome::Stored, "what was forgotten says nothing");
    }
}

#[tokio::test]
async fn an_audit_says_what_nobody_asks_for() {
    let service = Service::with(|config| config.memory_duplicates = DuplicateHandling::Keep).await;
    let aged =
        |id: &str, days: i64, content: &str| Memory { time: Some(at(days * -86_400)), ..memory(id, content) };
    remember(&service, of(aged("asked", 40, "gas is low"))).await;
    remember(&service, of(aged("new", 0, "fees are high"))).await;
    remember(&service, of(aged("old", 40, "pools of weth and usdc have fees"))).await;
    recall(&service, Query { text: "gas".into(), limit: 1, ..Query::default() }).await;
    remember(&service, of(said("pools of weth and usdc have the fees", "a"))).await;
    let found = audit(&service).await;
    let of = |kind: FindingKind| found.iter().find(|(found, ..)| *found == kind);
    let (_, count, examples) = of(FindingKind::NeverRecalled).unwrap();
    assert_eq!((*count, &examples[..2]), (3, &["new".to_owned(), "old".to_owned()][..]));
    let (_, count, examples) = of(FindingKind::Idle).unwrap();
    assert_eq!((*count, &examples[..]), (1, &["old".to_owned()][..]));
    assert_eq!(of(FindingKind::NearDuplicate).map(|(_, count, _)| *count), Some(1));
}

#[tokio::test]
async fn whatever_is_written_without_an_id_an_audit_finds_nothing_twice() {
    let service = Service::start().await;
    let (mut stored, mut merged) = (0, 0);
    // A sequence without a pattern that is always the same (Knuth's MMIX generator).
    let mut state = 7_u64;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    for step in 0..150 {
        let pick = |words: &[&str], number: u64| words[number as usize % words.len()].to_owned();
        let content = format!(
            "{}{} {}{}",
            pick(&["", "the ", "The "], below(3)),
            pick(&["fee", "fees", "apr"], below(3)),
            pick(&["is low", "is 5", "is 5.0", "is five", "is 7", "was low"], below(6)),
            pick(&["", ".", "!"], below(3)),
        );
        let pools = if below(2) == 0 { vec![] } else { vec!["p".to_owned()] };
        let done = remember(&service, of(Memory { pools, ..said(&content, &step.to_string()) })).await;
        match done.outcome() {
            Outcome::Stored => stored += 1,
            _ => merged += 1,
        }
        if below(10) == 0 {
            forget(&service, &done.id).await;
            stored -= 1;
        }
    }
    assert!(merged > 50, "{merged}");
    assert_eq!(contents(&service).await.len(), stored);
    let twice = [FindingKind::Duplicate, FindingKind::NearDuplicate];
    let found: Vec<_> = audit(&service).await.into_iter().filter(|(kind, ..)| twice.contains(kind)).collect();
    assert!(found.is_empty(), "{found:?}");
}
