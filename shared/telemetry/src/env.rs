//! The standard `OTEL_*` variables, from values that were already read.
//!
//! Source: OpenTelemetry specification, "Environment Variable Specification" and "OTLP Exporter Configuration". An
//! empty value counts as unset; a value that cannot be used is left out and named in [`Options::ignored`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::options::{Options, Sampling};

/// The word by which the conventions for generative models are opted into.
const GEN_AI: &str = "gen_ai_latest_experimental";

impl Options {
    /// Applies the standard `OTEL_*` variables among the given ones; others are passed over.
    ///
    /// An `otlp_endpoint` that is set already stays; everything else given here replaces what was there.
    #[must_use]
    pub fn with_otel_env(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut given = Variables {
            values: variables.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect(),
            ignored: Vec::new(),
        };
        self.read_endpoints(&mut given);
        self.read_traces(&mut given);
        set(&mut self.export_interval, given.parsed("OTEL_METRIC_EXPORT_INTERVAL", positive_millis));
        set(&mut self.disabled, given.parsed("OTEL_SDK_DISABLED", boolean));
        let opted = given.text("OTEL_SEMCONV_STABILITY_OPT_IN").unwrap_or_default();
        self.gen_ai.conventions |= opted.split(',').any(|word| word.trim() == GEN_AI);
        let content = given.parsed("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", content);
        set(&mut self.gen_ai.content, content);
        if let Some(pairs) = given.parsed("OTEL_RESOURCE_ATTRIBUTES", pairs) {
            self.resource.extend(pairs);
        }
        // The variable of its own wins over the list of attributes.
        let listed = self.resource.remove(crate::names::SERVICE_NAME);
        if let Some(name) = given.text("OTEL_SERVICE_NAME").or(listed) {
            self.service_name = Some(name);
        }
        self.ignored.append(&mut given.ignored);
        self
    }

    fn read_endpoints(&mut self, given: &mut Variables) {
        if self.otlp_endpoint.is_none() {
            self.otlp_endpoint = given.text("OTEL_EXPORTER_OTLP_ENDPOINT");
        }
        if let Some(url) = given.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            self.traces_endpoint = Some(url);
        }
        if let Some(url) = given.text("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
            self.metrics_endpoint = Some(url);
        }
        if let Some(pairs) = given.parsed("OTEL_EXPORTER_OTLP_HEADERS", pairs) {
            for (name, value) in pairs {
                self.otlp_headers.set(name, value);
            }
        }
        set(&mut self.export_timeout, given.parsed("OTEL_EXPORTER_OTLP_TIMEOUT", positive_millis));
        // Only gRPC is spoken here; another wish is reported, not followed.
        given.parsed("OTEL_EXPORTER_OTLP_PROTOCOL", |protocol| (protocol == "grpc").then_some(()));
    }

    fn read_traces(&mut self, given: &mut Variables) {
        set(&mut self.span_queue, given.parsed("OTEL_BSP_MAX_QUEUE_SIZE", positive));
        set(&mut self.span_delay, given.parsed("OTEL_BSP_SCHEDULE_DELAY", positive_millis));
        let share = given.parsed("OTEL_TRACES_SAMPLER_ARG", share);
        set(
            &mut self.sampling,
            given.parsed("OTEL_TRACES_SAMPLER", |name| sampling(name, share.unwrap_or(1.0))),
        );
    }
}

/// The variables that have a value, and the names of those that could not be used.
struct Variables {
    values: BTreeMap<String, String>,
    ignored: Vec<String>,
}

impl Variables {
    fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|value| value.trim().to_owned())
    }

    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let parsed = parse(&self.text(name)?);
        if parsed.is_none() {
            self.ignored.push(name.to_owned());
        }
        parsed
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn positive(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| *number > 0)
}

fn positive_millis(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Reads where the words of a model are told. They are told in spans only, so that a wish for events alone is not one for us.
fn content(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "span_only" | "span_and_event" => Some(true),
        "false" | "no_content" => Some(false),
        _ => None,
    }
}

fn share(text: &str) -> Option<f64> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share))
}

