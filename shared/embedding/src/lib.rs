//! Turns text into vectors.
