//! Serves and calls gRPC: health, reflection, deadlines, retries, authentication; the one place a `Status` is made.
