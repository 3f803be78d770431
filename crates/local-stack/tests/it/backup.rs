//! The scripts of kustomize/components/backup, as its jobs run them.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use local_stack::{Service, Stack, laws::Databases};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{get, item, order, place, settings, start, until};

/// The services that write to the databases.
const WRITERS: [Service; 2] = [Service::Inventory, Service::Orders];

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

/// A PATH on which inventory's session hears each command 0.3 s later: between the snapshots of both databases there is
/// time for orders.
struct SlowInventory {
    path: String,
    _folder: TempDir,
}

impl SlowInventory {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let programs = settings(folder.path()).postgres;
        let real = programs.join("psql");
        let script = format!(
            "#!/bin/sh
case \"$*\" in
*--dbname=inventory*) while read -r line; do sleep 0.3; echo \"$line\"; done | {real} \"$@\" ;;
*) exec {real} \"$@\" ;;
esac
",
            real = real.display()
        );
        let psql = folder.path().join("psql");
        fs::write(&psql, script).unwrap();
        fs::set_permissions(&psql, Permissions::from_mode(0o755)).unwrap();
        let rest = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{rest}", folder.path().display(), programs.display());
        Self { path, _folder: folder }
    }
}

/// Puts the databases back, without the services that write to them.
async fn restore(stack: &mut Stack, backups: &Path) {
    for service in WRITERS {
        stack.end(service, Signal::TERM).await.unwrap();
    }
    succeeds("restore.sh", stack, backups, &[]).await;
    for service in WRITERS {
        stack.start_service(service).await.unwrap();
    }
    stack.await_ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_gives_back_the_state_of_the_backup() {
    let state = local_stack::state::temporary_folder().unwrap();
    let mut stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    let list = async |stack: &Stack| get(stack, "/api/v1/orders").await.json();

    place(&stack, "before", order("BOLT-M8", 2)).await;
    let (orders, bolts) = (list(&stack).await, item(&stack, "BOLT-M8").await);
    succeeds("backup.sh", &stack, backups.path(), &[]).await;
    place(&stack, "after", order("BOLT-M8", 3)).await;
    assert_ne!(list(&stack).await, orders);
    // As a later version would have left it.
    let databases = Databases::connect(&stack).await.unwrap();
    databases.orders.batch_execute("CREATE TABLE later (id int)").await.unwrap();
    drop(databases);

    restore(&mut stack, backups.path()).await;
    assert_eq!((list(&stack).await, item(&stack, "BOLT-M8").await), (orders, bolts));
    assert!(place(&stack, "later", order("BOLT-M8", 1)).await.status.is_success());
    let databases = Databases::connect(&stack).await.unwrap();
    let later = "SELECT count(*) FROM pg_tables WHERE tablename = 'later'";
    let count: i64 = databases.orders.query_one(later, &[]).await.unwrap().get(0);
    assert_eq!(count, 0, "what came after the backup is still there");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_of_a_backup_are_of_one_instant_whatever_is_placed_meanwhile() {
    let state = local_stack::state::temporary_folder().unwrap();
    let mut stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    let slow = SlowInventory::new();
    let (placed, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let customers = (0..8).map(async |customer| {
        for number in 0.. {
            if end.load(Ordering::Relaxed) {
                break;
            }
            let reply = place(&stack, &format!("{customer}-{number}"), order("NUT-M8", 1)).await;
            assert!(reply.status.is_success(), "{} {}", reply.status, reply.text());
            placed.fetch_add(1, Ordering::Relaxed);
        }
    });
    let backup = async {
        until("orders come in", async || placed.load(Ordering::Relaxed) >= 20).await;
        succeeds("backup.sh", &stack, backups.path(), &[("PATH", &slow.path)]).await;
        end.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(customers), backup);

    restore(&mut stack, backups.path()).await;
    let databases = Databases::connect(&stack).await.unwrap();
    until("what was under way is finished", async || databases.at_rest().await.unwrap()).await;
    let (breaches, counts) = databases.breaches().await.unwrap();
    assert!(breaches.is_empty(), "{breaches:?}");
    let kept: u64 = counts.values().sum();
    assert!((20..placed.into_inner()).contains(&kept), "{kept} orders are in the backup");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_does_nothing_while_services_use_the_databases() {
    let state = local_stack::state::temporary_folder().unwrap();
    let stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    succeeds("backup.sh", &stack, backups.path(), &[]).await;
    place(&stack, "after", order("BOLT-M8", 3)).await;
    let output = run("restore.sh", &stack, backups.path(), &[("PATIENCE", "1")]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("scale the services"), "{output:?}");
    assert_eq!(get(&stack, "/api/v1/orders").await.json()["orders"].as_array().unwrap().len(), 1);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_is_not_restored() {
    let state = local_stack::state::temporary_folder().unwrap();
    let mut stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    let orders = (0..200).map(|number| {
        let stack = &stack;
        async move { place(stack, &format!("{number}"), order("NUT-M8", 1)).await }
    });
    join_all(orders).await;
    succeeds("backup.sh", &stack, backups.path(), &[]).await;
    place(&stack, "after", order("NUT-M8", 1)).await;
    for service in WRITERS {
        stack.end(service, Signal::TERM).await.unwrap();
    }
    let backup = backups.path().join(&names(backups.path())[0]);
    for database in ["orders", "inventory"] {
        let whole = fs::read(backup.join(database)).unwrap();
        for tenths in 1..10 {
            fs::write(backup.join(database), &whole[..whole.len() * tenths / 10]).unwrap();
            let output = run("restore.sh", &stack, backups.path(), &[]).await;
            let said = String::from_utf8_lossy(&output.stderr);
            let is_told = said.contains(&format!("{database} is not whole"))
                && said.contains("both databases are as they were");
            assert!(!output.status.success() && is_told, "{output:?}");
        }
        fs::write(backup.join(database), &whole).unwrap();
    }
    let databases = Databases::connect(&stack).await.unwrap();
    let (breaches, counts) = databases.breaches().await.unwrap();
    assert_eq!((breaches, counts.values().sum()), (vec![], 201));
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_broken_backups_are_removed_and_the_newest_are_kept() {
    let state = local_stack::state::temporary_folder().unwrap();
    let stack = start(&state).await;
    let backups = TempDir::new().unwrap();
    for old in ["20250101T000000Z", "20250102T000000Z", "20250103T000000Z.partial"] {
        let folder = backups.path().join(old);
        fs::create_dir(&folder).unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        File::open(&folder).unwrap().set_modified(SystemTime::now() - day).unwrap();
    }
    fs::create_dir(backups.path().join("20250104T000000Z.partial")).unwrap(); // another run's, of now

    succeeds("backup.sh", &stack, backups.path(), &[]).await;
    let kept = names(backups.path());
    assert_eq!(kept[..2], ["20250102T000000Z", "20250104T000000Z.partial"]);
    assert_eq!(
        (kept.len(), names(&backups.path().join(&kept[2]))),
        (3, vec!["inventory".into(), "orders".into()])
    );

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
    assert_eq!(names(backups.path()).len(), 3);
    stack.stop().await.unwrap();
}
