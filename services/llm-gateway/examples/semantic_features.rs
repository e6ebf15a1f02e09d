//! Prints what the semantic tier's decision is fitted on.
use llm_gateway::cache::semantic::{Text, features, objection};
use std::{env, fs};
fn main() {
    let path = env::args().nth(1).unwrap();
    let pairs: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let start = std::time::Instant::now();
    let mut n = 0_u32;
    for pair in pairs {
        let one = pair["text_a"].as_str().unwrap();
        let other = pair["text_b"].as_str().unwrap();
        let (a, b) = (Text::new(one), Text::new(other));
        let start = std::time::Instant::now();
        let f = features(&a, &b, 0.0);
        n += start.elapsed().as_nanos() as u32 / 1000;
        let guard = objection(&a, &b).map(|o| (o.guard, o.one, o.other));
        println!(
            "{}",
            serde_json::json!({"label": pair["label"], "one": one, "other": other, "guard": guard, "features": f.to_vec()})
        );
    }
    eprintln!("{n} us features, all {:?}", start.elapsed());
}
