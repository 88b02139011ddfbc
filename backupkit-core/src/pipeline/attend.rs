//! Looks after the lanes while something else goes on, whatever that waits for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::lane;
use super::store::Store;
use crate::env::Clock;

/// How often lanes are looked after.
const INTERVAL: Duration = Duration::from_secs(5);

/// Does `work`, and meanwhile closes packs that wait for long and sets a lane aside that stores
/// nothing for `stall_after` while others do. It runs beside the work and not in it: the work may be
/// waiting for the very lane that hangs.
pub(crate) async fn attended<T>(
    store: &Store,
    clock: &Arc<dyn Clock>,
    stall_after: Duration,
    work: impl Future<Output = T>,
) -> T {
    let attend = async {
        loop {
            clock.sleep(INTERVAL.min(stall_after)).await;
            look_after(store, stall_after);
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = attend => unreachable!("it goes on for ever"),
    }
}

fn look_after(store: &Store, stall_after: Duration) {
    let live: Vec<_> = store.live_lanes().cloned().collect();
    let stuck: Vec<bool> = live.iter().map(|lane| lane.is_stuck(stall_after)).collect();
    let some_move = stuck.iter().any(|stuck| !stuck);
    for (lane, stuck) in live.iter().zip(stuck) {
        if stuck && some_move {
            lane.set_aside(lane::stalled(lane.repository()));
        } else {
            lane.close_old_packs();
        }
    }
}
