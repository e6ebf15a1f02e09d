//! The durable record of cycles: what `ListCycles` shows, where each agent stands, and a live source's days.
//!
//! A cycle ends with one commit, which holds its record, its agent's progress and its day: after a restart they agree. It is the only
//! fsync the orchestrator itself waits for in a cycle.

use std::{path::Path, sync::Arc};

use ::journal::{Failed, Options, Reason};
use jiff::civil::Date;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cycle::Cycle,
    error::Error,
    history::{Day, History, WINDOW_DAYS},
    pool::days_between,
};

/// Cycles by tenant and id; ids sort by start.
const CYCLES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("cycles");
/// How many cycles a tenant has.
const COUNTS: TableDefinition<'_, &str, u64> = TableDefinition::new("counts");
/// Progress by tenant and agent.
const AGENTS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("agents");
/// A live source's days by tenant, agent and date.
const DAYS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("days");

/// Sorts after every id.
const LAST: &str = "\u{10FFFF}";

/// The journal of one orchestrator. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    inner: ::journal::Journal,
    kept: u64,
}

/// Where an agent stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Cycles run.
    pub number: u64,
    /// The recording's next step.
    pub cursor: u64,
}

/// What a cycle leaves behind.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The cycle.
    pub cycle: Arc<Cycle>,
    /// Where its agent stands now.
    pub progress: Progress,
    /// The day's readings, of a live source.
    pub day: Option<(Date, Day)>,
}

impl Journal {
    /// Opens the journal in `folder` as `options` say, keeping the newest `kept` cycles of each tenant.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if the file cannot be used.
    pub fn open(folder: &Path, options: &Options, kept: u64) -> Result<Self, Error> {
        let inner = ::journal::Journal::open(folder.join("cycles.redb"), options).map_err(Error::Open)?;
        Ok(Self { inner, kept })
    }

    /// Returns why a cycle could not be written down, if that is known.
    #[must_use]
    pub fn outage(&self) -> Option<Reason> {
        self.inner.state().reason()
    }

    /// Finishes what is being written and lets go of the file.
    pub async fn close(&self) {
        self.inner.close().await;
    }

    /// Writes what a cycle leaves behind; answered after the fsync.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if it cannot be written; nothing of it is then.
    pub async fn record(&self, entry: Entry) -> Result<(), Error> {
        let record = encode(&*entry.cycle)?;
        let progress = encode(&entry.progress)?;
        let day = entry.day.map(|(date, day)| encode(&day).map(|bytes| (date, bytes))).transpose()?;
        let bytes = record.len() + progress.len() + day.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let (tenant, cycle, kept) = (entry.tenant, entry.cycle, self.kept);
        let write = move |transaction: &WriteTransaction| -> Result<(), Box<redb::Error>> {
            write_cycle(transaction, &tenant, &cycle.id, &record, kept).map_err(Box::new)?;
            let write_rest = || -> Result<(), redb::Error> {
                let mut agents = transaction.open_table(AGENTS)?;
                agents.insert((&*tenant, cycle.agent.as_str()), progress.as_slice())?;
                if let Some((date, bytes)) = &day {
                    write_day(transaction, &tenant, &cycle.agent, *date, bytes)?;
                }
                Ok(())
            };
            write_rest().map_err(Box::new)
        };
        self.inner.commit_sized(bytes, write).await.map_err(|error| failed(error, |cause| cause))
    }

    /// Returns where an agent stands.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if it cannot be read.
    pub fn progress(&self, tenant: &str, agent: &str) -> Result<Progress, Error> {
        self.read(|transaction| {
            let Some(agents) = opened(transaction.open_table(AGENTS))? else { return Ok(None) };
            Ok(agents.get((tenant, agent))?.map(|row| row.value().to_vec()))
        })?
        .map_or_else(|| Ok(Progress::default()), |row| decode(&row))
    }

    /// Returns the days of a live source as a history.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if they cannot be read.
    pub fn history(&self, tenant: &str, agent: &str) -> Result<History, Error> {
        let days = self.read(|transaction| {
            let Some(days) = opened(transaction.open_table(DAYS))? else { return Ok(Vec::new()) };
            let rows = days.range((tenant, agent, "")..=(tenant, agent, LAST))?;
            rows.map(|row| row.map(|(key, value)| (key.value().2.to_owned(), value.value().to_vec())))
                .collect::<Result<Vec<_>, _>>()
                .map_err(redb::Error::from)
        })?;
        let mut history = History::default();
        for (date, day) in days {
            if let Ok(date) = date.parse() {
                history.restore(date, decode::<Day>(&day)?);
            }
        }
        Ok(history)
    }

    /// Returns one cycle.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the tenant has none of that id, [`Error::Journal`] if it cannot be read.
    pub fn cycle(&self, tenant: &str, id: &str) -> Result<Cycle, Error> {
        let row = self.read(|transaction| {
            let Some(cycles) = opened(transaction.open_table(CYCLES))? else { return Ok(None) };
            Ok(cycles.get((tenant, id))?.map(|row| row.value().to_vec()))
        })?;
        decode(&row.ok_or(Error::NotFound)?)
    }

    /// Returns the newest `limit` cycles of a tenant, newest first; only those of `agent` if one is given.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if they cannot be read.
    pub fn cycles(&self, tenant: &str, agent: Option<&str>, limit: usize) -> Result<Vec<Cycle>, Error> {
        let mut found = Vec::new();
        let mut broken = None;
        self.read(|transaction| {
            let Some(cycles) = opened(transaction.open_table(CYCLES))? else { return Ok(()) };
            for row in cycles.range((tenant, "")..=(tenant, LAST))?.rev() {
                if found.len() == limit {
                    break;
                }
                match decode::<Cycle>(row?.1.value()) {
                    Ok(cycle) if agent.is_none_or(|agent| cycle.agent == agent) => found.push(cycle),
                    Ok(_) => {}
                    Err(error) => broken = Some(error),
                }
            }
            Ok(())
        })?;
        broken.map_or(Ok(found), Err)
    }

    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.inner
            .read(|transaction| read(transaction).map_err(Box::new))
            .map_err(|error| failed(error, |it| it))
    }
}

