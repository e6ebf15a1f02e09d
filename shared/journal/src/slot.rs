//! The place of the open database: lent to readers, and taken from them only to be replaced.

use std::{mem, ops::Deref, sync::Arc};

use parking_lot::{Condvar, Mutex};
use redb::{Database, ReadTransaction, ReadableDatabase as _};

use crate::{
    disk::Witness,
    failure::{Failed, Outage},
};

/// Holds the open database, and counts who reads it.
#[derive(Debug)]
pub(crate) struct Slot {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    held: Held,
    loans: usize,
}

#[derive(Debug)]
enum Held {
    Open(Open),
    /// Readers wait; the database is about to be replaced.
    Shut,
    /// There is nothing to read just now.
    Lost(Outage),
    Closed,
}

/// An open database and the witness of its file.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) database: Arc<Database>,
    pub(crate) witness: Arc<Witness>,
}

/// A snapshot; until it is dropped the database's file is not opened again.
pub(crate) struct Loan<'a> {
    // In this order: a database that another took the place of closes with its last snapshot, and then the turn is over.
    snapshot: ReadTransaction,
    _database: Arc<Database>,
    _turn: Turn<'a>,
}

struct Turn<'a>(&'a Slot);

impl Slot {
    /// Makes a slot whose readers wait for the first database.
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner { held: Held::Shut, loans: 0 }), changed: Condvar::new() }
    }

    /// Returns a snapshot of what is committed; waits while the database is being replaced.
    pub(crate) fn snapshot<E>(&self) -> Result<Loan<'_>, Failed<E>> {
        loop {
            if let Some(loan) = self.surely()? {
                return Ok(loan);
            }
            // The turn is over by now: whoever replaces the database waits for it.
            self.wait_while_detached();
        }
    }

    /// Returns a snapshot of the database as it is; absent if that may show what never was committed.
    pub(crate) fn surely<E>(&self) -> Result<Option<Loan<'_>>, Failed<E>> {
        // The turn is over last, wherever this ends: then the database is closed.
        let (turn, open) = self.borrow()?;
        let snapshot = open.database.begin_read().map_err(|error| Failed::Store(Outage::of(error)))?;
        // Asked afterwards: a commit that is not on the disk shows in no snapshot that began before it was known.
        Ok(if open.witness.is_detached() {
            None
        } else {
            Some(Loan { snapshot, _database: open.database, _turn: turn })
        })
    }

    fn borrow<E>(&self) -> Result<(Turn<'_>, Open), Failed<E>> {
        let mut inner = self.inner.lock();
        loop {
            match &inner.held {
                Held::Open(open) => {
                    let open = open.clone();
                    inner.loans += 1;
                    return Ok((Turn(self), open));
                }
                Held::Lost(outage) => return Err(Failed::Store(outage.clone())),
                Held::Closed => return Err(Failed::Closed),
                Held::Shut => self.changed.wait(&mut inner),
            }
        }
    }

    fn wait_while_detached(&self) {
        let mut inner = self.inner.lock();
        while matches!(&inner.held, Held::Open(open) if open.witness.is_detached()) {
            self.changed.wait(&mut inner);
        }
    }

    /// Returns the database for the writer; absent if none is open.
    pub(crate) fn open(&self) -> Option<Arc<Database>> {
        match &self.inner.lock().held {
            Held::Open(open) => Some(Arc::clone(&open.database)),
            Held::Shut | Held::Lost(_) | Held::Closed => None,
        }
    }

    /// Keeps new readers waiting, waits for the present ones, and closes the database.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        let held = mem::replace(&mut inner.held, Held::Shut);
        self.changed.notify_all();
        while inner.loans > 0 {
            self.changed.wait(&mut inner);
        }
        drop(inner);
        // Closing it writes and syncs: nobody waits for that at the lock.
        drop(held);
    }

    /// Lends `open`, which is of another file, from now on. Nobody waits: present readers go on with the one before, which closes with the
    /// last of them.
    pub(crate) fn exchange(&self, open: Open) {
        let before = mem::replace(&mut self.inner.lock().held, Held::Open(open));
        self.changed.notify_all();
        // Closing it writes and syncs: nobody waits for that at the lock.
        drop(before);
    }

    /// Lends `open` from now on.
    pub(crate) fn put(&self, open: Open) {
        self.hold(Held::Open(open));
    }

    /// Tells readers that there is nothing to read just now.
    pub(crate) fn lose(&self, outage: Outage) {
        self.hold(Held::Lost(outage));
    }

    /// Tells readers that there will be nothing to read any more.
    pub(crate) fn close(&self) {
        self.hold(Held::Closed);
    }

    fn hold(&self, held: Held) {
        self.inner.lock().held = held;
        self.changed.notify_all();
    }
}

impl Deref for Loan<'_> {
    type Target = ReadTransaction;

    fn deref(&self) -> &Self::Target {
        &self.snapshot
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.loans -= 1;
        // Only one who replaces the database waits for the last reader.
        if inner.loans == 0 && matches!(inner.held, Held::Shut) {
            self.0.changed.notify_all();
        }
    }
}
