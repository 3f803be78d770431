//! The gateway's API keys on this machine: made once, kept in the state folder.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Result;

/// Their folder, in the state folder.
const FOLDER: &str = "api-keys";
/// The file of the key's text.
const KEY: &str = "key";
/// The file that the gateway knows keys by.
const KEYS: &str = "keys.json";
/// The file of the key that sessions are signed with.
const SESSION_KEY: &str = "session-key";
/// How many requests a second the key may send: no limit in practice, load tests and crash rounds use it too.
const REQUESTS_PER_SECOND: u32 = 100_000;

/// The keys of a state folder.
#[derive(Debug)]
pub struct ApiKeys {
    folder: PathBuf,
    key: String,
}

impl ApiKeys {
    /// Takes the keys of a state folder, making them where there are none.
    pub fn open(state: &Path) -> Result<Self> {
        let folder = state.join(FOLDER);
        if !folder.exists() {
            make(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let key = read(state)?;
        Ok(Self { folder, key })
    }

    /// The text of the key, which may write.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The gateway's settings.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let path = |file: &str| self.folder.join(file).display().to_string();
        [("API_KEYS_FILE", path(KEYS)), ("SESSION_KEY_FILE", path(SESSION_KEY))]
    }
}

/// The text of a state folder's key.
///
/// # Errors
/// Says what to do when there is none.
pub fn read(state: &Path) -> Result<String> {
    let file = state.join(FOLDER).join(KEY);
    match fs::read_to_string(&file) {
        Ok(key) => Ok(key.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "there is no API key in {}: `local-stack up` (`nix run`) makes one at its first start; STATE_DIR chooses another folder",
            state.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Makes the folder beside its place, and moves it there once it is whole.
fn make(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("it has no parent folder")?;
    let mut private = tempfile::Builder::new();
    private.prefix(".api-keys-").permissions(Permissions::from_mode(0o700));
    let new = private.tempdir_in(parent)?;
    let key = random()?;
    let keys = json!([{
        "name": "local",
        "sha256": hex(&Sha256::digest(&key)),
        "may": "write",
        "requests_per_second": REQUESTS_PER_SECOND,
    }]);
    for (name, text) in
        [(KEY, format!("{key}\n")), (KEYS, format!("{keys}\n")), (SESSION_KEY, random()?)]
    {
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(new.path().join(name));
        let mut file = file?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?; // a crash of the machine after the move must not leave it empty
    }
    fs::rename(new.path(), folder)?;
    Ok(())
}

/// 32 bytes of the kernel's, as hexadecimal digits.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn keys_are_made_once_for_their_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let message = read(state.path()).unwrap_err().to_string();
        assert!(message.contains("`local-stack up` (`nix run`) makes one"), "{message}");

        let keys = ApiKeys::open(state.path()).unwrap();
        assert_eq!(keys.key().len(), 64);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keys.folder), 0o700);
        for file in fs::read_dir(&keys.folder).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        let entries = fs::read_dir(state.path()).unwrap();
        assert_eq!(entries.count(), 1, "what was used on the way is gone");

        let again = ApiKeys::open(state.path()).unwrap();
        assert_eq!(again.key(), keys.key());
        assert_eq!(read(state.path()).unwrap(), keys.key());
    }

    #[test]
    fn the_gateway_is_given_the_keys_digest() {
        let state = tempfile::tempdir().unwrap();
        let keys = ApiKeys::open(state.path()).unwrap();
        let [(_, known), (_, session)] = keys.environment();
        let known: Value = serde_json::from_str(&fs::read_to_string(known).unwrap()).unwrap();
        let sha256 = hex(&Sha256::digest(keys.key()));
        let expected = json!([{"name": "local", "sha256": sha256, "may": "write", "requests_per_second": 100_000}]);
        assert_eq!(known, expected);
        assert_eq!(fs::read_to_string(session).unwrap().len(), 64);
    }
}
