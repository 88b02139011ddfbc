//! State stores.

use std::sync::Arc;

use backupkit::Env;
use backupkit::state::InMemoryStore;
use backupkit::testing::ManualClock;
use backupkit::testing::conformance::{CatalogueFixture, RunsFixture};
use backupkit::{catalogue_conformance, runs_conformance};

catalogue_conformance!(in_memory_catalogue, async || {
    CatalogueFixture::new(InMemoryStore::new(&Env::system()))
});

runs_conformance!(in_memory_runs, async || {
    let clock = ManualClock::default();
    let env = Env::system().with_clock(Arc::new(clock.clone()));
    RunsFixture::new(InMemoryStore::new(&env), clock)
});
