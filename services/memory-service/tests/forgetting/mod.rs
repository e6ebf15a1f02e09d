//! What goes, what comes back, and what is gone for good, over the wire.

use std::time::Duration;

use contracts::memory::{memory_admin_service_client::MemoryAdminServiceClient, *};
use rpc::{Channel, Client as _, Code, Fault};
use tonic::Status;

use crate::harness::{Service, at, fault, memory, recalled};

const DAY: Duration = Duration::from_hours(24);

fn admin(service: &Service) -> MemoryAdminServiceClient<Channel> {
    MemoryAdminServiceClient::over(service.channel(None))
}

async fn remember(service: &Service, memories: Vec<Memory>) {
    let batch = RememberBatchRequest { memories, ..RememberBatchRequest::default() };
    service.client().remember_batch(batch).await.unwrap();
}

async fn forget(service: &Service, ids: &[&str]) -> ForgetResponse {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    service.client().forget(ForgetRequest { ids, ..ForgetRequest::default() }).await.unwrap().into_inner()
}

async fn undo(service: &Service, forgetting: u64) -> Result<(u64, u64), Status> {
    let undone =
        admin(service).undo(UndoRequest { forgetting, ..UndoRequest::default() }).await?.into_inner();
    Ok((undone.restored, undone.stayed))
}

async fn purge(service: &Service, forgetting: u64) -> Result<u64, Status> {
    let request = PurgeRequest { forgetting, ..PurgeRequest::default() };
    Ok(admin(service).purge(request).await?.into_inner().purged)
}

async fn list(service: &Service) -> Vec<Forgetting> {
    let listed = admin(service).list_forgettings(ListForgettingsRequest::default()).await.unwrap();
    listed.into_inner().forgettings
}

/// The ids of all memories, by name.
async fn found(service: &Service) -> Vec<String> {
    let answer = service.client().recall(RecallRequest::default()).await.unwrap().into_inner();
    let mut ids: Vec<String> = recalled(&answer).into_iter().map(str::to_owned).collect();
    ids.sort();
    ids
}

fn why(status: &Status) -> (Code, Option<String>) {
    let fault = Fault::from(status);
    (fault.code(), fault.reason_word().map(str::to_owned))
}

