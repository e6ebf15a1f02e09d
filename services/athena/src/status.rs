//! `athena status`: which services answer, and whether they serve.

use std::time::Duration;

use anyhow::Result;
use rpc::{Channel, ChannelOptions};
use serde_json::json;
use telemetry::Telemetry;

use crate::{Service, clients};

/// How long one service is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks every service at its configured port and returns what to print and whether all serve.
///
/// # Errors
///
/// Fails if an address is no URL.
pub(crate) async fn run(ports: &[(Service, u16)], json: bool) -> Result<(String, bool)> {
    let caller = Telemetry::silent("athena");
    let mut rows = Vec::new();
    for (service, port) in ports {
        let address = format!("127.0.0.1:{port}");
        let options = ChannelOptions { timeout: PATIENCE, retries: 0, ..ChannelOptions::default() };
        let channel = Channel::lazy(&format!("http://{address}"), options, caller.clone())?;
        let state = match clients::health(channel, service.health_name()).await {
            Ok(clients::Health::Serving) => "serving",
            Ok(clients::Health::NotServing) => "not serving",
            Ok(clients::Health::Unknown) => "another program",
            Err(_) => "no answer",
        };
        rows.push((*service, address, state));
    }
    let all = rows.iter().all(|(_, _, state)| *state == "serving");
    let text = if json {
        let services: Vec<_> = rows
            .iter()
            .map(|(service, address, state)| json!({ "service": service.name(), "address": address, "state": state }))
            .collect();
        format!("{:#}\n", json!({ "services": services, "serving": all }))
    } else {
        let line = |(service, address, state): &(Service, String, &str)| {
            format!("  {service:<16} {address:<22} {state}\n")
        };
        let head = format!("  {:<16} {:<22} {}\n", "service", "address", "state");
        std::iter::once(head).chain(rows.iter().map(line)).collect()
    };
    Ok((text, all))
}
