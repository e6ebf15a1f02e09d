//! Turns settings into sources, and refuses settings that cannot work.

use std::path::Path;

use crate::{
    config::Config,
    error::Error,
    source::{Defillama, GasRpc, GasSource, Pools, Replay, Sources, csv_gas::Recorded},
};

const REPLAY: &str = "replay:";

/// Makes the sources that the settings name.
///
/// # Errors
///
/// As [`crate::bind`].
pub(crate) fn sources(config: &Config) -> Result<Sources, Error> {
    let pools = match config.agent_source.as_str() {
        "defillama" => {
            let source = Defillama::new(&config.agent_defillama_url, &config.agent_chain);
            Pools::Defillama(source.map_err(|reason| setting("agent_defillama_url", reason))?)
        }
        other => {
            let path = recording("agent_source", other, "must be `defillama` or `replay:PATH`")?;
            let replay = Replay::by_days(&read(path)?, config.agent_history_days, config.agent_min_pools);
            Pools::Replay(replay.map_err(Error::Replay)?.into())
        }
    };
    let gas = match config.agent_gas_source.as_str() {
        "none" => GasSource::None,
        "rpc" => {
            let url = config.agent_gas_rpc_url.as_ref();
            let url =
                url.ok_or_else(|| setting("agent_gas_rpc_url", "is needed for agent_gas_source = rpc"))?;
            let source = GasRpc::new(url.expose(), &config.agent_chain);
            GasSource::Rpc(source.map_err(|reason| setting("agent_gas_rpc_url", reason))?)
        }
        other => {
            let path = recording("agent_gas_source", other, "must be `none`, `rpc` or `replay:PATH`")?;
            GasSource::Replay(Recorded::from_csv(&read(path)?).map_err(Error::Replay)?.into())
        }
    };
    Ok(Sources::new(pools, gas))
}

/// Refuses settings that would fail every cycle.
///
/// # Errors
///
/// [`Error::Setting`] with the setting's name.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    if !(1..=128).contains(&config.agent_id.len()) {
        return Err(setting("agent_id", "must be 1 to 128 bytes"));
    }
    if config.agent_tenant.is_empty() {
        return Err(setting("agent_tenant", "must not be empty"));
    }
    Ok(())
}

fn recording<'a>(name: &'static str, text: &'a str, must: &str) -> Result<&'a str, Error> {
    text.strip_prefix(REPLAY).filter(|path| !path.is_empty()).ok_or_else(|| setting(name, must))
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    let path = path.as_ref();
    std::fs::read(path).map_err(|cause| Error::Recording { path: path.display().to_string(), cause })
}

fn setting(name: &'static str, reason: impl Into<String>) -> Error {
    Error::Setting { name, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_none_names_its_setting() {
        for (source, gas, name) in [
            ("csv", "none", "agent_source"),
            ("defillama", "replay:", "agent_gas_source"),
            ("defillama", "rpc", "agent_gas_rpc_url"),
        ] {
            let config =
                Config { agent_source: source.into(), agent_gas_source: gas.into(), ..Config::defaults() };
            let error = sources(&config).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let config = Config { agent_source: "replay:nowhere.csv".into(), ..Config::defaults() };
        assert_eq!(sources(&config).unwrap_err().to_string(), "cannot read nowhere.csv");
    }
}
