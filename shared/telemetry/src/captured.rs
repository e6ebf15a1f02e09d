//! Telemetry that stays in memory, for tests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::names;

/// What a [`crate::Telemetry`] made for tests has recorded: finished spans and log lines. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    state: Arc<Mutex<State>>,
    grown: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    service_name: Option<String>,
    spans: Vec<SpanData>,
    log: Vec<u8>,
}

impl Captured {
    /// Returns the finished spans, in the order in which they ended.
    pub fn spans(&self) -> Vec<SpanData> {
        self.state.lock().spans.clone()
    }

    /// Waits until the finished spans fulfil `condition`, and returns them. Bound it by a timeout of the test.
    pub async fn until(&self, condition: impl Fn(&[SpanData]) -> bool) -> Vec<SpanData> {
        loop {
            let mut grown = std::pin::pin!(self.grown.notified());
            // Registered before the look, so that a span that ends in between is not missed.
            grown.as_mut().enable();
            let spans = self.spans();
            if condition(&spans) {
                return spans;
            }
            grown.await;
        }
    }

    /// Returns the `service.name` under which the spans were recorded.
    pub fn service_name(&self) -> Option<String> {
        self.state.lock().service_name.clone()
    }

    /// Returns the log lines, one JSON object each.
    pub fn log_lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.state.lock().log).lines().map(str::to_owned).collect()
    }

    /// Forgets spans and log lines.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.spans.clear();
        state.log.clear();
    }
}

impl SpanProcessor for Captured {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.state.lock().spans.push(span);
        self.grown.notify_waiters();
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        let name = resource.get(&names::SERVICE_NAME.into()).map(|name| name.to_string());
        self.state.lock().service_name = name;
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state.lock().log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
