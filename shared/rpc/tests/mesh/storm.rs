//! What a server gets that comes back after a while to callers who have waited for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use contracts::memory::{RecallRequest, memory_service_client::MemoryServiceClient};
use rpc::{Channel, ChannelOptions, Client as _};
use telemetry::Telemetry;
use turmoil::Builder;

use crate::{
    bystander::Bystander,
    simulation::{Simulated, serve},
};

/// Callers, each with a channel of its own, and the time between two calls of each.
const CALLERS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(200);
/// When the server goes down, and for how long.
const DOWN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));
const END: Duration = Duration::from_secs(50);

#[test]
fn a_server_that_was_down_for_30_s_gets_its_normal_rate_when_it_is_back() {
    let received: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
    let counter = received.clone();
    let mut simulation = Builder::new()
        .rng_seed(7)
        .simulation_duration(END * 2)
        .tick_duration(Duration::from_millis(5))
        .max_message_latency(Duration::from_millis(10))
        .build();
    simulation.host("one", move || {
        let counter = counter.clone();
        serve(Bystander::new(move |_| {
            *counter.lock().unwrap().entry(turmoil::sim_elapsed().unwrap().as_secs()).or_default() += 1;
            std::future::ready(Ok(()))
        }))
    });
    for caller in 0..CALLERS {
        simulation.client(format!("caller{caller}"), async move {
            let options = ChannelOptions {
                timeout: Duration::from_secs(1),
                network: Arc::new(Simulated),
                seed: Some(caller.into()),
                ..ChannelOptions::default()
            };
            let telemetry = Telemetry::silent("caller");
            let channel = Channel::lazy("http://one:7102", options, telemetry.clone())?;
            while turmoil::sim_elapsed().unwrap() < END {
                let mut client = MemoryServiceClient::over(channel.clone());
                telemetry.spawn(async move { client.recall(RecallRequest::default()).await });
                // Simulated time: a call is due that often.
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        });
    }
    let (mut is_down, mut was_down) = (false, false);
    while !simulation.step().unwrap() {
        let now = simulation.elapsed();
        if !was_down && now >= DOWN.0 {
            simulation.crash("one");
            (is_down, was_down) = (true, true);
        }
        if is_down && now >= DOWN.0 + DOWN.1 {
            simulation.bounce("one");
            is_down = false;
        }
    }
    let received = received.lock().unwrap();
    let mean = |from: u64, to: u64| {
        let calls: u32 = received.range(from..to).map(|(_, calls)| calls).sum();
        f64::from(calls) / f64::from(u32::try_from(to - from).unwrap())
    };
    let normal = mean(2, 9);
    let back = (DOWN.0 + DOWN.1).as_secs();
    let most = received.range(back..).map(|(_, calls)| *calls).max().unwrap();
    let ratio = f64::from(most) / normal;
    println!(
        "down for 30 s: {normal:.0} calls/s before, at most {most} in a second after, {ratio:.2} times; second by second {:?}",
        received.range(back..back + 8).map(|(_, calls)| *calls).collect::<Vec<_>>()
    );
    assert!((90.0..=110.0).contains(&normal), "{normal}");
    assert_eq!(mean(12, back - 1), 0.0);
    assert!(ratio <= 1.2, "{ratio}");
    assert!(mean(back + 4, END.as_secs() - 1) > 0.95 * normal, "it is not found again");
}