fn write_cycle(
    transaction: &WriteTransaction,
    tenant: &str,
    id: &str,
    record: &[u8],
    kept: u64,
) -> Result<(), redb::Error> {
    let mut cycles = transaction.open_table(CYCLES)?;
    let mut counts = transaction.open_table(COUNTS)?;
    let added = cycles.insert((tenant, id), record)?.is_none();
    let mut count = counts.get(tenant)?.map_or(0, |row| row.value()) + u64::from(added);
    while count > kept {
        let oldest = cycles.range((tenant, "")..=(tenant, LAST))?.next().transpose()?;
        let Some(oldest) = oldest.map(|(key, _)| key.value().1.to_owned()) else { break };
        cycles.remove((tenant, oldest.as_str()))?;
        count -= 1;
    }
    counts.insert(tenant, count)?;
    Ok(())
}

/// Writes a day and drops those that no mean looks at any more.
fn write_day(
    transaction: &WriteTransaction,
    tenant: &str,
    agent: &str,
    date: Date,
    bytes: &[u8],
) -> Result<(), redb::Error> {
    let mut days = transaction.open_table(DAYS)?;
    days.insert((tenant, agent, date.to_string().as_str()), bytes)?;
    let mut old = Vec::new();
    for row in days.range((tenant, agent, "")..=(tenant, agent, LAST))? {
        let day = row?.0.value().2.to_owned();
        match day.parse::<Date>() {
            Ok(parsed) if days_between(parsed, date) <= WINDOW_DAYS => break,
            _ => old.push(day),
        }
    }
    for day in old {
        days.remove((tenant, agent, day.as_str()))?;
    }
    Ok(())
}

/// A table that nothing was written to yet is empty, not an error.
fn opened<T>(table: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Journal(Box::new(error)))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Journal(Box::new(error)))
}

fn failed<E>(error: Failed<E>, cause: impl FnOnce(E) -> Box<redb::Error>) -> Error {
    match (error.reason(), error) {
        (Some(reason), _) => Error::Disk(reason),
        (None, Failed::Refused(refused)) => Error::Journal(cause(refused)),
        (None, _) => Error::Disk(Reason::Store),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        budget::Budget,
        cycle::{Limits, Machine, Start},
        pool::{Moment, Pool},
    };

    fn entry(tenant: &str, agent: &str, id: &str) -> Entry {
        let start = Start {
            id: id.into(),
            agent: agent.into(),
            number: 1,
            time: std::time::UNIX_EPOCH,
            trace_id: String::new(),
        };
        let limits = Limits { pools: 9, interesting: 9, stale_after: Duration::ZERO };
        let cycle = Machine::begin(start, Budget::new(Duration::from_secs(1)), limits).end(Duration::ZERO);
        Entry {
            tenant: tenant.into(),
            cycle: cycle.into(),
            progress: Progress { number: 1, cursor: 1 },
            day: None,
        }
    }

    fn ids(cycles: &[Cycle]) -> Vec<&str> {
        cycles.iter().map(|cycle| cycle.id.as_str()).collect()
    }

    #[tokio::test]
    async fn the_newest_cycles_of_each_tenant_are_kept_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), &Options::default(), 2).unwrap();
        assert!(journal.cycles("one", None, 9).unwrap().is_empty());
        for (tenant, agent, id) in
            [("one", "a", "1"), ("one", "b", "2"), ("two", "a", "3"), ("one", "a", "4")]
        {
            journal.record(entry(tenant, agent, id)).await.unwrap();
        }
        assert_eq!(ids(&journal.cycles("one", None, 9).unwrap()), ["4", "2"]);
        assert_eq!(ids(&journal.cycles("one", Some("b"), 9).unwrap()), ["2"]);
        assert_eq!(ids(&journal.cycles("one", None, 1).unwrap()), ["4"]);
        journal.close().await;
        let journal = Journal::open(folder.path(), &Options::default(), 2).unwrap();
        assert_eq!(journal.cycle("two", "3").unwrap().agent, "a");
        assert!(matches!(journal.cycle("one", "3"), Err(Error::NotFound)), "another tenant's");
        assert_eq!(journal.progress("one", "a").unwrap(), Progress { number: 1, cursor: 1 });
        assert_eq!(journal.progress("one", "never").unwrap(), Progress::default());
    }

    #[tokio::test]
    async fn a_live_sources_days_come_back_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), &Options::default(), 2).unwrap();
        let mut live = History::default();
        for day in 1..=9 {
            let moment = Moment::recorded(Date::constant(2025, 8, day));
            let pool = Pool { id: "p".into(), apr: Some(f64::from(day)), ..Pool::default() };
            live.record(moment, &[pool], None);
            let entry = Entry { day: Some((moment.date, live.day(moment.date))), ..entry("t", "a", "1") };
            journal.record(entry).await.unwrap();
        }
        let date = Date::constant(2025, 8, 10);
        let restored = journal.history("t", "a").unwrap();
        assert_eq!(restored.pool("p", date), live.pool("p", date));
        assert_eq!(restored.pool("p", date).mean_apr, Some(5.0));
        let later = Date::constant(2025, 10, 1);
        journal.record(Entry { day: Some((later, Day::default())), ..entry("t", "a", "1") }).await.unwrap();
        assert_eq!(journal.history("t", "a").unwrap().pool("p", date).mean_apr, None);
    }
}
