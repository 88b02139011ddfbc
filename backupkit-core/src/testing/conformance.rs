//! Every line of a trait's contract as a test.
//!
//! One macro call for an adapter makes one named test for each case; the lists of cases exist once,
//! in the macros. A case that does not apply to what the adapter says it can do prints so. Cases are
//! given a fresh instance each by a fixture, an async closure:
//!
//! ```
//! use backupkit_core::destination::MemoryDestination;
//! use backupkit_core::testing::conformance::DestinationFixture;
//!
//! backupkit_core::destination_conformance!(memory, async || {
//!     DestinationFixture::new(MemoryDestination::new())
//! });
//! # fn main() {}
//! ```
#![expect(clippy::missing_panics_doc, reason = "a case panics where the contract is broken")]

pub mod catalogue;
pub mod destination;
pub mod runs;
pub mod source;
pub mod target;

mod helpers;

pub use catalogue::CatalogueFixture;
pub use destination::DestinationFixture;
pub use runs::RunsFixture;
pub use source::SourceFixture;
pub use target::{Found, TargetFixture, TargetProbe};

use std::any::Any;
use std::time::Duration;

/// What a fixture returns: the thing to test, or why it cannot be tested here.
#[derive(Debug)]
pub enum Setup<F> {
    /// To be tested.
    Ready(F),
    /// Not here, for this reason, such as a server that is not configured. The case then prints so
    /// and passes; a fixture that must not be left out panics instead.
    Unavailable(String),
}

impl<F> From<F> for Setup<F> {
    fn from(fixture: F) -> Self {
        Self::Ready(fixture)
    }
}

/// Whatever must live as long as the thing that is tested, such as a temporary directory.
type KeepAlive = Vec<Box<dyn Any + Send + Sync>>;

/// Longer than any case takes; a case that hangs fails.
const CASE_LIMIT: Duration = Duration::from_mins(15);

/// Runs one case on a runtime of its own. The macros call this.
#[doc(hidden)]
pub fn run<F, R: Into<Setup<F>>>(
    name: &str,
    fixture: impl AsyncFnOnce() -> R,
    case: impl AsyncFnOnce(F),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be started");
    let work = async {
        match fixture().await.into() {
            Setup::Ready(fixture) => case(fixture).await,
            Setup::Unavailable(why) => say(&format!("{name}: skipped: {why}")),
        }
    };
    let ended = runtime.block_on(async { tokio::time::timeout(CASE_LIMIT, Box::pin(work)).await });
    assert!(ended.is_ok(), "{name} hangs");
    // A call that was dropped half-way may have left a thread at work.
    runtime.shutdown_timeout(Duration::from_secs(10));
}

fn not_applicable(why: &str) {
    say(&format!("not applicable: {why}"));
}

#[expect(clippy::print_stderr, reason = "shown by the test runner on request")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Makes one test for each case; the suites' macros call this.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($suite:ident, $name:ident, $fixture:expr; $($case:ident)*) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may use what stands around the macro")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::testing::conformance::run(
                        stringify!($case),
                        $fixture,
                        $crate::testing::conformance::$suite::$case,
                    );
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests {
    /// The names of public async functions, and of the words in the list of the macro.
    fn forgotten_cases(suite: &str) -> Vec<&str> {
        let (_, list) = suite.split_once("$fixture;\n").expect("a list of cases");
        let (list, cases) = list.split_once('}').expect("an end of the list");
        let listed: Vec<_> = list.split_whitespace().collect();
        let names = cases.split("\npub async fn ").skip(1);
        let names = names.filter_map(|rest| rest.split('(').next());
        names.filter(|name| !listed.contains(name)).collect()
    }

    #[test]
    fn every_case_is_in_its_list() {
        for suite in [
            concat!(
                include_str!("conformance/destination.rs"),
                include_str!("conformance/destination/swap.rs")
            ),
            concat!(
                include_str!("conformance/catalogue.rs"),
                include_str!("conformance/catalogue/random.rs")
            ),
            concat!(
                include_str!("conformance/runs.rs"),
                include_str!("conformance/runs/checkpoints.rs"),
                include_str!("conformance/runs/dropped.rs"),
                include_str!("conformance/runs/leases.rs"),
                include_str!("conformance/runs/logs.rs"),
                include_str!("conformance/runs/orders.rs"),
                include_str!("conformance/runs/random.rs"),
                include_str!("conformance/runs/settings.rs"),
                include_str!("conformance/runs/slots.rs"),
                include_str!("conformance/runs/states.rs"),
                include_str!("conformance/runs/sweep.rs")
            ),
            concat!(
                include_str!("conformance/source.rs"),
                include_str!("conformance/source/bodies.rs")
            ),
            concat!(
                include_str!("conformance/target.rs"),
                include_str!("conformance/target/conflict.rs"),
                include_str!("conformance/target/interrupted.rs"),
                include_str!("conformance/target/many.rs"),
                include_str!("conformance/target/resumed.rs")
            ),
        ] {
            assert_eq!(forgotten_cases(suite), Vec::<&str>::new());
        }
    }
}
