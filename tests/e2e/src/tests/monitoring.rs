//! Prometheus in the cluster: what it finds by itself, and that it tells when something is gone.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use local_stack::http;
use serde_json::Value;

use super::{Test, test};
use crate::{
    Result,
    cluster::{Forward, until},
    schedule::Resource::{Failures, Staging},
    system::{self, Environment, FAILURES, SERVICES, STAGING, unique},
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("prometheus_has_every_target_up_and_its_rules_give_values", &[Staging], 180, targets),
        test("an_alert_fires_when_a_service_is_gone_and_resolves", &[Failures], 420, alert),
    ]
}

/// A way to Prometheus.
async fn prometheus(environment: &Environment) -> Result<Forward> {
    environment.forward("svc/prometheus :9090").await
}

/// The labels and value of each series that a query gives.
async fn query(prometheus: &Forward, expression: &str) -> Result<Vec<(Value, f64)>> {
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("query", expression).finish();
    let reply = http::get(&format!("{}/api/v1/query?{query}", prometheus.url())).await?.json();
    let series =
        reply["data"]["result"].as_array().with_context(|| format!("{expression}: {reply}"))?;
    let value = |series: &Value| {
        let value = series["value"][1].as_str().and_then(|value| value.parse().ok());
        (series["metric"].clone(), value.unwrap_or(f64::NAN))
    };
    Ok(series.iter().map(value).collect())
}

async fn targets() -> Result<String> {
    STAGING.deployed().await?;
    STAGING.back_to_one().await?;
    let prometheus = prometheus(&STAGING).await?;
    let jobs: BTreeSet<_> = SERVICES.into_iter().chain(["prometheus"]).collect();
    until(
        "every service and Prometheus itself is a target, and up",
        Duration::from_secs(90),
        async || {
            let up = query(&prometheus, "up").await?;
            let found: BTreeSet<_> =
                up.iter().filter_map(|(labels, _)| labels["job"].as_str()).collect();
            Ok((found == jobs && up.iter().all(|(_, value)| *value > 0.5)).then_some(()))
        },
    )
    .await?;
    let gateway = STAGING.gateway().await?;
    let rules = ["job:http_requests:rate5m", "job:http_request_duration_seconds:p99_5m"];
    for rule in rules {
        until(
            &format!("{rule} is above 0 for each service"),
            Duration::from_secs(90),
            async || {
                // Traffic, so that there is something to have a rate of.
                system::place(&gateway.url(), &unique(), "BOLT-M8", 1).await?;
                let values = query(&prometheus, rule).await?;
                let above = values.iter().filter(|(_, value)| value.is_finite() && *value > 0.0);
                let found: BTreeSet<_> =
                    above.filter_map(|(labels, _)| labels["job"].as_str()).collect();
                Ok((found == SERVICES.into()).then_some(()))
            },
        )
        .await?;
    }
    Ok(format!("{} targets up, {} rules give values", jobs.len(), rules.len()))
}

async fn alert() -> Result<String> {
    FAILURES.deployed().await?;
    let prometheus = prometheus(&FAILURES).await?;
    let firing = async || {
        let alerts =
            query(&prometheus, r#"ALERTS{alertname="ServiceDown",alertstate="firing"}"#).await?;
        Ok::<_, anyhow::Error>(
            alerts.into_iter().map(|(labels, _)| labels["job"].to_string()).collect::<Vec<_>>(),
        )
    };
    ensure!(firing().await?.is_empty(), "it fires already for {:?}", firing().await?);
    FAILURES.kubectl("scale deployment/inventory --replicas=0").await?; // which an autoscaler lets be
    let start = Instant::now();
    let fires = until("ServiceDown fires for inventory", Duration::from_secs(240), async || {
        Ok((firing().await? == [r#""inventory""#]).then_some(()))
    })
    .await;
    let fired = start.elapsed();
    FAILURES.kubectl("scale deployment/inventory --replicas=1").await?;
    FAILURES.all_ready().await?;
    fires?;
    let start = Instant::now();
    until("it resolves", Duration::from_secs(90), async || {
        Ok(firing().await?.is_empty().then_some(()))
    })
    .await?;
    Ok(format!(
        "ServiceDown fired after {:.0} s, resolved {:.0} s after inventory was ready again",
        fired.as_secs_f64(),
        start.elapsed().as_secs_f64()
    ))
}
