//! What another process used, as Linux tells it, and its end.

use std::{fs, io, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    time::clock_getcpuclockid,
    unistd::Pid,
};

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
        Ok(clock_getcpuclockid(self.pid()?)?.now()?.into())
    }

    /// Asks it to stop (SIGTERM).
    ///
    /// # Errors
    /// If it has ended.
    pub fn terminate(self) -> io::Result<()> {
        Ok(kill(self.pid()?, Signal::SIGTERM)?)
    }

    /// Returns its resident memory in bytes.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn resident(self) -> io::Result<u64> {
        self.bytes("VmRSS:")
    }

    /// Returns the most resident memory in bytes that it ever had.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn peak(self) -> io::Result<u64> {
        self.bytes("VmHWM:")
    }

    /// Returns the part of its resident memory in bytes that is its own: without pages of its program and other files, which the
    /// system can take away and may share.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn anonymous(self) -> io::Result<u64> {
        self.bytes("RssAnon:")
    }

    fn pid(self) -> io::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.0).map_err(io::Error::other)?))
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
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let this = Process::new(std::process::id());
        let before = this.cpu().unwrap();
        while this.cpu().unwrap() == before {}
        assert!(this.resident().unwrap() > this.anonymous().unwrap());
        assert!(this.peak().unwrap() >= this.anonymous().unwrap());
    }

    #[test]
    fn a_process_that_is_asked_to_stop_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        Process::new(child.id()).terminate().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
    }

    #[test]
    fn a_process_that_is_none_is_an_error() {
        assert!(Process::new(u32::MAX).cpu().is_err());
        assert!(Process::new(u32::MAX).terminate().is_err());
    }
}
