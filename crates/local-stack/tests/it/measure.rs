//! What `local-stack measure` tells.

use std::time::Duration;

use local_stack::{Service, measure, state::temporary_folder};

use crate::support::settings;

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_measured_and_held_against_a_limit() {
    let state = temporary_folder().unwrap();
    let settings = settings(state.path());
    let measured = measure::measure(settings, 2, Duration::from_millis(200)).await.unwrap();
    let services: Vec<_> = measured.iter().map(|measured| measured.service).collect();
    assert_eq!(services, Service::ALL);
    for of in &measured {
        assert!(of.ready > Duration::ZERO, "{of}");
        assert!(of.idle.anonymous > 0 && of.idle.file > 0, "{of}");
        assert!(of.idle.resident >= of.idle.anonymous + of.idle.file, "{of}");
    }
    let most = measured.iter().map(|measured| measured.idle.resident).max().unwrap();
    measure::hold(&measured, most).unwrap();
    measure::hold(&measured, most - 1).unwrap_err();
}
