//! A worker process.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use backupkit::model::{RunState, Wanted};
use backupkit::state::CheckpointInterval;
use backupkit::{CancelToken, HeldRunOptions};

use crate::witness::Witness;
use crate::world::{
    ATTEMPT, CHECKPOINT_BYTES, Desk, FOLDER, LEASE_SECONDS, MOMENT, STOP_FILE, TOTAL_BYTES,
};

/// How often it looks for a run.
const POLL: Duration = Duration::from_millis(20);
const CHECKPOINTS: CheckpointInterval =
    CheckpointInterval { time: Duration::from_millis(200), bytes: 4 << 20 };

/// Works until no run is left, if this process was started for that.
pub(crate) fn run_if_asked() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let moment = std::env::var(MOMENT).unwrap().parse().unwrap();
    let stop = std::env::var_os(STOP_FILE).map(|path| File::open(path).unwrap());
    let attempt = number(ATTEMPT).try_into().unwrap();
    let witness = Witness::new(&folder, attempt, moment, stop, number(TOTAL_BYTES));
    let checkpoints = match std::env::var_os(CHECKPOINT_BYTES) {
        None => CHECKPOINTS,
        Some(_) => {
            CheckpointInterval { time: Duration::from_hours(1), bytes: number(CHECKPOINT_BYTES) }
        }
    };
    let options = HeldRunOptions { checkpoints, lease: Duration::from_secs(number(LEASE_SECONDS)) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let desk = Desk::open(&folder, &witness).await;
        work(&desk, &witness, options).await;
    });
}

async fn work(desk: &Desk, witness: &Witness, options: HeldRunOptions) {
    let (workspace, engine) = (&desk.workspace, &desk.engine);
    workspace.sweep(engine).await.unwrap();
    loop {
        let claimed = workspace.claim(engine, None, options).await.unwrap();
        let Some(held) = claimed else {
            let run = desk.latest().await;
            if run.state.is_terminal() {
                println!("run {} {}", run.number, run.state);
                return;
            }
            if run.not_before.is_some() && run.wanted == Wanted::Run {
                // Nobody wants to wait for the next attempt. It may be too late to say so.
                drop(workspace.ask(run.new.id, Wanted::Run).await);
                continue;
            }
            engine.env().clock().sleep(POLL).await;
            continue;
        };
        witness.claimed();
        if held.run().state == RunState::Committing {
            witness.is_committing();
        }
        match workspace.execute(held, "host", &CancelToken::new()).await {
            Ok(run) => println!("left {} {:?}", run.state, run.cause),
            Err(error) => println!("lost {}", error.report()),
        }
    }
}
