//! OpenTelemetry's messages into points and spans. What cannot be read is counted with its reason and never fails the
//! rest of an export.

mod metrics;
mod spans;
mod text;

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest, common::v1::KeyValue, resource::v1::Resource,
};
use telemetry::names;

pub(crate) use metrics::points;
pub(crate) use spans::spans;

use crate::series::point::Source;

/// Name of a service whose resource names none, as OpenTelemetry has it.
const UNKNOWN: &str = "unknown_service";

/// Counts the records of an export of logs.
pub(crate) fn log_records(request: &ExportLogsServiceRequest) -> u64 {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.map(|scope| scope.log_records.len() as u64).sum()
}

fn source(resource: Option<&Resource>) -> Source {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let find = |key: &str| attributes.iter().find(|attribute| attribute.key == key).map(value);
    Source {
        service: find(names::SERVICE_NAME)
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| UNKNOWN.to_owned()),
        instance: find(names::SERVICE_INSTANCE_ID).unwrap_or_default(),
    }
}

fn pairs(attributes: &[KeyValue]) -> Vec<(String, String)> {
    attributes.iter().take(text::MOST_ATTRIBUTES).map(|pair| (text::cut(&pair.key), value(pair))).collect()
}

fn value(attribute: &KeyValue) -> String {
    attribute.value.as_ref().map(text::of).unwrap_or_default()
}
