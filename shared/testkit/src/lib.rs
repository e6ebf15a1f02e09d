//! Fakes for tests, and for benchmarks behind the feature `bench`; never in a shipped image.
