//! The settings of every channel to another service.

use std::{sync::Arc, time::Duration};

use crate::{BreakerOptions, ChannelOptions, net::Tcp};

config::settings! {
    /// Settings of the channels to other services.
    pub struct PeerSettings {
        /// Longest time to wait for a connection, for a name's addresses, and for a server's word on its health.
        pub peer_connect_timeout: Duration = "2s", unit "duration", range "10ms" to "1m";
        /// How often a call is repeated that a server has seen, if its contract allows that and the server is UNAVAILABLE.
        pub peer_retries: u32 = "2", unit "repetitions", range "0" to "4";
        /// Share of a channel's calls that may be such repetitions.
        pub peer_retry_percent: u32 = "20", unit "percent", range "0" to "100";
        /// Repetitions that are allowed beside that share.
        pub peer_retries_per_second: u32 = "10", unit "repetitions a second", range "0" to "10000";
        /// Idle time after which a server is asked whether it lives.
        pub peer_keepalive_interval: Duration = "10s", unit "duration", range "1s" to "1h";
        /// Time it has to answer that, before the connection counts as broken.
        pub peer_keepalive_timeout: Duration = "5s", unit "duration", range "100ms" to "1m";
        /// How old a name's addresses may be before they are looked up again.
        pub peer_resolve_interval: Duration = "15s", unit "duration", range "1s" to "1h";
        /// Failures in a row that open the breaker of a server.
        pub peer_breaker_failures: u32 = "5", unit "calls", range "1" to "1000";
        /// Share of successes below which it opens.
        pub peer_breaker_success_percent: u32 = "50", unit "percent", range "0" to "100";
        /// Calls without which that share says nothing.
        pub peer_breaker_least_calls: u32 = "20", unit "calls", range "1" to "100000";
        /// Over which time the share is taken.
        pub peer_breaker_window: Duration = "10s", unit "duration", range "1s" to "10m";
        /// How long a breaker is open the first time; it doubles with each time.
        pub peer_breaker_open: Duration = "1s", unit "duration", range "10ms" to "1m";
        /// Longest time a breaker is open.
        pub peer_breaker_longest_open: Duration = "5s", unit "duration", range "10ms" to "10m";
    }
}

impl PeerSettings {
    /// Returns how a channel calls by these settings: over this machine's network, with no token and no authority of its own.
    #[must_use]
    pub fn channel(&self) -> ChannelOptions {
        ChannelOptions {
            timeout: Duration::from_secs(10),
            connect_timeout: self.peer_connect_timeout,
            token: None,
            retries: self.peer_retries,
            retry_percent: self.peer_retry_percent,
            retries_per_second: self.peer_retries_per_second,
            max_message_bytes: 16 << 20,
            keepalive_interval: self.peer_keepalive_interval,
            keepalive_timeout: self.peer_keepalive_timeout,
            resolve_interval: self.peer_resolve_interval,
            breaker: self.breaker(),
            tls_ca: None,
            network: Arc::new(Tcp),
            seed: None,
        }
    }

    fn breaker(&self) -> BreakerOptions {
        BreakerOptions {
            failures: self.peer_breaker_failures,
            success_percent: self.peer_breaker_success_percent,
            least_calls: self.peer_breaker_least_calls,
            window: self.peer_breaker_window,
            open: self.peer_breaker_open,
            longest_open: self.peer_breaker_longest_open,
        }
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        PeerSettings::defaults().channel()
    }
}

impl Default for BreakerOptions {
    fn default() -> Self {
        PeerSettings::defaults().breaker()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_that_the_options_tell() {
        let options = ChannelOptions::default();
        assert_eq!((options.retries, options.retry_percent, options.retries_per_second), (2, 20, 10));
        assert_eq!(options.connect_timeout, Duration::from_secs(2));
        assert_eq!(options.keepalive_interval, Duration::from_secs(10));
        assert_eq!(options.keepalive_timeout, Duration::from_secs(5));
        assert_eq!(options.resolve_interval, Duration::from_secs(15));
        let breaker = BreakerOptions {
            failures: 5,
            success_percent: 50,
            least_calls: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(1),
            longest_open: Duration::from_secs(5),
        };
        assert_eq!(options.breaker, breaker);
    }
}
