//! A target whose calls tests can stop at.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backupkit::target::{
    BodyReader, Phase, RestoreContext, RestoreNotes, RestoreSession, RestoreTarget, Step,
    TargetCapabilities, Verdict, VerifyLevel, Written,
};
use backupkit::testing::PausePoint;
use backupkit::{Error, ErrorKind, Probe, Result, WriteToken};
use futures::stream::{self, BoxStream, StreamExt as _};

/// Counts the calls of its sessions, and lets one of them wait.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    inner: Arc<dyn RestoreTarget>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: AtomicU64,
    stop: Mutex<Option<(u64, PausePoint)>>,
    /// Where the next plan stops, or breaks without a place to wait at.
    stop_of_plan: Mutex<Option<(u64, Option<PausePoint>)>>,
    hides_tokens: AtomicBool,
    failing: Mutex<String>,
    warning: Mutex<String>,
    last_words: Mutex<Vec<String>>,
    log: Mutex<Vec<String>>,
}

impl Gate {
    pub(crate) fn new(inner: impl RestoreTarget) -> Self {
        Self { inner: Arc::new(inner), state: Arc::default() }
    }

    /// From now on tokens are neither told nor taken.
    pub(crate) fn hide_tokens(&self) {
        self.state.hides_tokens.store(true, Ordering::Relaxed);
    }

    /// Lets the `k`-th call from now on wait.
    pub(crate) fn stop_at(&self, k: u64, point: &PausePoint) {
        let at = self.calls() + k;
        *self.state.stop.lock().unwrap() = Some((at, point.clone()));
    }

    /// Lets the next plan wait for its step of this number.
    pub(crate) fn stop_in_plan(&self, number: u64, point: &PausePoint) {
        *self.state.stop_of_plan.lock().unwrap() = Some((number, Some(point.clone())));
    }

    /// Lets the next plan fail in place of its step of this number.
    pub(crate) fn break_in_plan(&self, number: u64) {
        *self.state.stop_of_plan.lock().unwrap() = Some((number, None));
    }

    /// From now on this cannot be written.
    pub(crate) fn fail_at(&self, destination: &str) {
        destination.clone_into(&mut self.state.failing.lock().unwrap());
    }

    /// Writing this comes with a warning.
    pub(crate) fn warn_at(&self, destination: &str) {
        destination.clone_into(&mut self.state.warning.lock().unwrap());
    }

    /// From now on a restore finishes with this warning.
    pub(crate) fn warn_at_end(&self, text: &str) {
        self.state.last_words.lock().unwrap().push(text.to_owned());
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::Relaxed)
    }

    /// The calls since the last time.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }

    async fn planned(&self, number: u64, step: Result<Step>) -> Result<Step> {
        let place = self.state.stop_of_plan.lock().unwrap().take_if(|(at, _)| *at == number);
        match place {
            Some((_, Some(point))) => point.pass().await,
            Some((_, None)) => return Err(Error::new(ErrorKind::Unavailable, "cannot plan on")),
            None => {}
        }
        step
    }

    async fn call(&self, what: String) {
        self.state.log.lock().unwrap().push(what);
        let call = self.state.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let stop = self.state.stop.lock().unwrap().clone();
        if let Some((_, point)) = stop.filter(|(at, _)| *at == call) {
            point.pass().await;
        }
    }
}

#[derive(Debug)]
struct GatedSession(Gate, Arc<dyn RestoreSession>);

#[async_trait]
impl RestoreTarget for Gate {
    fn capabilities(&self) -> TargetCapabilities {
        self.inner.capabilities()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    async fn check(&self) -> Result<Probe> {
        self.inner.check().await
    }

    async fn open(&self, cx: RestoreContext) -> Result<Arc<dyn RestoreSession>> {
        self.call("open".to_owned()).await;
        Ok(Arc::new(GatedSession(self.clone(), self.inner.open(cx).await?)))
    }
}

#[async_trait]
impl RestoreSession for GatedSession {
    fn plan(&self) -> BoxStream<'static, Result<Step>> {
        let gate = self.0.clone();
        let steps = stream::iter(0..).zip(self.1.plan());
        let planned = move |(number, step)| {
            let gate = gate.clone();
            async move { gate.planned(number, step).await }
        };
        steps.then(planned).boxed()
    }

    async fn write(
        &self,
        step: &Step,
        body: BodyReader,
        from: Option<WriteToken>,
    ) -> Result<Written> {
        let how = if from.is_some() { "go on with" } else { "write" };
        self.0.call(format!("{how} {}", step.destination)).await;
        let destination = step.destination.to_string();
        if *self.0.state.failing.lock().unwrap() == destination {
            return Err(Error::new(ErrorKind::PermissionDenied, "cannot write it"));
        }
        let body = if self.0.state.hides_tokens.load(Ordering::Relaxed) {
            let pieces = stream::unfold(body, |mut body| async {
                body.next().await.map(|piece| (piece, body))
            });
            BodyReader::new(pieces.boxed())
        } else {
            body
        };
        let mut written = self.1.write(step, body, from).await?;
        if *self.0.state.warning.lock().unwrap() == destination {
            written.warnings.push(Error::new(ErrorKind::PermissionDenied, "cannot set the owner"));
        }
        Ok(written)
    }

    async fn can_resume(&self, step: &Step, from: &WriteToken) -> Result<bool> {
        self.0.call(format!("ask about {}", step.destination)).await;
        self.1.can_resume(step, from).await
    }

    async fn sync(&self) -> Result<()> {
        self.0.call("sync".to_owned()).await;
        self.1.sync().await
    }

    async fn end_phase(&self, phase: Phase) -> Result<()> {
        self.0.call(format!("end phase {}", phase.0)).await;
        self.1.end_phase(phase).await
    }

    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict> {
        self.0.call(format!("verify {}", step.destination)).await;
        self.1.verify(step, level).await
    }

    async fn finish(&self) -> Result<RestoreNotes> {
        self.0.call("finish".to_owned()).await;
        let mut notes = self.1.finish().await?;
        notes.warnings.extend(self.0.state.last_words.lock().unwrap().clone());
        Ok(notes)
    }

    async fn abort(&self) -> Result<()> {
        self.0.call("abort".to_owned()).await;
        self.1.abort().await
    }
}
