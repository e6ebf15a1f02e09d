//! The names that probes ask for, put to running services.

use anyhow::Result;
use athena::Service;
use serde_json::Value;
use tests::House;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::manifest::{Manifest, files, stem, text};

const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];

/// Returns every name that a probe below `value` asks for; none is `""`, the host as a whole.
fn asked(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| match PROBES.contains(&name.as_str()) {
                true => vec![text(&field["grpc"]["service"]).to_owned()],
                false => asked(field),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(asked).collect(),
        _ => Vec::new(),
    }
}

/// Returns a line for each name that a service does not know.
async fn unknown(house: &House, asked: Vec<(String, Service, String)>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (path, service, name) in asked {
        let mut client = HealthClient::new(house.mesh.channel(service)?);
        let answer = client.check(HealthCheckRequest { service: name.clone() }).await;
        match answer {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {
                lines.push(format!("{path}: {service} has no health of the name {name:?}"));
            }
            Err(status) => return Err(status.into()),
        }
    }
    Ok(lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_that_is_asked_for_is_there() -> Result<()> {
    let house = House::open().await?;
    let mut all = Vec::new();
    for (path, text) in ["kubernetes", "cloud-run"].into_iter().flat_map(files) {
        let Some(service) = Service::named(stem(&path)) else { continue };
        let manifest = Manifest::parse(&text).map_err(anyhow::Error::msg)?;
        let names: Vec<String> = manifest.documents().iter().flat_map(asked).collect();
        assert!(names.len() >= 2, "{path}: asks for {names:?} only");
        all.extend(names.into_iter().map(|name| (path.clone(), service, name)));
    }
    crate::none(unknown(&house, all).await?);

    let made_up = ("a".to_owned(), Service::Monitor, "athena.llm.v1.LlmGatewayService".to_owned());
    assert_eq!(unknown(&house, vec![made_up]).await?.len(), 1);
    house.close().await
}
