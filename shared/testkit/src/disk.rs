//! A disk that is small enough to be filled, and how much room one has.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// A tmpfs of its own, unmounted and gone when dropped. Mounting needs root.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts a disk of `size`, such as `8m`.
    ///
    /// # Panics
    /// Where this may not mount.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test without its disk cannot go on")]
    pub fn mount(size: &str) -> Self {
        let disk = Self(TempDir::new().expect("a folder"));
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(disk.path()));
        disk
    }

    /// Returns the folder it is mounted at.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Mounts it again with other options, such as `size=24m` or `ro`. The kernel refuses `ro` while a file is open for writing.
    ///
    /// # Panics
    /// Where this may not mount.
    pub fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path()));
    }

    /// Takes all the room there is.
    ///
    /// # Panics
    /// If not even an empty file can be made.
    #[expect(clippy::expect_used, reason = "a test without its disk cannot go on")]
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file that fills the disk");
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
    }

    /// Gives back the room that [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// If it was not filled.
    #[expect(clippy::expect_used, reason = "a test without its disk cannot go on")]
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the file that fills the disk");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed has files open on it.
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

/// Returns how many bytes may still be written to the disk that `folder` is on.
///
/// # Errors
/// If there is no such folder.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    Ok(disk.blocks_available() * disk.fragment_size())
}

#[expect(clippy::expect_used, reason = "a test without its disk cannot go on")]
fn run(command: &mut Command) {
    let output = command.output().expect("mount and umount");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} is needed here and failed: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_when_filled_and_has_room_again_and_goes() {
        let disk = SmallDisk::mount("64k");
        let path = disk.path().to_owned();
        assert_eq!(free_bytes(&path).unwrap(), 64 << 10);
        disk.fill();
        assert_eq!(free_bytes(&path).unwrap(), 0);
        let full = fs::write(path.join("one"), "more").unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        disk.make_room();
        fs::write(path.join("one"), "more").unwrap();
        disk.remount("ro");
        let refused = fs::write(path.join("two"), "more").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        drop(disk);
        assert!(!path.exists());
    }
}
