//! Destinations and their wrappers. An adapter gets one macro call.

use std::sync::Arc;
use std::time::Duration;

use backupkit::Env;
use backupkit::adapters::fs::FsDestination;
use backupkit::destination::{
    Destination, DestinationCapabilities, LimitDestination, Limits, MemoryDestination,
    RetryDestination, RetryPolicy,
};
use backupkit::testing::conformance::DestinationFixture;
use backupkit::testing::{
    Fault, FaultDestination, FaultPlan, ManualClock, Operation, SeededEntropy,
};
use backupkit::{ErrorKind, destination_conformance};
use futures::FutureExt;

/// An environment in which waiting takes no time.
fn env() -> Env {
    Env::system()
        .with_clock(Arc::new(ManualClock::default().with_auto_advance()))
        .with_entropy(Arc::new(SeededEntropy::new(1)))
}

fn memory() -> Arc<MemoryDestination> {
    Arc::new(MemoryDestination::new())
}

destination_conformance!(memory_destination, async || {
    let destination = MemoryDestination::new();
    let other = destination.clone();
    DestinationFixture::new(destination).with_reopen(move || {
        let other: Arc<dyn backupkit::destination::Destination> = Arc::new(other.clone());
        async { other }.boxed()
    })
});

destination_conformance!(memory_destination_without_extras, async || {
    let plain = DestinationCapabilities::new(4).with_checked_create();
    DestinationFixture::new(MemoryDestination::new().with_capabilities(plain))
});

destination_conformance!(retry_destination, async || {
    let retry = RetryDestination::new(memory(), RetryPolicy::new(), env());
    DestinationFixture::new(retry)
});

destination_conformance!(retry_destination_over_one_that_fails_often, async || {
    use Operation::{Create, Delete, Get, List, Stat, Swap};
    let plan = FaultPlan::new();
    // Not `check`, which is not repeated: a person waits for it.
    for operation in [Create, Delete, Get, List, Stat, Swap] {
        for k in 0..20 {
            let fail = Fault::fail(ErrorKind::Unavailable).at_call(3 * k + 1);
            plan.add(fail.on(operation));
            let lose = Fault::lose_reply(ErrorKind::Timeout).at_call(3 * k + 2);
            plan.add(lose.on(operation));
        }
    }
    let faulty = Arc::new(FaultDestination::new(memory(), &plan));
    // The waits of all callers move the one clock.
    let policy =
        RetryPolicy::new().with_max_attempts(50).with_total_time(Duration::from_hours(1_000));
    let retry = RetryDestination::new(faulty, policy, env());
    DestinationFixture::new(retry)
});

destination_conformance!(limit_destination, async || {
    let limits = Limits::new()
        .with_concurrency(2)
        .with_upload_bytes_per_second(1 << 20)
        .with_download_bytes_per_second(1 << 20);
    DestinationFixture::new(LimitDestination::new(memory(), limits, &env()))
});

destination_conformance!(fault_destination_without_faults, async || {
    DestinationFixture::new(FaultDestination::new(memory(), &FaultPlan::new()))
});

destination_conformance!(fs_destination, async || {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let again = path.clone();
    DestinationFixture::new(FsDestination::new(path, env()))
        .with_reopen(move || {
            let reopened = FsDestination::new(again.clone(), env());
            async move { Arc::new(reopened) as Arc<dyn Destination> }.boxed()
        })
        .keeping(folder)
});
