//! The bounds of a journal as settings.

use std::time::Duration;

use config::ByteSize;

use crate::Options;

config::settings! {
    /// Settings of every journal: what may wait for it, and how it deals with a disk that takes no writes.
    pub struct Settings {
        /// Most writes to the service's file that are queued or being committed; further ones wait for room.
        pub journal_queue_writes: u32 = "4096", unit "writes", range "1" to "1000000";
        /// Most bytes of those writes.
        pub journal_queue_bytes: ByteSize = "64MiB", unit "bytes", range "64KiB" to "64GiB";
        /// Longest time, wall time, that a write waits for room before it is refused.
        pub journal_queue_wait: Duration = "5s", unit "duration", range "0s" to "10m";
        /// Most writes that share one commit.
        pub journal_batch_writes: usize = "1024", unit "writes", range "1" to "1000000";
        /// Time, wall time, between two tries of a disk that takes no writes.
        pub journal_retry_interval: Duration = "1s", unit "duration", range "1ms" to "10m";
        /// Bytes that must find room on a full disk before writes go on.
        pub journal_spare_bytes: ByteSize = "1MiB", unit "bytes", range "4KiB" to "1GiB";
    }
}

impl Settings {
    /// Returns how a journal is opened by these settings, with a page cache of `cache` and without quick repair.
    #[must_use]
    pub fn options(&self, cache: ByteSize) -> Options {
        Options {
            cache_bytes: bytes(cache),
            quick_repair: false,
            queue: self.journal_queue_writes,
            queue_bytes: bytes(self.journal_queue_bytes),
            batch: self.journal_batch_writes,
            patience: self.journal_queue_wait,
            retry: self.journal_retry_interval,
            spare_bytes: bytes(self.journal_spare_bytes),
        }
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::{ByteSize, Sources};

    use super::Settings;

    #[test]
    fn every_setting_reaches_the_journal() {
        let given = [
            ("queue_writes", "2"),
            ("queue_bytes", "128KiB"),
            ("queue_wait", "3s"),
            ("batch_writes", "4"),
            ("retry_interval", "50ms"),
            ("spare_bytes", "8KiB"),
        ];
        let flags = given.map(|(name, value)| (format!("journal_{name}"), value.to_owned()));
        let options =
            Settings::load(&Sources::none().with_flags(flags)).unwrap().options(ByteSize::new(1 << 20));
        assert_eq!((options.cache_bytes, options.quick_repair), (1 << 20, false));
        assert_eq!((options.queue, options.queue_bytes, options.batch), (2, 128 << 10, 4));
        assert_eq!((options.patience, options.retry), (Duration::from_secs(3), Duration::from_millis(50)));
        assert_eq!(options.spare_bytes, 8 << 10);
    }
}
