//! A measured cache: TTL on the agent clock, capacity, statistics.
