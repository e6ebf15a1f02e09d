//! One who looks at a service from outside.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use contracts::storage::{FlushStatus, GetStatusRequest, GetStatusResponse, JournalStatus};
use serde_json::{Value, json};
use testkit::Server;

use super::{Caller, caller, failed};
use crate::bench::Error;

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest time that is waited for one thing.
const PATIENCE: Duration = Duration::from_secs(600);

/// Looks at one life of a service.
pub(in crate::bench) struct Watch {
    server: Server,
    client: Caller,
    since: Instant,
}

impl Watch {
    pub(in crate::bench) fn of(server: &Server) -> Result<Self, Error> {
        Ok(Self { server: *server, client: caller(server.address)?, since: Instant::now() })
    }

    pub(in crate::bench) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(in crate::bench) fn client(&mut self) -> &mut Caller {
        &mut self.client
    }

    /// Returns its resident memory in bytes.
    pub(in crate::bench) fn resident(&self) -> Result<u64, Error> {
        Ok(self.server.process.resident()?)
    }

    /// Waits for a moment, unless this life has lasted too long for `what`.
    pub(in crate::bench) async fn pause(&self, what: &'static str) -> Result<(), Error> {
        if self.since.elapsed() > PATIENCE {
            return Err(late(what));
        }
        // Real time: a process is waited for.
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    pub(in crate::bench) async fn journal(&mut self) -> Result<JournalStatus, Error> {
        Ok(self.status().await?.journal.unwrap_or_default())
    }

    /// Returns the documents that wait.
    pub(in crate::bench) async fn documents(&mut self) -> Result<u64, Error> {
        Ok(self.flush().await?.documents)
    }

    /// Returns the documents a second that the ramp allows now.
    pub(in crate::bench) async fn ramp(&mut self) -> Result<Option<f64>, Error> {
        Ok(self.flush().await?.ramp_documents_per_second)
    }

    /// Returns what waits, and the memory that this takes.
    pub(in crate::bench) async fn stage(&mut self) -> Result<Value, Error> {
        let status = self.status().await?;
        let journal = status.journal.unwrap_or_default();
        Ok(json!({
            "writes": journal.writes,
            "documents": status.flush.unwrap_or_default().documents,
            "journal_bytes": journal.bytes,
            "resident_bytes": self.resident()?,
            "peak_bytes": self.server.process.peak()?,
        }))
    }

    async fn flush(&mut self) -> Result<FlushStatus, Error> {
        Ok(self.status().await?.flush.unwrap_or_default())
    }

    async fn status(&mut self) -> Result<GetStatusResponse, Error> {
        let status = self.client.get_status(GetStatusRequest {}).await;
        Ok(status.map_err(|status| failed("GetStatus", &status))?.into_inner())
    }
}

/// Says that `what` did not come.
pub(in crate::bench) fn late(what: &'static str) -> Error {
    Error::Rpc { what, why: "it does not come to an end".to_owned() }
}
