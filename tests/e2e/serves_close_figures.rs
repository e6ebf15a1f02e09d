//! Where it is switched on, an answer about figures close to those of a cycle before serves, and only for the pool it is about.

use athena::Replay;
use contracts::agent::Cycle;
use orchestrator::source::replay;
use testkit::upstream::{Script, Upstream};
use tests::House;

use crate::merges_across_the_mesh::{analysed, observations, parts};

/// Two days of three pools that differ in nothing but their ids and figures. On the second, two are a little off from their own
/// figures; the third has left its own and is as little off from those of the first.
const DAYS: &str = "timestamp,pool,protocol_slug,chain,symbol,tvl_usd,apy
2025-08-01,one,aero,Base,WETH-USDC,1000000,5.0
2025-08-01,two,aero,Base,WETH-USDC,2000000,7.0
2025-08-01,three,aero,Base,WETH-USDC,4000000,12.0
2025-08-02,one,aero,Base,WETH-USDC,1010000,5.1
2025-08-02,two,aero,Base,WETH-USDC,2020000,7.1
2025-08-02,three,aero,Base,WETH-USDC,1005000,5.05
";

/// Runs two cycles and returns the second, with the APRs of the pools that the model was asked about in it.
async fn second_cycle(settings: &[(&str, &str)]) -> (Cycle, Vec<f64>) {
    let upstream = Upstream::start(Script::function(analysed));
    let source = replay::from_csv(DAYS.as_bytes(), b"Timestamp,GasPrice\n2025-08-01 00:00:00,1.5\n", 0, 1);
    let asking = [("llm_upstream_url", upstream.url()), ("llm_model", "small".to_owned())];
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let house = House::replaying(Replay(source.unwrap()), asking.into_iter().chain(settings)).await.unwrap();
    house.cycle().await.unwrap();
    let before = upstream.requests().len();
    let cycle = house.cycle().await.unwrap();
    assert_eq!(cycle.recorded_date, "2025-08-02");
    let asked = upstream.requests()[before..].iter().flat_map(|asked| parts(&asked.body)).collect::<Vec<_>>();
    let seen = asked.iter().flat_map(observations);
    let mut aprs: Vec<f64> = seen.filter_map(|one| one["values"]["apr"].as_f64()).collect();
    aprs.sort_by(f64::total_cmp);
    house.close().await.unwrap();
    (cycle, aprs)
}

#[tokio::test(flavor = "multi_thread")]
async fn slightly_moved_figures_are_answered_without_the_model_and_never_across_pools() {
    let (cycle, asked) = second_cycle(&[("agent_band_tolerance", "0.1")]).await;
    assert_eq!(cycle.served.get("semantic"), Some(&2), "{:?}", cycle.served);
    assert_eq!(asked, [5.05], "the pool that is close to another one's figures is asked about");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_every_moved_figure_is_asked_about() {
    let (cycle, asked) = second_cycle(&[]).await;
    assert_eq!(cycle.served.get("semantic"), None, "{:?}", cycle.served);
    assert_eq!(asked, [5.05, 5.1, 7.1]);
}
