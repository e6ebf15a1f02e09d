//! A short storm of random and mutated frames on each service; `cargo run --release -p tests --example frames` is the long one.

use std::sync::Arc;

use athena::Service;
use tests::{
    House,
    storm::{Source, is_well, storm},
};

/// Frames for each service: some seconds in all.
const FRAMES: u64 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_frames_leaves_every_service_well() {
    let house = House::open().await.unwrap();
    for service in Service::ALL {
        let address = house.mesh.address(service);
        let source = Arc::new(Source::new(service, 7));
        let report = storm(address, &source, 0..FRAMES).await.unwrap();
        println!(
            "{service}: {} frames, {} raw, {:?}, {:?}",
            report.frames, report.raw, report.took, report.codes
        );
        assert!(report.wrong.is_empty(), "{service}: {}", report.wrong.join("\n"));
        assert_eq!(report.frames, FRAMES);
        // Neither all refused nor all let in: the frames are as good as they are bad.
        let share = |code: &str| report.codes.get(code).copied().unwrap_or(0) * 10 / FRAMES;
        assert!((1..9).contains(&share("OK")), "{service}: {:?}", report.codes);
        is_well(address, service).await.unwrap();
    }
    house.close().await.unwrap();
}
