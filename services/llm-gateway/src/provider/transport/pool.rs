//! Connections that wait for a request.

use std::{
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use hyper::client::conn::http2;
use parking_lot::Mutex;
use telemetry::Telemetry;
use tokio::{runtime::Handle, time::Instant};

use super::{Connection, Outgoing, connection::Own};

/// Longest time a connection is kept without a request.
const MOST_IDLE: Duration = Duration::from_secs(90);
/// How often kept ones are looked at while there are some: one that the upstream closed takes a socket until then.
const LOOK: Duration = Duration::from_secs(15);

/// The connections that are kept.
#[derive(Debug)]
pub(super) struct Pool {
    kept: Mutex<Kept>,
    telemetry: Telemetry,
}

#[derive(Debug, Default)]
struct Kept {
    /// Those of HTTP/1.1 that carry no request, the one that did last behind the others.
    own: Vec<(Instant, Box<Own>)>,
    /// The one of HTTP/2, and when it was used last.
    shared: Option<(Instant, http2::SendRequest<Outgoing>)>,
    is_watched: bool,
}

impl Pool {
    pub(super) fn new(telemetry: &Telemetry) -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), telemetry: telemetry.clone() })
    }

    /// Takes the connection that was used last, if it is still open.
    pub(super) fn take(&self) -> Option<Connection> {
        if let Some(sender) = self.kept.lock().shared() {
            return Some(Connection::Shared(sender));
        }
        loop {
            // Looked at without the lock: closing many takes its time.
            let (_, mut own) = self.kept.lock().own.pop()?;
            if own.is_free() {
                return Some(Connection::Own(own));
            }
        }
    }

    /// Lets others send on a connection that was made, if they may.
    pub(super) fn enter(self: &Arc<Self>, made: Connection) -> Connection {
        if let Connection::Shared(sender) = &made {
            let mut kept = self.kept.lock();
            if kept.shared().is_none() {
                kept.shared = Some((Instant::now(), sender.clone()));
                self.watch(&mut kept);
            }
        }
        made
    }

    /// Keeps a connection whose request is over, if it can carry another.
    pub(super) fn keep(self: &Arc<Self>, mut own: Box<Own>) {
        // An answer may be left when there is no runtime any more.
        if own.is_free() && Handle::try_current().is_ok() {
            let mut kept = self.kept.lock();
            kept.own.push((Instant::now(), own));
            self.watch(&mut kept);
        }
    }

    /// Sees to it that what nobody uses is closed.
    fn watch(self: &Arc<Self>, kept: &mut Kept) {
        if !mem::replace(&mut kept.is_watched, true) {
            self.telemetry.spawn_apart(watch(Arc::downgrade(self)));
        }
    }

    /// Closes what was idle for too long or was closed by the upstream; returns whether something is left.
    pub(super) fn prune(&self) -> bool {
        let is_fresh = |used: &Instant| used.elapsed() < MOST_IDLE;
        let mut own = mem::take(&mut self.kept.lock().own);
        own.retain_mut(|(used, own)| is_fresh(used) && own.is_free());
        let mut kept = self.kept.lock();
        own.append(&mut kept.own);
        own.shrink_to_fit();
        kept.own = own;
        kept.shared.take_if(|(used, sender)| !is_fresh(used) || sender.is_closed());
        kept.is_watched = !kept.own.is_empty() || kept.shared.is_some();
        kept.is_watched
    }
}

impl Kept {
    /// Returns the shared connection if it is open, as one that is used now.
    fn shared(&mut self) -> Option<http2::SendRequest<Outgoing>> {
        let (used, sender) = self.shared.as_mut().filter(|(_, sender)| !sender.is_closed())?;
        *used = Instant::now();
        Some(sender.clone())
    }
}

/// Looks at what is kept until nothing is.
async fn watch(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let is_over = pool.upgrade().is_none_or(|pool| !pool.prune());
        if is_over {
            return;
        }
    }
}