fn sampling(name: &str, share: f64) -> Option<Sampling> {
    match name {
        "always_on" => Some(Sampling::AlwaysOn),
        "always_off" => Some(Sampling::AlwaysOff),
        "traceidratio" => Some(Sampling::Ratio(share)),
        "parentbased_always_on" => Some(Sampling::ParentAlwaysOn),
        "parentbased_always_off" => Some(Sampling::ParentAlwaysOff),
        "parentbased_traceidratio" => Some(Sampling::ParentRatio(share)),
        _ => None,
    }
}

/// Reads `key=value,key=value` with percent-encoded values (W3C baggage, without properties).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = key.trim();
            if key.is_empty() { None } else { Some((key.to_owned(), percent_decoded(value.trim())?)) }
        })
        .collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> Options {
        Options::new("athena-test")
            .with_otel_env(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn without_variables_the_defaults_stay() {
        let options = options(&[("PATH", "/bin"), ("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]);
        assert_eq!(options.traces_to(), None);
        assert_eq!(options.span_queue, 16_384);
        assert_eq!(options.sampling, Sampling::ParentAlwaysOn);
        assert!(options.ignored.is_empty());
    }

    #[test]
    fn a_signal_can_have_a_collector_of_its_own() {
        let options = options(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://spans:4317"),
        ]);
        assert_eq!(options.traces_to(), Some("http://spans:4317"));
        assert_eq!(options.metrics_to(), Some("http://all:4317"));
    }

    #[test]
    fn an_endpoint_that_is_set_already_stays() {
        let options =
            Options { otlp_endpoint: Some("http://mine:1".to_owned()), ..Options::new("athena-test") }
                .with_otel_env([("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://other:2".to_owned())]);
        assert_eq!(options.traces_to(), Some("http://mine:1"));
    }

    #[test]
    fn disabling_the_sdk_stops_both_exports() {
        let options =
            options(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"), ("OTEL_SDK_DISABLED", "True")]);
        assert_eq!((options.traces_to(), options.metrics_to()), (None, None));
    }

    #[test]
    fn conventions_for_generative_models_are_opted_into_and_their_words_apart() {
        assert_eq!(options(&[]).gen_ai, crate::GenAi::default());
        let both = options(&[
            ("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental"),
            ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY"),
        ]);
        assert!(both.gen_ai.conventions && both.gen_ai.content);
        let events = options(&[("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")]);
        assert!(!events.gen_ai.content && events.ignored.len() == 1, "what cannot be followed is said");
    }

    #[test]
    fn sampler_queue_and_times_are_read() {
        let options = options(&[
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "77"),
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1500"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "900"),
        ]);
        assert_eq!(options.sampling, Sampling::ParentRatio(0.25));
        assert_eq!(options.span_queue, 77);
        assert_eq!(options.span_delay, Duration::from_millis(250));
        assert_eq!(options.export_interval, Duration::from_millis(1500));
        assert_eq!(options.export_timeout, Duration::from_millis(900));
    }

    #[test]
    fn headers_are_decoded_and_their_values_not_shown() {
        let options = options(&[("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=s3cr%20et, x-tenant = blue")]);
        assert_eq!(
            options.otlp_headers.iter().collect::<Vec<_>>(),
            [("api-key", "s3cr et"), ("x-tenant", "blue")]
        );
        assert!(!format!("{options:?}").contains("s3cr"), "{options:?}");
    }

    #[test]
    fn the_service_name_variable_wins_over_the_attribute_list() {
        let list = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-list,deployment.environment.name=lab");
        let listed = options(&[list]);
        assert_eq!(listed.service_name.as_deref(), Some("from-list"));
        assert_eq!(listed.resource["deployment.environment.name"], "lab");
        let named = options(&[list, ("OTEL_SERVICE_NAME", "from-variable")]);
        assert_eq!(named.service_name.as_deref(), Some("from-variable"));
        assert_eq!(named.resource.get("service.name"), None);
    }

    #[test]
    fn values_that_cannot_be_used_are_named_and_change_nothing() {
        let options = options(&[
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "7"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "no-equals-sign"),
            ("OTEL_RESOURCE_ATTRIBUTES", "bad=%zz"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_SDK_DISABLED", "1"),
        ]);
        assert_eq!(options.ignored.len(), 8, "{:?}", options.ignored);
        assert_eq!(options.span_queue, 16_384);
        assert!(!options.disabled);
    }
}
