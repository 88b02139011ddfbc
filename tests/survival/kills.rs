//! Kills, spread over the progress of a backup, and around each call that changes something.

use std::collections::BTreeMap;

use crate::judge::{Account, judge_repository};
use crate::orders::{Moment, Stage};
use crate::support::random::Random;
use crate::support::tools::count;
use crate::world::{Data, PATIENCE, PLAN, World};

const MIB: u64 = 1 << 20;
/// In most kills no more than this is in no checkpoint: what fills packs, what is on its way into them, and
/// what is read meanwhile. How much that is at the worst is up to the disk.
const USUAL_LAG_BYTES: u64 = 256 << 20;

/// The moments of one run, each later than the one before.
fn next(link: u32, random: &mut Random, left_bytes: u64) -> Moment {
    let step = |stage, number| Moment::Step { stage, number };
    match link {
        0 => step(Stage::Start, 1 + random.below(8)),
        1 => Moment::Read(1 + random.below(left_bytes / 2)),
        2 => Moment::Read(left_bytes / 4 + random.below(left_bytes / 4 * 3)),
        3 => step(Stage::AllRead, 1 + random.below(6)),
        4 => step(Stage::Committing, 1 + random.below(4)),
        _ => step(Stage::Created, 1 + random.below(3)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let data = Data::large();
    let (kills, seed) = (count(20), 11);
    eprintln!("{kills} kills, seed {seed}");
    let mut random = Random::new(seed);
    let mut stages: BTreeMap<usize, u32> = BTreeMap::new();
    let (mut killed, mut lags, mut most_again) = (0, Vec::new(), 0);
    while killed < kills {
        let Some(mut world) = World::new(&data).await else { return };
        world.desk().await.workspace.order_backup(PLAN).await.unwrap();
        let mut account = Account::default();
        let mut has_ended = false;
        for link in 0..6 {
            if killed == kills {
                break;
            }
            let moment = next(link, &mut random, account.left_bytes(&world).max(8));
            let why = format!("seed {seed}, kill {killed}, {moment}");
            let ended = world.start(&moment).finish(PATIENCE);
            if ended.signal().is_none() {
                // It did not come by that moment.
                ended.expect_success();
                has_ended = true;
                break;
            }
            account.judge_killed(&world, &why).await;
            let stage = world.stage_of(world.attempts - 1).expect("it ended itself");
            *stages.entry(stage).or_default() += 1;
            killed += 1;
        }
        if !has_ended {
            world.start_never().finish(PATIENCE).expect_success();
        }
        account.judge_ended(&world, &format!("seed {seed}, after {killed} kills")).await;
        lags.append(&mut account.lags_bytes);
        most_again = most_again.max(account.most_again_bytes);
        eprintln!("{killed} of {kills} killed");
    }
    for stage in Stage::ALL {
        let kills = stages.get(&(stage as usize)).copied().unwrap_or_default();
        eprintln!("{kills:>4} killed: {}", stage.name());
    }
    lags.sort_unstable();
    let (median, most) = (lags[lags.len() / 2], lags[lags.len() - 1]);
    eprintln!("in no checkpoint: median {} MiB, at most {} MiB", median / MIB, most / MIB);
    eprintln!("at most {} MiB read again", most_again / MIB);
    assert!(median <= USUAL_LAG_BYTES, "checkpoints come too late: {lags:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_around_any_call_that_changes_something_goes_on() {
    let data = Data::small();
    let calls = [
        ("claim", 1),
        ("append_logs", 1),
        ("create-locks", 1),
        ("create-data", 1),
        ("create-data", 3),
        ("record_packs", 1),
        ("create-index", 1),
        ("save_checkpoint", 1),
        ("record_outputs", 1),
        ("report", 1),
        ("create-snapshots", 1),
        ("delete-locks", 1),
        ("report", 2),
    ];
    for (name, number) in calls {
        for is_over in [false, true] {
            let Some(mut world) = World::new(&data).await else { return };
            world.desk().await.workspace.order_backup(PLAN).await.unwrap();
            let mut account = Account::default();
            let moment = Moment::Call { name: name.to_owned(), number, is_over };
            let ended = world.start(&moment).finish(PATIENCE);
            assert_eq!(ended.signal(), Some(9), "{moment}: it did not come by\n{ended}");
            account.judge_killed(&world, &moment.to_string()).await;
            world.start_never().finish(PATIENCE).expect_success();
            account.judge_ended(&world, &moment.to_string()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_restic_prunes_between_commit_and_snapshot_is_stored_again() {
    let data = Data::small();
    let Some(mut world) = World::new(&data).await else { return };
    world.desk().await.workspace.order_backup(PLAN).await.unwrap();
    let moment = Moment::Call { name: "create-snapshots".to_owned(), number: 1, is_over: false };
    let ended = world.start(&moment).finish(PATIENCE);
    assert_eq!(ended.signal(), Some(9), "{ended}");
    let kept = Account::default().judge_killed(&world, "before the prune").await;
    assert_eq!(kept.state, "committing");
    world.restic.run(["unlock", "--remove-all"]).expect_success();
    world.restic.prune();
    world.start_never().finish(PATIENCE).expect_success();
    judge_repository(&world, "after the prune");
    assert_eq!(world.desk().await.latest().await.state.to_string(), "succeeded");
}
