//! The repositories that take part in a backup, and why others do not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::prepare::{Earlier, Prepared, prepare};
use super::{BackupRequest, OutputReport, Participant};
use crate::activity::Activity;
use crate::destination::WatchedDestination;
use crate::engine::RunContext;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, Level};
use crate::pipeline::checkpoint::Row;
use crate::repo::repository::Repository;
use crate::state::SealedOutput;

/// How often it is looked whether a repository answers.
const INTERVAL: Duration = Duration::from_secs(5);

/// Prepares the repositories of a request, one after the other, and notes in `outputs` what became of
/// the others. One that does not answer while others wait is left out after the time that the engine
/// allows. So is one that `row`, which the run goes on from, was taken without: to let it in again would
/// mean to read all again.
///
/// # Errors
/// `Cancelled`, with all locks given up; the first error if none is left and none has a snapshot.
pub(super) async fn gather(
    run: &RunContext,
    request: &BackupRequest,
    row: Option<&Row>,
    outputs: &mut [OutputReport],
) -> Result<Vec<Prepared>> {
    let cancel = run.control.cancel_token();
    let committed = cancel.unless_cancelled(request.journal.commit()).await?;
    let mut prepared: Vec<Prepared> = Vec::new();
    let mut earlier_problems = 0;
    let row = row.filter(|_| request.journal.outlives_process());
    for (output, participant) in outputs.iter_mut().zip(&request.participants) {
        let repository = match participant {
            Participant::Open(repository) => repository,
            Participant::Absent(absent) => {
                output.error = Some(absent.error.duplicate());
                continue;
            }
        };
        let is_sealed = |sealed: &SealedOutput| sealed.repository_id == repository.id();
        if !committed.is_empty() && !committed.iter().any(is_sealed) {
            // The run is only to be finished. To read all again for this one would make it another.
            output.error = Some(Error::new(
                ErrorKind::Unavailable,
                "left out before the commit, which an earlier attempt of the run began",
            ));
            continue;
        }
        if row.is_some_and(|row| row.is_without(repository.id())) {
            output.error = Some(left_out());
            continue;
        }
        match prepare_watched(run, prepared.len(), repository, request, &committed).await {
            Ok(Earlier::Nothing(ready)) => prepared.push(*ready),
            Ok(Earlier::Published(snapshot, problems)) => {
                output.snapshot = Some(snapshot);
                // Of one attempt, so the same for each of its outputs.
                earlier_problems = earlier_problems.max(problems);
            }
            Err(error) => output.error = Some(error),
        }
        if cancel.is_cancelled() {
            give_up(&mut prepared).await;
            return Err(Error::cancelled());
        }
    }
    if !committed.is_empty() && !prepared.is_empty() {
        // The outputs of these cannot be finished any more.
        if outputs.iter().any(|output| output.snapshot.is_some()) {
            // To take the commit back would make a second snapshot where there is one.
            give_up(&mut prepared).await;
            let is_lost =
                |output: &&mut OutputReport| output.snapshot.is_none() && output.error.is_none();
            for output in outputs.iter_mut().filter(is_lost) {
                output.error = Some(lost(&output.repository));
            }
        } else {
            // Where it is not known whether a snapshot is there, to take the commit back could make a
            // second one.
            let unknown = outputs.iter().find_map(|output| {
                let is_sealed =
                    committed.iter().any(|sealed| sealed.repository_id == output.repository_id);
                output.error.as_ref().filter(|_| is_sealed).map(Error::duplicate)
            });
            let taken_back = match unknown {
                Some(error) => Err(error),
                None => request.journal.take_back_commit().await,
            };
            if let Err(error) = taken_back {
                give_up(&mut prepared).await;
                return Err(error);
            }
        }
    }
    // What is missing in one snapshot of a run is missing in its result.
    run.events.add_earlier_problems(earlier_problems);
    let is_over = prepared.is_empty() && outputs.iter().all(|output| output.snapshot.is_none());
    let mut failures =
        outputs.iter_mut().filter_map(|output| Some((&output.repository, output.error.as_ref()?)));
    // The first failure of a run that is over is its error, and told as such.
    let first = if is_over { failures.next().map(|(_, error)| error.duplicate()) } else { None };
    for (repository, error) in failures {
        let (repository, reason) = (repository.clone(), error.report());
        run.events.tell(Level::Error, EventKind::RepositorySetAside { repository, reason });
    }
    match first {
        Some(error) => Err(error),
        None if is_over => Err(Error::new(ErrorKind::Internal, "nothing to do")),
        None => Ok(prepared),
    }
}

async fn give_up(prepared: &mut Vec<Prepared>) {
    for ready in prepared.drain(..) {
        // One that stays is removed by the next run.
        drop(ready.lock.release().await);
    }
}

/// Prepares a repository, and gives up on one that others wait for and that does not answer.
async fn prepare_watched(
    run: &RunContext,
    number: usize,
    repository: &Repository,
    request: &BackupRequest,
    committed: &[SealedOutput],
) -> Result<Earlier> {
    let cancel = run.control.cancel_token();
    if request.repositories().count() == 1 {
        return prepare(run, number, repository, request, committed, cancel).await;
    }
    let clock = run.engine.env().clock();
    let (activity, cancel) = (Activity::new(clock), cancel.child());
    let destination = WatchedDestination::new(Arc::clone(repository.destination()), &activity);
    let watched = repository.through(Arc::new(destination));
    let is_stalled = AtomicBool::new(false);
    let preparing = prepare(run, number, &watched, request, committed, &cancel);
    let watching = async {
        let limit = run.engine.parts().settings.stall_after;
        let is_stuck = || activity.is_stuck(limit) && !repository.destination().is_slowed_down();
        while !is_stuck() {
            clock.sleep(INTERVAL.min(limit)).await;
        }
        is_stalled.store(true, Ordering::Relaxed);
        cancel.cancel();
        std::future::pending::<Infallible>().await
    };
    let result = tokio::select! {
        biased;
        result = preparing => result,
        never = watching => match never {},
    };
    match result {
        Err(error) if error.is(ErrorKind::Cancelled) && is_stalled.load(Ordering::Relaxed) => {
            Err(stalled(repository))
        }
        result => result,
    }
}

fn left_out() -> Error {
    let message =
        "left out since it failed or was out of reach when the run came to its checkpoint";
    Error::new(ErrorKind::Unavailable, message)
        .with_code("output-left-out")
        .with_hint("retry the run: its snapshot is then copied, and nothing is read again")
}

fn lost(repository: &str) -> Error {
    let message = format!(
        "what the snapshot needs was removed from {repository} between its commit and its creation"
    );
    Error::new(ErrorKind::Conflict, message).with_code("output-lost").with_hint("back up once more")
}

fn stalled(repository: &Repository) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("{} did not answer for minutes while others waited", repository.location()),
    )
    .with_code("repository-stalled")
}
