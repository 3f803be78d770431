//! A pod that runs this program in the cluster, ends by itself, and prints what it found as JSON in its last line.

use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;

use crate::{
    Result,
    cluster::{apply, get, kubectl, until},
    system::unique,
};

/// A pod that was started.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: String,
}

/// A readiness probe that fails: a pod that policies take for a part's own, and that no Service does.
pub const NEVER_READY: &str = "{exec: {command: [/bin/none]}, periodSeconds: 60}";
/// Where a pod finds its account's tokens, each in a file that is called as its audience.
pub const TOKENS: &str = "/var/run/secrets/e2e";

/// What differs from one pod to the other, as YAML in flow style.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings<'a> {
    /// The beginning of its name; the rest is no other pod's.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a str,
    /// The program's arguments.
    pub arguments: &'a str,
    /// Its environment.
    pub environment: &'a str,
    /// Its service account; `default` when it is empty.
    pub account: &'a str,
    /// Whom it has a token of its account for.
    pub audiences: &'a [&'a str],
    /// What it asks for and may use.
    pub resources: &'a str,
    /// Its readiness probe.
    pub readiness: &'a str,
}

impl Pod {
    /// Starts one.
    pub async fn start(namespace: &str, settings: Settings<'_>) -> Result<Self> {
        let name = format!("{}-{}", settings.name, unique());
        apply(&manifest(&name, namespace, settings)).await?;
        Ok(Self { name, namespace: namespace.to_owned() })
    }

    /// What it printed so far.
    pub async fn log(&self) -> Result<String> {
        kubectl(&format!("logs {} -n {}", self.name, self.namespace)).await
    }

    /// Waits until it prints something.
    pub async fn prints(&self, words: &str, within: Duration) -> Result<()> {
        until(&format!("the pod {} prints {words:?}", self.name), within, async || {
            Ok(self.log().await?.contains(words).then_some(()))
        })
        .await
    }

    /// Tells it to end and report.
    pub async fn stop(&self) {
        // The first process may be gone before the one that told it to: then that one is killed. The phase tells.
        let _ =
            kubectl(&format!("exec {} -n {} -- /bin/e2e stop", self.name, self.namespace)).await;
    }

    /// Waits for its end and removes it; gives what it found.
    pub async fn found<T: DeserializeOwned>(self, within: Duration) -> Result<T> {
        let Self { name, namespace } = &self;
        until(&format!("the pod {name} ends"), within, async || {
            let pod = get(&format!("pod {name} -n {namespace}")).await?;
            Ok((pod["status"]["phase"] == "Succeeded").then_some(()))
        })
        .await?;
        let log = self.log().await?;
        let last = log.lines().last().unwrap_or_default();
        let found = serde_json::from_str(last).with_context(|| format!("{name} printed {log}"))?;
        kubectl(&format!("delete pod {name} -n {namespace} --wait=false")).await?;
        Ok(found)
    }
}

/// Of the restricted profile, whatever it does.
fn manifest(name: &str, namespace: &str, settings: Settings<'_>) -> String {
    let Settings { labels, arguments, environment, account, resources, readiness, .. } = settings;
    let token = |audience: &&str| {
        format!(
            "{{serviceAccountToken: {{audience: {audience}, path: {audience}, expirationSeconds: 600}}}}"
        )
    };
    let tokens = settings.audiences.iter().map(token).collect::<Vec<_>>().join(", ");
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}
spec:
  restartPolicy: Never
  serviceAccountName: {account}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: e2e
      image: e2e:0.1.0
      imagePullPolicy: IfNotPresent
      args: {arguments}
      env: {environment}
      readinessProbe: {readiness}
      resources: {resources}
      securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
      volumeMounts: [{{name: tokens, mountPath: {TOKENS}, readOnly: true}}]
  volumes: [{{name: tokens, projected: {{sources: [{tokens}]}}}}]
"
    )
}
