//! Follows a run: prints what happens, and turns signals into pause and cancel.

use backupkit_core::RunHandle;
use backupkit_core::{Error, Result};
use futures::future::FusedFuture as _;
use futures::{FutureExt as _, StreamExt as _};

use crate::app::App;
use crate::output::ProgressView;
use crate::signals::Signals;

/// What a run does, and what the first Ctrl-C makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// Can rest, and go on later.
    Backup,
    Restore,
    Check,
    Extend,
}

/// Waits for the end of a run.
///
/// The first signal pauses a backup and stops the others; the second stops a backup at once; one more
/// abandons whatever still hangs.
pub(crate) async fn watch<T: Send + 'static>(
    app: &App<'_>,
    run: Run,
    start: impl FnOnce() -> RunHandle<T>,
) -> Result<T> {
    watch_beside(app, run, start, std::future::ready(())).await
}

/// As [`watch`], and does something `beside` the run, which ends before this does.
pub(crate) async fn watch_beside<T: Send + 'static>(
    app: &App<'_>,
    run: Run,
    start: impl FnOnce() -> RunHandle<T>,
    beside: impl Future<Output = ()>,
) -> Result<T> {
    // Before the run starts, so that no signal can kill it half way.
    let mut signals = Signals::listen()?;
    let mut handle = start();
    let mut events = handle.events();
    let control = handle.control();
    let mut view = ProgressView::start(&app.output, run.doing());
    let mut ticks = control.progress_every(view.interval());
    let mut end = std::pin::pin!(handle.wait());
    let mut beside = std::pin::pin!(beside.fuse());
    let mut asked = 0_u8;
    let result = loop {
        tokio::select! {
            // What happened is told before the end of it.
            biased;
            Some(event) = events.next() => app.output.event(&event),
            () = &mut beside => {}
            result = &mut end => break result,
            () = signals.next() => {
                asked += 1;
                match (run, asked) {
                    (Run::Backup, 1) => {
                        app.output.note(
                            "pausing: storing what was read; press Ctrl-C again to stop at once",
                        );
                        control.pause();
                    }
                    (Run::Backup, 2) | (Run::Restore | Run::Check | Run::Extend, 1) => {
                        app.output.note("stopping");
                        control.cancel();
                    }
                    _ => break Err(Error::cancelled()),
                }
            }
            Some(progress) = ticks.next() => view.show(progress),
        }
    };
    if result.is_ok() && !beside.is_terminated() {
        beside.await;
    }
    // Whatever was told before the end; without a budget, which would hide the rest of many.
    while let Some(Some(event)) = tokio::task::unconstrained(events.next()).now_or_never() {
        app.output.event(&event);
    }
    result
}

impl Run {
    fn doing(self) -> &'static str {
        match self {
            Self::Backup => "backing up",
            Self::Restore => "restoring",
            Self::Check => "checking",
            Self::Extend => "extending",
        }
    }
}
