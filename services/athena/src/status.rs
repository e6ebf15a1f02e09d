//! `athena status`: which services answer, whether they serve, and which of the things they can do without are there.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use rpc::{Channel, ChannelOptions, Code, Serving};
use serde_json::json;
use telemetry::Telemetry;

use crate::{Service, reach::Reach};

/// How long one service is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// One service as it was found.
#[derive(Clone, Debug)]
struct Row {
    service: Service,
    address: String,
    state: &'static str,
    /// Its parts by name, such as `memory-service`, with their states.
    parts: Vec<(String, &'static str)>,
}

/// Asks every service at its configured port and returns what to print and whether all serve. A part that is lost takes
/// nothing down and is only shown.
///
/// # Errors
///
/// Fails if an address is no URL.
pub(crate) async fn run(ports: &[(Service, u16)], reach: &Reach, json: bool) -> Result<(String, bool)> {
    let caller = Telemetry::silent("athena");
    let mut rows = Vec::new();
    for (service, port) in ports {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        let options = ChannelOptions { timeout: PATIENCE, retries: 0, ..reach.options() };
        let channel = Channel::lazy(&reach.url(address), options, caller.clone())?;
        let address = address.to_string();
        rows.push(match rpc::states(&channel).await {
            Ok(states) => row(*service, address, &states),
            Err(fault) => {
                // Something speaks gRPC there, but is not what was asked for.
                let other = matches!(fault.code(), Code::Unimplemented | Code::NotFound);
                let state = if other { "another program" } else { "no answer" };
                Row { service: *service, address, state, parts: Vec::new() }
            }
        });
    }
    let all = rows.iter().all(|row| row.state == "serving");
    Ok((if json { as_json(&rows, all) } else { as_table(&rows) }, all))
}

fn row(service: Service, address: String, states: &BTreeMap<String, Serving>) -> Row {
    let name = service.health_name();
    let state = match states.get(name) {
        Some(Serving::Yes) => "serving",
        Some(Serving::No) => "not serving",
        Some(Serving::Unknown) | None => "another program",
    };
    let part = |(full, state): (&String, &Serving)| {
        let part = full.strip_prefix(name)?.strip_prefix('/')?;
        let state = match state {
            Serving::Yes => "serving",
            Serving::No => "not serving",
            Serving::Unknown => "not heard of yet",
        };
        Some((part.to_owned(), state))
    };
    Row { service, address, state, parts: states.iter().filter_map(part).collect() }
}

fn as_json(rows: &[Row], all: bool) -> String {
    let services: Vec<_> = rows
        .iter()
        .map(|row| {
            let parts: serde_json::Map<_, _> =
                row.parts.iter().map(|(part, state)| (part.clone(), json!(state))).collect();
            json!({ "service": row.service.name(), "address": row.address, "state": row.state, "parts": parts })
        })
        .collect();
    format!("{:#}\n", json!({ "services": services, "serving": all }))
}

fn as_table(rows: &[Row]) -> String {
    let head = format!("  {:<18} {:<22} {}\n", "service", "address", "state");
    let lines = rows.iter().flat_map(|row| {
        let line = format!("  {:<18} {:<22} {}\n", row.service, row.address, row.state);
        let part = |(part, state): &(String, &str)| format!("    {part:<16} {:<22} {state}\n", "");
        std::iter::once(line).chain(row.parts.iter().map(part)).collect::<Vec<_>>()
    });
    std::iter::once(head).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_shown_with_its_parts_and_no_other_names() {
        let states = [
            ("", Serving::Yes),
            ("athena.agent.v1.OrchestratorService", Serving::Yes),
            ("athena.agent.v1.OrchestratorService/monitor", Serving::No),
            ("athena.agent.v1.OrchestratorService/llm-gateway", Serving::Unknown),
            ("liveness", Serving::Yes),
        ];
        let states = states.into_iter().map(|(name, state)| (name.to_owned(), state)).collect();
        let row = row(Service::Orchestrator, "127.0.0.1:1".to_owned(), &states);
        assert_eq!(row.state, "serving");
        let table = as_table(std::slice::from_ref(&row));
        let words: Vec<Vec<&str>> =
            table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["orchestrator", "127.0.0.1:1", "serving"]);
        assert_eq!(words[1], ["llm-gateway", "not", "heard", "of", "yet"]);
        assert_eq!(words[2], ["monitor", "not", "serving"]);
        let json: serde_json::Value = serde_json::from_str(&as_json(&[row], true)).unwrap();
        assert_eq!(json["services"][0]["parts"]["monitor"], "not serving");
    }

    #[test]
    fn a_host_without_the_service_is_another_program() {
        let row = row(Service::Monitor, String::new(), &BTreeMap::from([(String::new(), Serving::Yes)]));
        assert_eq!((row.state, row.parts.len()), ("another program", 0));
    }
}
