//! The scripts of kustomize/components/backup, as its jobs run them.

use std::{fs, path::Path, process::Output};

use local_stack::Stack;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{get, item, order, place, settings, start};

/// Runs a script on the stack's databases.
async fn run(script: &str, stack: &Stack, backups: &Path, further: &[(&str, &str)]) -> Output {
    let url = stack.database_url("orders");
    let host = url.split(' ').find_map(|part| part.strip_prefix("host=")).unwrap();
    let programs = settings(backups).postgres;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kustomize/components/backup");
    let passwords = TempDir::new().unwrap();
    for database in ["orders", "inventory"] {
        fs::write(passwords.path().join(database), "not asked for by this server").unwrap();
    }
    let mut command = Command::new("/bin/sh"); // not every PATH has one
    command.arg(scripts.join(script)).env("PATH", path).env("PGHOST", host);
    command.env("BACKUPS", backups).env("PASSWORDS", passwords.path()).env("KEEP", "2");
    command.envs(further.iter().copied()).output().await.unwrap()
}

async fn succeeds(script: &str, stack: &Stack, backups: &Path, further: &[(&str, &str)]) {
    let output = run(script, stack, backups, further).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_gives_back_the_state_of_the_backup() {
    let state = local_stack::state::temporary_folder().unwrap();
    let stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    let list = || async { get(&stack, "/api/v1/orders").await.json() };

    place(&stack, "before", order("BOLT-M8", 2)).await;
    let (orders, bolts) = (list().await, item(&stack, "BOLT-M8").await);
    succeeds("backup.sh", &stack, backups.path(), &[]).await;
    place(&stack, "after", order("BOLT-M8", 3)).await;
    assert_ne!(list().await, orders);

    succeeds("restore.sh", &stack, backups.path(), &[]).await;
    assert_eq!((list().await, item(&stack, "BOLT-M8").await), (orders, bolts));
    assert!(place(&stack, "later", order("BOLT-M8", 1)).await.status.is_success());
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_broken_backups_are_removed_and_the_newest_are_kept() {
    let state = local_stack::state::temporary_folder().unwrap();
    let stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    for old in ["20250101T000000Z", "20250102T000000Z", "20250103T000000Z.partial"] {
        fs::create_dir(backups.path().join(old)).unwrap();
    }

    succeeds("backup.sh", &stack, backups.path(), &[]).await;
    let kept = names(backups.path());
    assert_eq!((kept.len(), kept[0].as_str()), (2, "20250102T000000Z"));
    assert_eq!(names(&backups.path().join(&kept[1])), ["inventory", "orders"]);

    let output = run("restore.sh", &stack, backups.path(), &[("BACKUP", "yesterday")]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no"), "{output:?}");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_fails_leaves_no_backup_and_removes_none() {
    let state = local_stack::state::temporary_folder().unwrap();
    let stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    for old in ["20250101T000000Z", "20250102T000000Z", "20250103T000000Z"] {
        fs::create_dir(backups.path().join(old)).unwrap();
    }
    let output = run("backup.sh", &stack, backups.path(), &[("PGPORT", "1")]).await;
    assert!(!output.status.success());
    let whole = names(backups.path()).into_iter().filter(|name| name.ends_with('Z'));
    assert_eq!(whole.count(), 3);
    stack.stop().await.unwrap();
}
