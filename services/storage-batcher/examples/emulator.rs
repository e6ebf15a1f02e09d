//! A Firestore emulator on the port given, until it is ended; `tests/peers/documents.py` starts it.

use storage_batcher::bench::Emulator;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("usage: emulator PORT")?.parse()?;
    let _emulator = Emulator::quiet(port).await?;
    std::future::pending().await
}
