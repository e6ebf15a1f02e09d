//! What another process used, as Linux tells it.

use std::{fs, io, time::Duration};

/// Length of a tick of `/proc/PID/stat`: the kernel's `USER_HZ` is 100 on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);

/// A running process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// Names the process with this id.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self(id)
    }

    /// Returns the CPU time its threads have used so far, in user mode and in the kernel, in steps of 10 ms.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn cpu(self) -> io::Result<Duration> {
        let stat = self.read("stat")?;
        // The name, second of the fields, may hold blanks and parentheses; utime and stime are the 14th and the 15th.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u32>);
        match (ticks.next(), ticks.next()) {
            (Some(Ok(user)), Some(Ok(system))) => Ok(TICK * (user + system)),
            _ => Err(io::Error::other("no CPU time in /proc")),
        }
    }

    /// Returns its resident memory in bytes.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn resident(self) -> io::Result<u64> {
        self.bytes("VmRSS:")
    }

    /// Returns the part of its resident memory in bytes that is its own: without pages of its program and other files, which the
    /// system can take away and may share.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn anonymous(self) -> io::Result<u64> {
        self.bytes("RssAnon:")
    }

    fn bytes(self, field: &str) -> io::Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {field} in /proc")))
    }

    fn read(self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let this = Process::new(std::process::id());
        let before = this.cpu().unwrap();
        while this.cpu().unwrap() == before {}
        assert!(this.resident().unwrap() > this.anonymous().unwrap());
    }

    #[test]
    fn a_process_that_is_none_is_an_error() {
        assert!(Process::new(u32::MAX).cpu().is_err());
    }
}
