//! Wire to domain and back for what becomes of a memory that is handed in, and how it fared since.

use contracts::memory as wire;
use rpc::{Check, Fault, time};

use crate::{
    engine::Remembered,
    hygiene::settle::{Duplicates, Fate},
    upkeep::accounts::Account,
};

/// Reads what is done with duplicates; nothing where the settings say it.
pub(crate) fn duplicates(duplicates: i32) -> Result<Option<Duplicates>, Fault> {
    let mut check = Check::default();
    let asked = match check.known::<wire::Duplicates>("duplicates", duplicates) {
        Some(wire::Duplicates::Keep) => Some(Duplicates::Keep),
        Some(wire::Duplicates::Merge) => Some(Duplicates::Merge),
        Some(wire::Duplicates::Unspecified) | None => None,
    };
    check.end(asked)
}

/// Writes what became of a memory.
pub(crate) fn remembered(done: Remembered) -> wire::RememberResponse {
    let Remembered { ids, fates, replaced, forgetting } = done;
    wire::RememberResponse {
        id: ids.into_iter().next().unwrap_or_default(),
        replaced: replaced > 0,
        outcome: fates.first().map_or(wire::Outcome::Unspecified, outcome).into(),
        forgetting: forgetting.unwrap_or_default(),
    }
}

/// Writes what became of the memories of a batch.
pub(crate) fn all_remembered(done: Remembered) -> wire::RememberBatchResponse {
    let Remembered { ids, fates, replaced, forgetting } = done;
    let outcomes = fates.iter().map(|fate| outcome(fate).into()).collect();
    wire::RememberBatchResponse { ids, replaced, outcomes, forgetting: forgetting.unwrap_or_default() }
}

/// Writes a memory with how it fared.
pub(crate) fn got(memory: wire::Memory, account: Account) -> wire::GetResponse {
    let Account { recalls, recalled, said } = account;
    wire::GetResponse { memory: Some(memory), recalls, last_recall_time: recalled.map(time::to_proto), said }
}

fn outcome(fate: &Fate) -> wire::Outcome {
    match fate {
        Fate::Stored => wire::Outcome::Stored,
        Fate::Merged(_) => wire::Outcome::Merged,
        Fate::Echo(_) => wire::Outcome::Echo,
    }
}
