//! How often memories were recalled and said, beside them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{ReadTransaction, WriteTransaction};

use super::{Store, failed, refused::Refused, tables::ACCOUNTS};
use crate::{error::Error, upkeep::accounts::Account};

impl Store {
    /// Saves accounts of memories of `space` by their numbers; absent ones are removed.
    ///
    /// # Errors
    /// Those of [`Store::commit`]; nothing was saved then.
    pub(crate) async fn save_accounts(
        &self,
        space: u32,
        accounts: Vec<(u64, Option<Account>)>,
    ) -> Result<(), Error> {
        let save = move |write: &WriteTransaction| {
            let mut table = write.open_table(ACCOUNTS)?;
            for (seq, account) in &accounts {
                match account {
                    Some(Account { recalls, recalled, said }) => {
                        table.insert((space, *seq), (*recalls, *said, recalled.map(seconds)))?;
                    }
                    None => drop(table.remove((space, *seq))?),
                }
            }
            Ok::<_, Refused>(())
        };
        self.journal.commit(save).await.map_err(failed)
    }
}

/// Returns what was saved of `space`.
pub(super) fn saved(read: &ReadTransaction, space: u32) -> Result<Vec<(u64, Account)>, Refused> {
    let mut accounts = Vec::new();
    for entry in read.open_table(ACCOUNTS)?.range((space, 0)..=(space, u64::MAX))? {
        let (key, row) = entry?;
        let (recalls, said, recalled) = row.value();
        accounts.push((key.value().1, Account { recalls, said, recalled: recalled.map(time) }));
    }
    Ok(accounts)
}

/// Returns the whole seconds from 1970 to `time`; 0 before.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(seconds: u64) -> SystemTime {
    // What a damaged row says is no time at worst, and never ends a start.
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}
