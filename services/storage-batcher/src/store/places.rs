//! The tables of places in shared documents.

use redb::{ReadTransaction, TableDefinition, WriteTransaction};

use crate::aggregate::places::Row;

const ERAS: TableDefinition<'_, EraRow<'_>, &[u8]> = TableDefinition::new("eras");
const PLACES: TableDefinition<'_, PlaceRow<'_>, u32> = TableDefinition::new("places");

/// Tenant, collection, start of the first window.
type EraRow<'a> = (&'a str, &'a str, i64);
/// Tenant, collection, era, entity.
type PlaceRow<'a> = (&'a str, &'a str, i64, &'a str);

/// Makes the tables if they are missing.
pub(super) fn make(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(ERAS)?;
    transaction.open_table(PLACES)?;
    Ok(())
}

/// Writes rows, in order.
pub(super) fn write(transaction: &WriteTransaction, rows: &[Row]) -> Result<(), redb::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (mut eras, mut places) = (transaction.open_table(ERAS)?, transaction.open_table(PLACES)?);
    for row in rows {
        match row {
            Row::Era { tenant, collection, since, layout } => {
                let row = |since| (&**tenant, &**collection, since);
                eras.retain_in(row(*since)..=row(i64::MAX), |_, _| false)?;
                let place = |since| (&**tenant, &**collection, since, "");
                // No window starts at the last second of all.
                places.retain_in(place(*since)..place(i64::MAX), |_, _| false)?;
                eras.insert(row(*since), &**layout)?;
            }
            Row::Place { tenant, collection, since, entity, pack } => {
                places.insert((&**tenant, &**collection, *since, &**entity), pack)?;
            }
        }
    }
    Ok(())
}

/// Reads all rows, eras first.
pub(super) fn read(snapshot: &ReadTransaction) -> Result<Vec<Row>, redb::Error> {
    let mut rows = Vec::new();
    for found in snapshot.open_table(ERAS)?.range::<EraRow<'_>>(..)? {
        let (row, layout) = found?;
        let (tenant, collection, since) = row.value();
        let (tenant, collection) = (tenant.into(), collection.into());
        rows.push(Row::Era { tenant, collection, since, layout: layout.value().into() });
    }
    for found in snapshot.open_table(PLACES)?.range::<PlaceRow<'_>>(..)? {
        let (row, pack) = found?;
        let (tenant, collection, since, entity) = row.value();
        let (tenant, collection, entity) = (tenant.into(), collection.into(), entity.into());
        rows.push(Row::Place { tenant, collection, since, entity, pack: pack.value() });
    }
    Ok(rows)
}
