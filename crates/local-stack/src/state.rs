//! The folder that keeps everything between runs, held by one stack at a time.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustix::{
    fs::{FlockOperation, flock},
    process::getuid,
};
use tempfile::TempDir;

use crate::Result;

/// The user and group `nobody`, as which PostgreSQL runs when the stack is root's: it refuses root.
pub const NOBODY: u32 = 65534;

/// The state folder, locked while the value lives.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    lock: File,
}

impl State {
    /// Takes the folder, making it where it is missing.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot make the state folder {}", path.display()))?;
        let path = path.canonicalize()?;
        let lock = File::create(path.join("lock"))
            .with_context(|| format!("cannot write to {}", path.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => bail!(
                "another stack runs on the state folder {}: stop it, or choose another folder by STATE_DIR",
                path.display()
            ),
            Err(error) => return Err(error).context("cannot lock the state folder"),
        }
        let state = Self { path, lock };
        state.check_reachable()?;
        Ok(state)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder of its own below the state folder for a part that runs as `user()`.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(name);
        own(&folder)?;
        Ok(folder)
    }

    /// Nobody must be able to pass through every folder above.
    fn check_reachable(&self) -> Result<()> {
        if !runs_as_root() {
            return Ok(());
        }
        for folder in self.path.ancestors() {
            if folder.metadata()?.permissions().mode() & 0o001 == 0 {
                bail!(
                    "PostgreSQL does not run as root, and its user (nobody) cannot pass through {}: choose another folder by STATE_DIR, e.g. STATE_DIR=/var/lib/stockyard",
                    folder.display()
                );
            }
        }
        Ok(())
    }
}

impl Drop for State {
    /// Closing the file is not enough: a process that is just being started has a copy of it for a moment.
    fn drop(&mut self) {
        let _closing_it_does_the_same = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// A state folder that goes with the value.
pub fn temporary_folder() -> Result<TempDir> {
    let folder = TempDir::with_prefix("stockyard-")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?; // PostgreSQL's user must pass through
    Ok(folder)
}

/// Makes a folder that only PostgreSQL's user enters.
pub fn own(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    if runs_as_root() {
        chown(folder, Some(NOBODY), Some(NOBODY))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Is this process root's?
pub fn runs_as_root() -> bool {
    getuid().is_root()
}

/// The folder when `STATE_DIR` names none: the XDG state folder, for root one that nobody can reach.
pub fn default_folder(lookup: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    if let Some(folder) = lookup("STATE_DIR") {
        return Ok(folder.into());
    }
    if runs_as_root() {
        return Ok("/var/lib/stockyard".into());
    }
    if let Some(folder) = lookup("XDG_STATE_HOME") {
        return Ok(Path::new(&folder).join("stockyard"));
    }
    let home =
        lookup("HOME").context("neither STATE_DIR nor HOME is set: set STATE_DIR to a folder")?;
    Ok(Path::new(&home).join(".local/state/stockyard"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_stack_on_the_same_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let _first = State::open(folder.path()).unwrap();
        let message = State::open(folder.path()).unwrap_err().to_string();
        assert!(message.starts_with("another stack runs on the state folder"), "{message}");
    }

    #[test]
    fn a_copy_of_the_lock_that_a_new_process_has_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let first = State::open(folder.path()).unwrap();
        let _copy = first.lock.try_clone().unwrap();
        drop(first);
        State::open(folder.path()).unwrap();
    }

    #[test]
    fn the_folder_is_the_one_that_state_dir_names() {
        let folder = default_folder(|name| (name == "STATE_DIR").then(|| "/somewhere".to_owned()));
        assert_eq!(folder.unwrap(), Path::new("/somewhere"));
    }
}
