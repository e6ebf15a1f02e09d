//! `storage.outage`: Firestore is away until the journal is full, and comes back: what memory that takes, and how fast it is caught up with.
//!
//! At first nobody listens where Firestore was; from the half on somebody does and answers UNAVAILABLE. With a full journal the service is
//! killed and started again. Then Firestore is back: for a while it is sent to by the ramp, after another kill without it. In the end it is
//! compared with what the writers were told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Instance, Round, Unserved};

use super::{
    Emulator, Error,
    clients::{Watch, Writers, late},
};

/// Shares of the journal at which memory is read, and the name of each.
const STAGES: [(f64, &str); 3] = [(0.1, "tenth"), (0.5, "half"), (1.0, "full")];
/// Plays an outage with a service over one folder, which at last is started `unramped`, its `firestore_ramp_start` raised; Firestore belongs
/// at `firestore`, and `ramp` is how long the rate of the ramp is measured. The value is the resident memory
/// that comes with each waiting write, from the tenth of a journal to a full one: by then caches and buffers have their size.
///
/// Details: `empty_bytes`; `tenth`, `half`, `full` and `restarted`, each with `writes`, `documents`, `journal_bytes`, `resident_bytes` and `peak_bytes`;
/// `acks_per_s`, `restart_s` (from the start to SERVING), `ramp` and `unramped` with `documents_per_s`, `seconds` and for the former `allowed_per_s` and
/// `first_s` (from Firestore's return to the first document), `after_bytes` (resident memory when all is sent), `unavailable` (such answers),
/// `documents`, `lost` (documents at Firestore that are not as acknowledged) and `unasked` (that nobody was told of).
///
/// # Errors
/// [`Error`] if the service does not start again, refuses a write for another reason, or does not store in the end.
pub async fn outage(
    service: &mut impl Instance,
    unramped: &mut impl Instance,
    firestore: Unserved,
    ramp: Duration,
) -> Result<Round, Error> {
    let mut watch = Watch::of(&service.start().await?)?;
    let empty = watch.resident()?;
    let port = firestore.address().port();
    let (mut refusing, mut emulator) = (Some(firestore), None);
    let mut writers = Writers::new(watch.address())?;
    let mut details = serde_json::Map::new();
    let begun = Instant::now();
    for (share, name) in STAGES {
        if share > 0.5 {
            drop(refusing.take());
            emulator = Some(Emulator::away(port).await?);
        }
        writers.write_until(share, &mut watch).await?;
        details.insert(name.to_owned(), watch.stage().await?);
    }
    let acks = writers.acknowledged() as f64 / begun.elapsed().as_secs_f64();
    let grown = |name: &str| {
        let of =
            |stage: &str| details.get(stage).and_then(|stage| stage.get(name)?.as_f64()).unwrap_or_default();
        of("full") - of("tenth")
    };
    let value = grown("resident_bytes") / grown("writes");
    let Some(emulator) = emulator else { return Err(late("the outage")) };

    service.kill().await?;
    let begun = Instant::now();
    let mut watch = Watch::of(&service.start().await?)?;
    let restart = begun.elapsed();
    while emulator.injected() == 0 {
        watch.pause("the answers UNAVAILABLE").await?;
    }
    details.insert("restarted".to_owned(), watch.stage().await?);

    let unavailable = emulator.injected();
    emulator.back();
    details.insert("ramp".to_owned(), by_the_ramp(&mut watch, ramp).await?);
    service.kill().await?;
    let mut watch = Watch::of(&unramped.start().await?)?;
    details.insert("unramped".to_owned(), at_full_speed(&mut watch).await?);
    let found = writers.compare(&mut watch).await?;
    let after = watch.resident()?;
    unramped.stop().await?;
    let others = json!({
        "empty_bytes": empty,
        "acks_per_s": acks,
        "restart_s": restart.as_secs_f64(),
        "after_bytes": after,
        "unavailable": unavailable,
        "documents": found.expected,
        "lost": found.expected - found.right,
        "unasked": found.unasked,
    });
    details.extend(others.as_object().cloned().unwrap_or_default());
    Ok(Round { value, details: details.into() })
}

/// Measures what arrives by the ramp, from the first document on.
async fn by_the_ramp(watch: &mut Watch, ramp: Duration) -> Result<Value, Error> {
    let (back, all) = (Instant::now(), watch.documents().await?);
    while watch.documents().await? == all {
        watch.pause("the first document").await?;
    }
    let (begun, before) = (Instant::now(), watch.documents().await?);
    let first = begun.duration_since(back);
    let allowed = watch.ramp().await?;
    // Real time: a rate is measured.
    tokio::time::sleep(ramp).await;
    let sent = before.saturating_sub(watch.documents().await?);
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({
        "documents_per_s": sent as f64 / seconds,
        "seconds": seconds,
        "allowed_per_s": allowed,
        "first_s": first.as_secs_f64(),
    }))
}

/// Measures how fast the rest arrives.
async fn at_full_speed(watch: &mut Watch) -> Result<Value, Error> {
    let (begun, all) = (Instant::now(), watch.documents().await?);
    while watch.documents().await? > 0 {
        watch.pause("the last document").await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({ "documents_per_s": all as f64 / seconds, "seconds": seconds }))
}
