//! Hosts and channels over a simulated network that is cut and repaired. The same seed gives the same run.
//!
//! The simulation does not send a lost segment again, so it is harsher than TCP: a connection that was used while the network
//! was cut stays stuck until it is found out.

use std::{cell::RefCell, io, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use contracts::memory::{RecallRequest, memory_service_client::MemoryServiceClient};
use futures::future::LocalBoxFuture;
use hyper_util::rt::TokioIo;
use rpc::{Channel, ChannelOptions, Client as _, Code};
use telemetry::Telemetry;
use tokio::task::LocalSet;
use tonic::{body::Body, client::GrpcService, transport::Endpoint};
use turmoil::Builder;

use crate::{
    bystander::Bystander,
    simulation::{PORT, Simulated, serve},
};

/// Deadline of each call, and time between two.
const CALL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(50));
/// When the network changes first, and how long the calls go on.
const CUT: Duration = Duration::from_secs(5);
const END: Duration = Duration::from_secs(30);

/// One call: when it began and how long it took, in simulated time, and how it ended.
type Event = (Duration, Duration, Code);

/// What happens to the network: at these times after [`CUT`], these things.
type Weather = Vec<(Duration, fn())>;

/// Makes one call.
type Call = Box<dyn Fn() -> LocalBoxFuture<'static, Code>>;

/// Calls over our channel.
fn ours(url: &'static str, seed: u64) -> Call {
    let options = ChannelOptions {
        timeout: CALL.0,
        connect_timeout: Duration::from_secs(1),
        keepalive_interval: Duration::from_secs(2),
        keepalive_timeout: Duration::from_secs(1),
        retries: 0,
        network: Arc::new(Simulated),
        seed: Some(seed),
        ..ChannelOptions::default()
    };
    let channel = Channel::lazy(url, options, Telemetry::silent("caller")).unwrap();
    Box::new(move || recall(MemoryServiceClient::over(channel.clone())))
}

/// Calls over tonic's own channel as it comes, with the same deadline and the same wait for a connection.
fn plain(url: &'static str) -> Call {
    let connect = tower::service_fn(|uri: http::Uri| async move {
        let address = (uri.host().unwrap_or_default().to_owned(), PORT);
        Ok::<_, io::Error>(TokioIo::new(turmoil::net::TcpStream::connect(address).await?))
    });
    let endpoint = Endpoint::from_static(url).timeout(CALL.0).connect_timeout(Duration::from_secs(1));
    let channel = endpoint.connect_with_connector_lazy(connect);
    Box::new(move || recall(MemoryServiceClient::new(channel.clone())))
}

