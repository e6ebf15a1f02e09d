//! Benchmark `gateway.merge`; what is measured is said by the gateway's own benchmark.

use anyhow::Result;
use config::Sources;
use llm_gateway::{Config, bench::merge};

use testkit::Round;

use super::{Outcome, Setup};

/// Upstream calls about 300 pools, one by one and merged.
pub(super) async fn merge(setup: &Setup) -> Result<Outcome> {
    let pools = merge::pools(&setup.data)?;
    let flags = setup.settings.iter().filter_map(|setting| setting.split_once('='));
    let sources = Sources::none().with_flags(flags.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let config = Config::load(&sources)?;
    let round = async || {
        let measured = merge::round(&pools, &config).await?;
        Ok(Round { value: measured.value, details: measured.details })
    };
    setup.rounds(round).await
}
