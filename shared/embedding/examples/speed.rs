//! How many short questions an encoder embeds a second: `speed FOLDER [THREADS]`, questions on standard input, one a line.

use std::{error::Error, io::BufRead as _, path::PathBuf, time::Instant};

use embedding::{Embedder as _, Encoder};

#[expect(clippy::print_stdout, reason = "a program prints what it measured")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("speed FOLDER [THREADS]")?);
    let threads = arguments.next().map_or(Ok(0), |number| number.parse())?;
    let start = Instant::now();
    let encoder = Encoder::load(&folder, None, threads)?;
    println!("{}, loaded in {:?}", encoder.name(), start.elapsed());
    let texts: Vec<String> = std::io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for batch in [1, 8, 32, 256] {
        for _ in 0..3 {
            let start = Instant::now();
            let mut done = 0;
            for batch in texts.chunks(batch) {
                done += futures::executor::block_on(encoder.embed(batch))?.len();
                if start.elapsed().as_secs() >= 3 {
                    break;
                }
            }
            let rate = f64::from(u32::try_from(done)?) / start.elapsed().as_secs_f64();
            println!("batches of {batch}: {rate:.0} texts/s, {:.2} ms a batch", 1e3 * batch as f64 / rate);
        }
    }
    Ok(())
}
