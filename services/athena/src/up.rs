//! `athena up`: the whole mesh in one process, on its documented ports, until Ctrl-C.

use anyhow::Result;
use clock::Clock;
use config::Sources;

use crate::{Mesh, Options, Replay, Service};

/// Starts the mesh, hands the table of addresses to `print`, and runs until a signal or until a service fails.
///
/// # Errors
///
/// Fails if the mesh cannot be started, or with the first service that ends with an error.
pub(crate) async fn run(sources: Sources, replay: bool, print: impl FnOnce(&str)) -> Result<()> {
    let replay = if replay { Some(Replay::bundled()?) } else { None };
    let mut mesh = Mesh::start(Options { sources, clock: Clock::system(), replay }).await?;
    print(&table(&mesh));
    tokio::select! {
        () = rpc::shutdown_signal() => {}
        failed = mesh.failed() => {
            let stopped = mesh.stop().await;
            return failed.and(stopped);
        }
    }
    mesh.stop().await
}

fn table(mesh: &Mesh) -> String {
    let mut text = format!("  {:<16} {:<22} {}\n", "service", "address", "state");
    for service in Service::ALL.into_iter().rev() {
        text += &format!("  {service:<16} {:<22} serving\n", mesh.address(service).to_string());
    }
    text + &format!("\n  dashboard        {}/\n  stop with Ctrl-C\n", mesh.url(Service::Monitor))
}
