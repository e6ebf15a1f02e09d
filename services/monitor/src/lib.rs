//! Takes OpenTelemetry in and shows whether the mesh meets its targets.
