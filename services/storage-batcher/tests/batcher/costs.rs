//! What documents cost, by who wrote them, and what was saved.

use contracts::storage::*;

use crate::harness::{START, Service, accept, costs, flush, merge, record, sample, urgent};

const USD: f64 = 0.18 / 100_000.0;

/// Writes, documents, documents saved by folding, waiting.
fn of(costs: &GetCostsResponse, caller: &str) -> (u64, u64, f64, u64) {
    let found = costs.callers.iter().find(|costs| costs.caller == caller).unwrap();
    assert!((found.cost_usd - found.written_documents as f64 * USD).abs() < 1e-12);
    let folded = (found.saved.unwrap().folding_usd / USD).round();
    (found.naive_documents, found.written_documents, folded, found.waiting)
}

#[tokio::test]
async fn the_first_caller_of_a_document_pays_and_a_restart_forgets_nobody() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new(
            "one=acme:admin:night,two=acme:admin:day,three=acme:admin,four=umbra:admin:night",
        );
        config.firestore_skip_unchanged = true;
    })
    .await;
    let [mut night, mut day, mut nameless, mut stranger] =
        ["one", "two", "three", "four"].map(|token| service.client_of(token));
    accept(&mut night, vec![merge("a", "n", 1), merge("a", "n", 2), merge("b", "n", 1)]).await;
    accept(&mut day, vec![merge("a", "m", 1), merge("c", "n", 1)]).await;
    record(&mut nameless, vec![sample(0, 1.0)]).await;
    let service = service.after_kill(START + 1, |_| {}).await;
    let [mut night, mut day] = ["one", "two"].map(|token| service.client_of(token));
    assert_eq!(of(&costs(&mut day).await, "night"), (3, 0, 0.0, 3));
    flush(&mut night).await;
    accept(&mut day, vec![merge("late", "n", 1)]).await;
    let told = costs(&mut day).await;
    assert_eq!(of(&told, "night"), (3, 2, 1.0, 0));
    assert_eq!(of(&told, "day"), (3, 1, 1.0, 1));
    assert_eq!(of(&told, ""), (1, 0, 0.0, 1), "samples are nobody's");
    let pools = told.collections.iter().find(|costs| costs.collection == "pools").unwrap();
    assert_eq!((pools.written_documents, pools.waiting), (3, 1));
    assert!((pools.saved.unwrap().folding_usd - 2.0 * USD).abs() < 1e-12);
    let sum: f64 = told.collections.iter().map(|costs| costs.cost_usd).sum();
    assert!((sum - told.cost_usd).abs() < 1e-12);
    assert!(costs(&mut stranger).await.callers.is_empty());
    service.stop().await;
}

#[tokio::test]
async fn what_would_have_changed_nothing_is_saved_for_who_asked_for_it() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new("one=acme:admin:night,two=acme:admin:day");
        config.firestore_skip_unchanged = true;
    })
    .await;
    let [mut night, mut day] = ["one", "two"].map(|token| service.client_of(token));
    let set = || DocumentWrite { mode: WriteMode::Set.into(), ..merge("a", "n", 1) };
    accept(&mut night, vec![set()]).await;
    flush(&mut night).await;
    accept(&mut day, vec![urgent(set())]).await;
    flush(&mut day).await;
    let told = costs(&mut day).await;
    assert_eq!((of(&told, "night"), of(&told, "day")), ((1, 1, 0.0, 0), (1, 0, 0.0, 0)));
    let saved = |name: &str| told.callers.iter().find(|costs| costs.caller == name).unwrap().saved.unwrap();
    assert!((saved("day").unchanged_usd - USD).abs() < 1e-12);
    assert_eq!(
        (saved("night").unchanged_usd, told.saved.unwrap().unchanged_usd),
        (0.0, saved("day").unchanged_usd)
    );
    service.stop().await;
}
