//! One rpc as it is seen by telemetry: its span and its duration, on either side.

use std::{borrow::Cow, fmt, time::Instant};

use http::HeaderMap;
use telemetry::{Histogram, KeyValue, Telemetry, names};
use tonic::{Code, Status};
use tracing::{Span, field::Empty};

use crate::code_name;

/// The side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It is answered here.
    Server,
    /// It is made here.
    Client,
}

/// Records one rpc when it ends; a call that is dropped before was cancelled.
#[derive(Debug)]
pub(crate) struct Call {
    side: Side,
    method: Cow<'static, str>,
    server: Option<String>,
    span: Span,
    histogram: Histogram,
    started: Instant,
    ended: bool,
    /// Who wants to know how it ends.
    listener: Option<Box<dyn Ending>>,
}

/// Is told how a call ends; dropped before, it learns that the call says nothing about its server.
pub(crate) trait Ending: fmt::Debug + Send + Sync {
    /// Takes what the server says at the end of its answer beside the code.
    fn told(&mut self, trailers: &HeaderMap);

    /// Takes the code.
    fn end(self: Box<Self>, code: Code);
}

impl Call {
    /// Begins to measure a call that is answered here; `method` is `package.Service/Method`.
    pub(crate) fn answered(method: Cow<'static, str>, span: Span, histogram: Histogram) -> Self {
        Self::begin(Side::Server, method, None, span, histogram)
    }

    /// Begins to measure a call that is made to `server`.
    pub(crate) fn made(method: &str, server: &str, span: Span, histogram: Histogram) -> Self {
        Self::begin(Side::Client, method.to_owned().into(), Some(server.to_owned()), span, histogram)
    }

    fn begin(
        side: Side,
        method: Cow<'static, str>,
        server: Option<String>,
        span: Span,
        histogram: Histogram,
    ) -> Self {
        Self { side, method, server, span, histogram, started: Instant::now(), ended: false, listener: None }
    }

    /// Keeps `listener` until the end, which it is then told.
    pub(crate) fn hold(&mut self, listener: Box<dyn Ending>) {
        self.listener = Some(listener);
    }

    /// Takes what the server says at the end of its answer beside the code.
    pub(crate) fn told(&mut self, trailers: &HeaderMap) {
        if let Some(listener) = &mut self.listener {
            listener.told(trailers);
        }
    }

    /// Records that the connection broke, which says nothing about the server.
    pub(crate) fn broke(&mut self, code: Code) {
        self.listener = None;
        self.end(code);
    }

    /// Returns the span, as long as the call has not ended.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Records the end; only the first one counts.
    pub(crate) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(listener) = self.listener.take() {
            listener.end(code);
        }
        let name = code_name(code);
        self.span.record(names::RPC_RESPONSE_STATUS_CODE, name);
        if self.is_error(code) {
            self.span.record("otel.status_code", "ERROR");
            self.span.record(names::ERROR_TYPE, name);
        }
        // Whoever asks for methods that do not exist could otherwise make any number of series.
        let method = std::mem::take(&mut self.method);
        let method = if code == Code::Unimplemented { Cow::Borrowed("_OTHER") } else { method };
        let shared = [
            KeyValue::new(names::RPC_SYSTEM_NAME, names::GRPC),
            KeyValue::new(names::RPC_METHOD, method),
            KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, name),
        ];
        let took = self.started.elapsed().as_secs_f64();
        // Inside the span, so that the measurement belongs to its trace, and the span ends now.
        self.span.in_scope(|| match self.server.take() {
            None => self.histogram.record(took, &shared),
            Some(server) => {
                let [system, method, code] = shared;
                let server = KeyValue::new(names::SERVER_ADDRESS, server);
                self.histogram.record(took, &[system, method, code, server]);
            }
        });
        // The call is over now, and not when its body is dropped.
        self.span = Span::none();
    }

    /// OpenTelemetry's rules for gRPC: a server's span fails for what is the server's fault only.
    fn is_error(&self, code: Code) -> bool {
        match self.side {
            Side::Client => code != Code::Ok,
            Side::Server => matches!(
                code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Opens the span of a call that is answered here, as a child of the caller's.
pub(crate) fn server_span(telemetry: &Telemetry, method: &str, headers: &HeaderMap, peer: &str) -> Span {
    let span = telemetry.in_scope(|| {
        tracing::info_span!(
            parent: None,
            "rpc",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system.name = names::GRPC,
            rpc.method = method,
            rpc.response.status_code = Empty,
            error.type = Empty,
            client.address = peer,
        )
    });
    telemetry::set_parent(&span, telemetry::extract(headers));
    span
}

/// Opens the span of an HTTP request that is answered here, as a child of the caller's.
pub(crate) fn http_span(
    telemetry: &Telemetry,
    method: &http::Method,
    path: &str,
    headers: &HeaderMap,
) -> Span {
    let span = telemetry.in_scope(|| {
        tracing::info_span!(
            parent: None,
            "http",
            otel.name = format!("{method} {path}"),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method.as_str(),
            url.path = path,
            http.response.status_code = Empty,
        )
    });
    telemetry::set_parent(&span, telemetry::extract(headers));
    span
}

/// Opens the span of a call that is made here, as a child of the current one.
pub(crate) fn client_span(telemetry: &Telemetry, method: &str, host: &str, port: u16) -> Span {
    telemetry.in_scope(|| {
        tracing::info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system.name = names::GRPC,
            rpc.method = method,
            rpc.response.status_code = Empty,
            error.type = Empty,
            server.address = host,
            server.port = port,
            rpc.retries = Empty,
        )
    })
}

/// Reads the code of headers or trailers; `None` if they carry none.
pub(crate) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}
