//! Who may do what: docs/rbac.md against what the API server says to each account, and what it refuses to everyone.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, bail, ensure};
use manifest_tests::table::rows_of;

use super::{Test, test};
use crate::{
    Result,
    cluster::{apply, get, kubectl, until},
    schedule::Resource::Staging,
    system::{self, STAGING},
};

/// The group of the page that has rights, and one that has none.
const GROUPS: [&str; 2] = ["stockyard-developers", "others"];

/// A verb and what it may be done to, with a space between.
type Rights = BTreeSet<String>;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("every_account_has_exactly_the_documented_rights", &[Staging], 60, as_documented),
        test("a_right_too_many_is_noticed", &[Staging], 30, too_many),
        test("pods_beyond_the_restricted_profile_are_refused", &[Staging], 30, refused),
    ]
}

async fn as_documented() -> Result<String> {
    STAGING.deployed().await?;
    rights_in(STAGING.namespace).await
}

/// Holds the rights of every service account and of both groups in an environment against the page.
pub(super) async fn rights_in(environment: &str) -> Result<String> {
    let accounts = service_accounts(environment).await?;
    let mut faults = Vec::new();
    for account in &accounts {
        faults.extend(faults_of(account, environment, &as_account(environment, account)).await?);
    }
    for group in GROUPS {
        let identity = format!("--as someone --as-group {group}");
        faults.extend(faults_of(group, environment, &identity).await?);
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(format!("{} service accounts and {} groups", accounts.len(), GROUPS.len()))
}

/// The service accounts of an environment.
pub(super) async fn service_accounts(environment: &str) -> Result<Vec<String>> {
    let list = get(&format!("serviceaccounts -n {environment}")).await?;
    let accounts = list["items"].as_array().context("no list")?.iter();
    Ok(accounts.filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned())).collect())
}

fn as_account(environment: &str, account: &str) -> String {
    format!("--as system:serviceaccount:{environment}:{account}")
}

/// How what an account may differs from what the page says of it.
async fn faults_of(account: &str, environment: &str, identity: &str) -> Result<Vec<String>> {
    let (has, documented) = (told(environment, identity).await?, documented(account, environment)?);
    let beyond = has.difference(&documented);
    let beyond = beyond.map(|right| format!("{account} may {right}, which is not documented"));
    let missing = documented.difference(&has);
    let missing = missing.map(|right| format!("{account} may not {right}, which is documented"));
    Ok(beyond.chain(missing).collect())
}

/// What the page says, with nothing applied to the cluster beside the overlay.
fn documented(account: &str, environment: &str) -> Result<Rights> {
    let page = system::page("rbac.md")?;
    let is_service = account.ends_with("-sa") || account == "default";
    let mut rights = Rights::new();
    for row in rows_of(&page, &["who", "where", "with", "verbs", "resources"]) {
        let [who, place, with, verbs, resources] = &row[..] else { continue };
        let is_it = ["everyone", account].contains(&who.as_str())
            || (who == "service accounts" && is_service);
        let is_here = place.is_empty() || place.split(", ").any(|place| place == environment);
        if is_it && is_here && with.is_empty() {
            rights.extend(products(verbs.split(", "), resources.split(", ")));
        }
    }
    ensure!(!rights.is_empty(), "docs/rbac.md says nothing of {account}");
    Ok(rights)
}

/// What the API server says.
async fn told(environment: &str, identity: &str) -> Result<Rights> {
    let list =
        kubectl(&format!("auth can-i --list --no-headers -n {environment} {identity}")).await?;
    let rows: Option<Vec<_>> = list.lines().map(rights_of).collect();
    let rows =
        rows.with_context(|| format!("kubectl auth can-i --list gives another table: {list}"))?;
    Ok(rows.into_iter().flatten().collect())
}

/// A row: the resource, then in brackets paths, names of objects, verbs.
fn rights_of(row: &str) -> Option<Rights> {
    let (resource, lists) = row.split_once(char::is_whitespace)?;
    let lists: Vec<_> = lists
        .split('[')
        .skip(1)
        .map(|list| Some(list.split_once(']')?.0))
        .collect::<Option<_>>()?;
    let [paths, names, verbs] = lists[..] else { return None };
    let named = names.split_whitespace().map(|name| format!("{resource}/{name}"));
    let mut things: Vec<_> = paths.split_whitespace().map(str::to_owned).chain(named).collect();
    if things.is_empty() {
        things.push(resource.to_owned());
    }
    Some(products(verbs.split_whitespace(), things.iter().map(String::as_str)).collect())
}

fn products<'a>(
    verbs: impl Iterator<Item = &'a str>,
    things: impl Iterator<Item = &'a str> + Clone,
) -> impl Iterator<Item = String> {
    verbs.flat_map(move |verb| things.clone().map(move |thing| format!("{verb} {thing}")))
}

/// The same check on what it must find.
async fn too_many() -> Result<String> {
    STAGING.deployed().await?;
    let name = "e2e-too-many";
    let remove = format!("delete role,rolebinding {name} -n staging --ignore-not-found");
    kubectl(&remove).await?; // of a run that was cut off
    STAGING.kubectl(&format!("create role {name} --verb=get --resource=secrets")).await?;
    let bind = format!(
        "create rolebinding {name} --role={name} --serviceaccount=staging:orders-sa -n staging"
    );
    let expected = "orders-sa may get secrets, which is not documented";
    let noticed = async {
        kubectl(&bind).await?;
        until("the right is noticed", Duration::from_secs(10), async || {
            let identity = as_account("staging", "orders-sa");
            let faults = faults_of("orders-sa", "staging", &identity).await?;
            Ok((faults == [expected]).then_some(()))
        })
        .await
    }
    .await;
    kubectl(&remove).await?;
    noticed?;
    Ok(expected.to_owned())
}

/// What is beyond the profile, and what the server says of it.
const BEYOND: [(&str, &str, &str); 6] = [
    ("", "securityContext: {privileged: true}", "privileged"),
    ("", "securityContext: {}", "allowPrivilegeEscalation != false"),
    ("hostNetwork: true", SAFE, "host namespaces"),
    ("securityContext: {runAsUser: 0}", SAFE, "runAsUser=0"),
    (
        "securityContext: {seccompProfile: {type: Unconfined}}",
        SAFE,
        "must not set securityContext.seccompProfile",
    ),
    ("volumes: [{name: host, hostPath: {path: /}}]", SAFE, "hostPath"),
];
const SAFE: &str =
    "securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";

async fn refused() -> Result<String> {
    STAGING.deployed().await?;
    for (pod, container, why) in BEYOND {
        let manifest = format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: e2e-beyond, namespace: staging}}
spec:
  {pod}
  containers:
    - name: e2e
      image: e2e:0.1.0
      {container}
"
        );
        let refusal = match apply(&manifest).await {
            Ok(_) => {
                STAGING.kubectl("delete pod e2e-beyond --grace-period=0 --force").await?;
                bail!("{pod} {container}: it was accepted")
            }
            Err(error) => format!("{error:#}"),
        };
        let is_it = refusal.contains("violates PodSecurity \"restricted:") && refusal.contains(why);
        ensure!(is_it, "{pod} {container}: {refusal}");
    }
    Ok(format!("{} pods refused", BEYOND.len()))
}
