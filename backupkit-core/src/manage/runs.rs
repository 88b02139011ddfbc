//! Runs as people see them, and how this process takes its part in them.

use serde::Deserialize;

use super::{PAGE, Workspace};
use crate::engine::{Engine, HeldRun, HeldRunOptions, RestoreRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Level, RunKind, RunState, Wanted, is_damage};
use crate::state::{LogFilter, LogLine, NewLogLine, Run, RunFilter, RunId};

impl Workspace {
    /// At most `most` runs with a number below `before`, newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn runs(
        &self,
        filter: &RunFilter,
        before: Option<u64>,
        most: usize,
    ) -> Result<Vec<Run>> {
        self.store.runs(&self.scope, filter, before, most).await
    }

    /// A run by its number, or the newest one, which is called `latest`.
    ///
    /// # Errors
    /// `NotFound` with code `no-such-run`; `InvalidInput` for another word; those of the store.
    pub async fn find_run(&self, name: &str) -> Result<Run> {
        let number = match name {
            "latest" => None,
            number => Some(number.parse::<u64>().map_err(|_| {
                Error::new(ErrorKind::InvalidInput, format!("{number:?} is no number of a run"))
                    .with_hint("give a number, or `latest`")
            })?),
        };
        let before = number.map(|number| number.saturating_add(1));
        let newest = self.runs(&RunFilter::default(), before, 1).await?;
        let found = newest.into_iter().find(|run| number.is_none_or(|number| run.number == number));
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no run {name}"))
                .with_code("no-such-run")
        })
    }

    /// A run as it stands now.
    ///
    /// # Errors
    /// `NotFound` with code `no-such-run`; those of the store.
    pub async fn run(&self, id: RunId) -> Result<Run> {
        let run = self.store.run(&self.scope, id).await?;
        run.ok_or_else(|| crate::state::refusal::run_missing(id))
    }

    /// Says what a person wants of a run.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with code `run-refused` if it is too late for that.
    pub async fn ask(&self, id: RunId, wanted: Wanted) -> Result<Run> {
        self.store.ask(&self.scope, &self.actor, id, wanted).await
    }

    /// At most `most` lines of the log of a run behind number `after`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn logs(
        &self,
        id: RunId,
        filter: &LogFilter,
        after: u64,
        most: usize,
    ) -> Result<Vec<LogLine>> {
        self.store.logs(&self.scope, id, filter, after, most).await
    }

    /// Whether a restore that ended with warnings found the repository damaged, or what it restored
    /// different.
    ///
    /// # Errors
    /// `Corrupt` if what is on record of it is something else; those of the store.
    pub async fn found_damage(&self, run: &Run) -> Result<bool> {
        let report = run
            .report
            .as_ref()
            .filter(|_| run.new.kind == RunKind::Restore && run.state == RunState::Warnings);
        let Some(report) = report else { return Ok(false) };
        let report: RestoreRecord = serde_json::from_str(report.get())
            .map_err(|error| Error::corrupt(format!("run {}", run.number), error))?;
        if report.verified.is_some_and(|counts| counts.differs > 0) {
            return Ok(true);
        }
        // What failed in an earlier attempt may be mended.
        let mut is_over = report.counts.failed == 0;
        let filter = LogFilter { level: Some(Level::Error), text: None };
        let mut last = 0;
        while !is_over {
            let lines = self.logs(run.new.id, &filter, last, PAGE).await?;
            if lines.iter().any(|line| is_damage_line(&line.line)) {
                return Ok(true);
            }
            is_over = lines.len() < PAGE;
            last = lines.last().map_or(last, |line| line.number);
        }
        Ok(false)
    }

    /// Lets time take effect on all runs, as [`Engine::sweep`] says.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sweep(&self, engine: &Engine) -> Result<()> {
        engine.sweep(&*self.store).await
    }

    /// Claims a run that waits, or only one of them; nothing if there is none. Before that it
    /// [sweeps](Self::sweep).
    ///
    /// # Errors
    /// Those of the store; `Unavailable` if the system gives no thread.
    pub async fn claim(
        &self,
        engine: &Engine,
        only: Option<RunId>,
        options: HeldRunOptions,
    ) -> Result<Option<HeldRun>> {
        engine.claim_next(&self.store, only, options).await
    }
}

fn is_damage_line(line: &NewLogLine) -> bool {
    #[derive(Deserialize)]
    struct Fields {
        error: Option<String>,
    }
    let fields: Option<Fields> = serde_json::from_str(line.body.get()).ok();
    let error = fields.and_then(|fields| fields.error);
    is_damage(line.level, &line.code, error.as_deref())
}
