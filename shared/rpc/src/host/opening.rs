//! Serves while what the services stand on is opened.

use std::future::Future;

use tokio::sync::oneshot;

use crate::{Error, Host};

impl Host {
    /// Serves until `shutdown` while `open` opens what the services need, on the dispatch of the host's telemetry. When it has, all are
    /// SERVING, and the work that it returns runs beside them; [`std::future::ready`] for none. Until then health is
    /// NOT_SERVING, and calls are the services' own matter. If `open` fails, the host stops.
    ///
    /// Returns when serving has ended and the work too.
    ///
    /// # Errors
    /// What `open` says, or as [`Host::run`].
    pub async fn run_opening<W, E>(
        self,
        shutdown: impl Future<Output = ()> + Send,
        open: impl Future<Output = Result<W, E>>,
    ) -> Result<(), E>
    where
        W: Future<Output = ()>,
        E: From<Error>,
    {
        let (health, telemetry) = (self.health(), self.telemetry.clone());
        let (give_up, given_up) = oneshot::channel::<()>();
        let ended = async {
            tokio::select! {
                () = shutdown => {}
                // Dropped without a word while opening goes well.
                Ok(()) = given_up => {}
            }
        };
        let opening = async {
            match open.await {
                Ok(work) => {
                    health.serving();
                    work.await;
                    Ok(())
                }
                Err(error) => {
                    // Only fails if the host is gone already.
                    let _ = give_up.send(());
                    Err(error)
                }
            }
        };
        let (served, opened) = tokio::join!(self.run(ended), telemetry.carry(opening));
        opened?;
        Ok(served?)
    }
}
