//! Answers the recalls that a folder asks for; `tests/peers/memories.py` makes the folder.

use std::path::Path;

#[expect(clippy::print_stdout, reason = "the answers are its output")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: recall FOLDER")?;
    println!("{}", memory_service::bench::given::answer(Path::new(&folder))?);
    Ok(())
}
