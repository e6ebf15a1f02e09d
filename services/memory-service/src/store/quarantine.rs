//! What is done with a file that cannot be read: it is moved aside, whole, and never looked at again by itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use redb::{DatabaseError, Error as Database, StorageError};

/// What stands behind the name of the file, before a number.
const MARK: &str = "quarantine-";

/// Moves `file` aside and returns where to.
///
/// # Errors
/// Fails if the file cannot be renamed.
pub(super) fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let free = (1_u32..).map(|number| named(file, number)).find(|path| !path.exists());
    let to = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(file, &to)?;
    Ok(to)
}

/// Returns the files that were moved aside and are still there.
pub(crate) fn held(file: &Path) -> Vec<PathBuf> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(Ok(folder)) = file.parent().map(fs::read_dir) else { return Vec::new() };
    let paths = folder.filter_map(|entry| Some(entry.ok()?.path()));
    let ours = |path: &PathBuf| {
        let rest = path.file_name()?.to_str()?.strip_prefix(&name)?.strip_prefix('.')?;
        rest.strip_prefix(MARK)?.parse::<u32>().ok()
    };
    paths.filter(|path| ours(path).is_some()).collect()
}

fn named(file: &Path, number: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{MARK}{number}"));
    name.into()
}

/// Returns whether opening failed because of what the file holds, and not because of the disk or of another process.
pub(super) fn is_damage(error: &journal::Error) -> bool {
    match error {
        journal::Error::Open(error) => match &**error {
            DatabaseError::RepairAborted => true,
            DatabaseError::Storage(error) => is_storage_damage(error),
            _ => false,
        },
        // The thread ended before it could say why: redb panics on some files.
        journal::Error::Thread(error) => error.kind() == io::ErrorKind::BrokenPipe,
        journal::Error::Folder(_) => false,
    }
}

/// Returns whether reading failed because of what the file holds.
pub(super) fn is_read_damage(error: &Database) -> bool {
    match error {
        Database::Corrupted(_)
        | Database::TableTypeMismatch { .. }
        | Database::TableIsMultimap(_)
        | Database::TableIsNotMultimap(_)
        | Database::TypeDefinitionChanged { .. } => true,
        Database::Io(error) => is_cut(error),
        _ => false,
    }
}

fn is_storage_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupted(_) => true,
        StorageError::Io(error) => is_cut(error),
        _ => false,
    }
}

/// Says whether the file is shorter than it says, or of another kind.
fn is_cut(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{held, set_aside};

    #[test]
    fn files_are_set_aside_beside_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.redb");
        assert!(held(&file).is_empty());
        for content in ["one", "two"] {
            fs::write(&file, content).unwrap();
            set_aside(&file).unwrap();
        }
        fs::write(folder.path().join("memory.redb.quarantine-x"), "not one of ours").unwrap();
        assert!(!file.exists());
        let mut found = held(&file);
        found.sort();
        let contents: Vec<_> = found.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(contents, ["one", "two"]);
        assert!(found[0].ends_with("memory.redb.quarantine-1"));
    }
}