/// Moves the clock on until upkeep has done what `is_done` looks for.
async fn upkeep(service: &Service, is_done: impl AsyncFn(&Service) -> bool) {
    while !is_done(service).await {
        service.hand.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn what_is_forgotten_can_be_undone_until_its_window_ends() {
    let service = Service::start().await;
    remember(&service, vec![memory("a", "gas is low"), memory("b", "fees are high")]).await;
    assert_eq!(found(&service).await, ["a", "b"], "and the query cache knows it");
    let done = forget(&service, &["a", "unknown"]).await;
    assert_eq!((done.forgotten, done.unknown, done.forgetting), (1, 1, 1));
    assert_eq!(forget(&service, &["unknown"]).await.forgetting, 0, "nothing went");
    assert_eq!(found(&service).await, ["b"]);
    let expected = Forgetting {
        number: 1,
        time: Some(at(0)),
        cause: Cause::Named.into(),
        memories: 1,
        undo_deadline: Some(at(86_400)),
        state: ForgettingState::Undoable.into(),
    };
    assert_eq!(list(&service).await, [expected]);
    let service = service.restart().await;
    assert_eq!(undo(&service, 1).await.unwrap(), (1, 0));
    assert_eq!(found(&service).await, ["a", "b"]);
    let again = undo(&service, 1).await.unwrap_err();
    assert_eq!(why(&again), (Code::FailedPrecondition, Some("UNDONE".to_owned())));
    let number = forget(&service, &["a"]).await.forgetting;
    service.hand.advance(DAY);
    let late = undo(&service, number).await.unwrap_err();
    assert_eq!(why(&late), (Code::FailedPrecondition, Some("UNDO_WINDOW".to_owned())));
    let states: Vec<_> = list(&service).await.iter().map(Forgetting::state).collect();
    assert_eq!(states, [ForgettingState::Purged, ForgettingState::Undone]);
    assert_eq!(fault(&undo(&service, 9).await.unwrap_err()).0, Code::NotFound);
    let nothing = undo(&service, 0).await.unwrap_err();
    assert_eq!(fault(&nothing), (Code::InvalidArgument, vec!["forgetting".to_owned()]));
}

#[tokio::test]
async fn without_a_window_nothing_can_be_undone() {
    let service = Service::with(|config| config.memory_undo_window = Duration::ZERO).await;
    remember(&service, vec![memory("a", "a")]).await;
    let number = forget(&service, &["a"]).await.forgetting;
    assert_eq!(fault(&undo(&service, number).await.unwrap_err()).0, Code::FailedPrecondition);
    assert_eq!(list(&service).await[0].state(), ForgettingState::Purged);
    assert_eq!(purge(&service, 0).await.unwrap(), 0, "nothing was kept");
}

#[tokio::test]
async fn a_purge_ends_it_before_its_time() {
    let service = Service::start().await;
    remember(&service, vec![memory("a", "a"), memory("b", "b"), memory("c", "c")]).await;
    let first = forget(&service, &["a", "b"]).await.forgetting;
    let second = forget(&service, &["c"]).await.forgetting;
    assert_eq!((purge(&service, first).await.unwrap(), purge(&service, first).await.unwrap()), (2, 0));
    assert_eq!(fault(&undo(&service, first).await.unwrap_err()).0, Code::FailedPrecondition);
    assert_eq!(fault(&purge(&service, 9).await.unwrap_err()).0, Code::NotFound);
    assert_eq!(purge(&service, 0).await.unwrap(), 1);
    assert_eq!(fault(&undo(&service, second).await.unwrap_err()).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn only_an_administrator_purges() {
    let tokens = "a=one:agent,b=one:admin";
    let service = Service::with(|config| config.host.auth_tokens = config::Secret::new(tokens)).await;
    let purge = async |token| {
        let mut admin = MemoryAdminServiceClient::over(service.channel(Some(token)));
        admin.purge(PurgeRequest::default()).await.map(|purged| purged.into_inner().purged)
    };
    assert_eq!(fault(&purge("a").await.unwrap_err()).0, Code::PermissionDenied);
    assert_eq!(purge("b").await.unwrap(), 0);
}

#[tokio::test]
async fn a_prune_does_what_its_dry_run_showed_and_can_be_undone() {
    let service = Service::with(|config| {
        config.memory_quotas = Some("test=3".to_owned());
        config.memory_max = 4;
        config.memory_upkeep_batch = 2;
    })
    .await;
    let worth = |id: &str, importance: f64| Memory { importance, ..memory(id, id) };
    let other = |id: &str, pinned| Memory { category: "other".into(), pinned, ..worth(id, 0.01) };
    let mut memories: Vec<Memory> =
        (1..=6).map(|number| worth(&number.to_string(), f64::from(number) / 10.0)).collect();
    memories.extend([other("pinned", true), other("loose", false)]);
    remember(&service, memories).await;
    let prune = async |dry_run, expected_generation| {
        let request = PruneRequest { dry_run, expected_generation, examples: 2, ..PruneRequest::default() };
        admin(&service).prune(request).await.map(tonic::Response::into_inner)
    };
    let shown = prune(true, None).await.unwrap();
    let going = |cause: Cause, memories, ids: &[&str]| Going {
        cause: cause.into(),
        memories,
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    assert_eq!(shown.going, [going(Cause::Quota, 3, &["1", "2"]), going(Cause::Prune, 1, &["loose"])]);
    assert_eq!((shown.generation, shown.memories, shown.over, shown.forgotten), (1, 8, 0, 0));
    assert_eq!(found(&service).await.len(), 8, "nothing went");
    let moved = prune(false, Some(7)).await.unwrap_err();
    assert_eq!(why(&moved), (Code::Aborted, Some("GENERATION".to_owned())));
    let done = prune(false, Some(shown.generation)).await.unwrap();
    assert_eq!((&done.going, done.forgotten, &*done.forgettings), (&shown.going, 4, &[1, 2, 3][..]));
    assert_eq!(found(&service).await, ["4", "5", "6", "pinned"]);
    assert_eq!(prune(false, None).await.unwrap().forgotten, 0);
    for number in done.forgettings {
        undo(&service, number).await.unwrap();
    }
    assert_eq!(found(&service).await.len(), 8);
}

#[tokio::test]
async fn upkeep_forgets_what_has_expired_and_what_is_too_much_and_removes_what_is_due() {
    let service = Service::with(|config| {
        config.memory_max = 3;
        config.memory_undo_window = DAY * 30;
    })
    .await;
    let lives = |id: &str, seconds| Memory {
        expiration: Some(memory::Expiration::ExpireTime(at(seconds))),
        pinned: true,
        ..memory(id, id)
    };
    remember(&service, vec![lives("soon", 10), lives("later", 100_000)]).await;
    let aged = |id: &str, days: i64| Memory { time: Some(at(days * -86_400)), ..memory(id, id) };
    remember(&service, vec![aged("old", 30), aged("older", 60), aged("new", 0)]).await;
    upkeep(&service, async |service| list(service).await.len() == 2).await;
    let listed = list(&service).await;
    let causes: Vec<_> = listed.iter().map(|one| (one.cause(), one.memories)).collect();
    assert_eq!(causes, [(Cause::Prune, 1), (Cause::Expired, 1)]);
    assert_eq!(found(&service).await, ["later", "new", "old"], "the least worth went");
    let metrics = service.telemetry.prometheus_text();
    for cause in ["expired", "prune"] {
        let line = format!("athena_memory_forgotten_total{{cause=\"{cause}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    let service = service.restart().await;
    assert_eq!(undo(&service, listed[1].number).await.unwrap(), (1, 0));
    assert_eq!(found(&service).await, ["later", "new", "old", "soon"], "it comes back to stay");
    service.hand.advance(DAY * 31);
    remember(&service, vec![lives("mark", 31 * 86_400)]).await;
    let expired = async |service: &Service| list(service).await[0].cause() == Cause::Expired;
    upkeep(&service, expired).await;
    assert_eq!(purge(&service, listed[0].number).await.unwrap(), 0, "that round removed what was due");
}

#[tokio::test]
async fn an_audit_tells_what_is_odd_about_a_namespace() {
    let service = Service::start().await;
    let empty = admin(&service).audit(AuditRequest::default()).await.unwrap().into_inner();
    assert_eq!(empty, AuditResponse::default());
    let claim = |id: &str, value: &str| {
        let claim = Some(Claim { subject: "pool".into(), field: "fee".into(), value: value.into() });
        Memory { claim, thread: "log".into(), ..memory(id, &format!("the fee of the pool is {value} now")) }
    };
    let memories = vec![
        memory("a", "gas is low on sunday nights"),
        memory("b", "Gas is  low on sunday nights"),
        memory("c", "the gas is low on sunday nights."),
        claim("d", "1%"),
        claim("e", "2%"),
    ];
    remember(&service, memories).await;
    let before = service.client().get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    let audited = admin(&service).audit(AuditRequest::default()).await.unwrap().into_inner();
    let of = |kind: FindingKind| {
        let finding = audited.findings.iter().find(|finding| finding.kind() == kind);
        finding.map(|finding| (finding.count, finding.examples[0].ids.join(" ")))
    };
    assert_eq!((audited.memories, audited.cut), (5, false));
    assert_eq!(of(FindingKind::Duplicate), Some((1, "a b".to_owned())));
    assert_eq!(of(FindingKind::NearDuplicate), Some((1, "a c".to_owned())));
    assert_eq!(of(FindingKind::Contradiction), Some((1, "d e".to_owned())));
    assert_eq!(of(FindingKind::MissingSource), None);
    assert!(audited.compared > 0);
    let after = service.client().get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!(after.generation, before.generation);
}
