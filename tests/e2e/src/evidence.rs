//! What a failed test leaves for who looks for the reason: events, logs, descriptions.

use std::{env, fs, path::PathBuf, sync::OnceLock};

use crate::{Result, cluster::kubectl};

/// The folder, made when it is needed first: `E2E_EVIDENCE`, or one below the temporary folder that stays.
pub fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match env::var_os("E2E_EVIDENCE") {
        Some(folder) => folder.into(),
        None => env::temp_dir().join(format!("stockyard-e2e-{}", std::process::id())),
    })
}

/// Keeps what the cluster knows now of some namespaces, under a test's name.
pub async fn keep(test: &str, namespaces: &[String]) -> Result<()> {
    let folder = folder().join(test);
    fs::create_dir_all(&folder)?;
    for namespace in namespaces {
        for (name, command) in [
            ("events", "get events --sort-by=.lastTimestamp"),
            ("objects", "get all,hpa,pdb,endpointslices -o wide"),
            ("describe", "describe pods"),
            (
                "logs",
                "logs --ignore-errors --all-containers --prefix --timestamps --tail=400 -l app.kubernetes.io/part-of=stockyard --max-log-requests=40",
            ),
            (
                "logs-before",
                "logs --ignore-errors --previous --prefix --tail=200 -l app.kubernetes.io/part-of=stockyard --max-log-requests=40",
            ),
        ] {
            let text = kubectl(&format!("{command} -n {namespace}")).await;
            let text = text.unwrap_or_else(|error| format!("{error:#}"));
            fs::write(folder.join(format!("{namespace}-{name}.txt")), text)?;
        }
    }
    Ok(())
}