fn recall<T>(mut client: MemoryServiceClient<T>) -> LocalBoxFuture<'static, Code>
where
    T: GrpcService<
            Body,
            ResponseBody: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
        > + 'static,
    T::Error: Into<BoxError>,
{
    Box::pin(async move {
        let outcome = client.recall(RecallRequest::default()).await;
        outcome.map_or_else(|status| status.code(), |_| Code::Ok)
    })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Calls in the middle of all this, once every 50 ms, and returns what came of each.
fn run(seed: u64, weather: &Weather, caller: impl Fn() -> Call + 'static) -> Vec<Event> {
    let mut simulation = Builder::new()
        .rng_seed(seed)
        .simulation_duration(END * 3)
        .tick_duration(Duration::from_millis(5))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .build();
    simulation.host("one", || serve(answering()));
    simulation.host("two", || serve(answering()));
    let events = Rc::new(RefCell::new(Vec::new()));
    let seen = events.clone();
    simulation.client("caller", async move {
        let (call, calls) = (caller(), LocalSet::new());
        calls
            .run_until(async {
                while turmoil::elapsed() < END {
                    let (began, call, seen) = (turmoil::elapsed(), call(), seen.clone());
                    tokio::task::spawn_local(async move {
                        let code = call.await;
                        seen.borrow_mut().push((began, turmoil::elapsed() - began, code));
                    });
                    // Simulated time: a call is due that often.
                    tokio::time::sleep(CALL.1).await;
                }
            })
            .await;
        calls.await;
        Ok(())
    });
    let weather = weather.clone();
    simulation.client("weather", async move {
        for (after, change) in weather {
            // Simulated time: the weather changes then.
            tokio::time::sleep((CUT + after).saturating_sub(turmoil::elapsed())).await;
            change();
        }
        Ok(())
    });
    simulation.run().unwrap();
    drop(simulation);
    let mut events = Rc::into_inner(events).unwrap().into_inner();
    events.sort_by_key(|(began, ..)| *began);
    events
}

fn answering() -> Bystander {
    Bystander::new(|_| std::future::ready(Ok(())))
}

fn failed(events: &[Event]) -> Vec<Event> {
    events.iter().copied().filter(|(.., code)| *code != Code::Ok).collect()
}

/// Runs one story three times: it is the same for the same seed and another for another; returns its events after
/// printing what it cost.
fn story(name: &str, url: &'static str, weather: Weather, repaired: Duration) -> Vec<Event> {
    let run = |seed| run(seed, &weather, move || ours(url, seed));
    let events = run(7);
    assert!(events == run(7), "{name}: the same seed, another run");
    assert!(events != run(8), "{name}: another seed, the same run");
    let failed = failed(&events);
    let last = failed.last().map(|(at, ..)| at.saturating_sub(CUT + repaired)).unwrap_or_default();
    println!("{name}: {} calls, {} failed, the last {last:?} after the repair", events.len(), failed.len());
    // A caller hears of a server that is out of reach inside its deadline, and by the right word.
    assert!(failed.iter().all(|(.., code)| matches!(code, Code::Unavailable | Code::DeadlineExceeded)));
    assert!(failed.iter().all(|(at, ..)| *at + CALL.0 >= CUT), "{name}: failed before the cut");
    assert!(events.len() > 500, "{name}: {} calls", events.len());
    // The longest time a breaker is open, its jitter, and the probe.
    assert!(last < Duration::from_secs(7), "{name}: still failing {last:?} after the repair");
    events
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_cut_off_server_is_called_again_soon_after_the_repair() {
    let weather: Weather = vec![
        (seconds(0), || turmoil::partition("caller", "one")),
        (seconds(10), || turmoil::repair("caller", "one")),
    ];
    let events = story("the only server cut off", "http://one:7102", weather, seconds(10));
    let during = events.iter().filter(|(at, ..)| (CUT..CUT + seconds(10)).contains(at));
    assert!(during.clone().all(|(.., code)| *code != Code::Ok) && during.count() > 100);
}

#[test]
fn a_plain_channel_stays_stuck_after_the_repair() {
    let weather: Weather = vec![
        (seconds(0), || turmoil::partition("caller", "one")),
        (seconds(10), || turmoil::repair("caller", "one")),
    ];
    let last_failure = |events: &[Event]| failed(events).last().map(|(at, ..)| *at).unwrap_or_default();
    let before = run(7, &weather, || plain("http://one:7102"));
    let after = run(7, &weather, || ours("http://one:7102", 7));
    let share = |events: &[Event]| {
        let late: Vec<_> = events.iter().filter(|(at, ..)| *at > CUT + seconds(10)).collect();
        let failed = late.iter().filter(|(.., code)| *code != Code::Ok).count();
        format!("{failed} of {} calls after the repair fail", late.len())
    };
    println!("partition of 10 s: {} over plain tonic, {} over ours", share(&before), share(&after));
    assert!(last_failure(&before) + seconds(1) > END, "{:?}", last_failure(&before));
    assert!(last_failure(&after) < CUT + seconds(12), "{:?}", last_failure(&after));
}

#[test]
fn one_of_two_servers_cut_off_costs_what_was_on_its_way() {
    let weather: Weather = vec![
        (seconds(0), || turmoil::partition("caller", "one")),
        (seconds(15), || turmoil::repair("caller", "one")),
    ];
    let events = story("one of two cut off", "http://memory:7102", weather, seconds(15));
    // Until the breaker opens or the keepalive ends the connection.
    let late = failed(&events).into_iter().filter(|(at, ..)| *at > CUT + seconds(4)).count();
    assert_eq!(late, 0, "calls go on to a server that is cut off");
    assert!(failed(&events).len() < 40, "{}", failed(&events).len());
}

#[test]
fn answers_that_are_lost_are_as_bad_as_questions() {
    let weather: Weather = vec![
        (seconds(0), || turmoil::partition_oneway("one", "caller")),
        (seconds(10), || turmoil::repair_oneway("one", "caller")),
    ];
    story("only the way back cut off", "http://one:7102", weather, seconds(10));
}

#[test]
fn a_network_that_comes_and_goes_is_followed() {
    let cut: fn() = || turmoil::partition("caller", "one");
    let repair: fn() = || turmoil::repair("caller", "one");
    let weather = (0..10).map(|at| (seconds(at), if at % 2 == 0 { cut } else { repair })).collect();
    let events = story("ten changes, one a second", "http://memory:7102", weather, seconds(9));
    let good = events.iter().filter(|(.., code)| *code == Code::Ok).count();
    assert!(good * 10 > events.len() * 9, "{good} of {}", events.len());
}

#[test]
fn messages_that_are_held_for_a_while_break_nothing_for_long() {
    let weather: Weather = vec![
        (seconds(0), || turmoil::hold("caller", "one")),
        (seconds(2), || turmoil::release("caller", "one")),
    ];
    story("messages held for 2 s", "http://one:7102", weather, seconds(2));
}
