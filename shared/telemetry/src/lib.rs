//! Installs tracing and metrics as a value, and owns every metric and span name.
