//! What another process used, as Linux tells it.

use std::{fs, io, time::Duration};

use nix::{time::clock_getcpuclockid, unistd::Pid};

/// A running process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// Names the process with this id.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self(id)
    }

    /// Returns the CPU time its threads have used so far, in user mode and in the kernel.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu(self) -> io::Result<Duration> {
        let id = i32::try_from(self.0).map_err(io::Error::other)?;
        Ok(clock_getcpuclockid(Pid::from_raw(id))?.now()?.into())
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
