//! The result of testing a connection, step by step.

use std::future::Future;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::env::Env;
use crate::error::Result;

/// What a `check` tried, in order. It is healthy if no step failed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Probe {
    /// The steps in the order tried.
    pub steps: Vec<ProbeStep>,
}

/// One thing tried. In JSON: `name`, `outcome` (`ok`, `failed` or `skipped`), `reason` where there is one,
/// `seconds`, and `hint`.
#[derive(Debug, Clone)]
pub struct ProbeStep {
    /// What was tried, such as "open the folder".
    pub name: String,
    /// How it went.
    pub outcome: ProbeOutcome,
    /// How long it took.
    pub took: Duration,
    /// What to do if it failed.
    pub hint: Option<String>,
}

/// How a step of a probe went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It works.
    Ok,
    /// It does not, for this reason.
    Failed(String),
    /// It was not tried, for this reason.
    Skipped(String),
}

impl ProbeOutcome {
    /// How it went, in a word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Why it does not work, or was not tried.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Failed(reason) | Self::Skipped(reason) => Some(reason),
        }
    }
}

impl Serialize for ProbeStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, outcome, took, hint } = self;
        let fields = 4 + usize::from(outcome.reason().is_some());
        let mut step = serializer.serialize_struct("ProbeStep", fields)?;
        step.serialize_field("name", name)?;
        step.serialize_field("outcome", outcome.as_str())?;
        match outcome.reason() {
            Some(reason) => step.serialize_field("reason", reason)?,
            None => step.skip_field("reason")?,
        }
        step.serialize_field("seconds", &took.as_secs_f64())?;
        step.serialize_field("hint", hint)?;
        step.end()
    }
}

impl Probe {
    /// Whether no step failed.
    pub fn is_healthy(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step.outcome, ProbeOutcome::Failed(_)))
    }
}

/// Tries things one after the other and notes how each went.
#[derive(Debug)]
pub struct Probing<'a> {
    env: &'a Env,
    probe: Probe,
}

impl<'a> Probing<'a> {
    /// Begins. Times come from `env`.
    pub fn new(env: &'a Env) -> Self {
        Self { env, probe: Probe::default() }
    }

    /// Tries something; `None` if it failed. `hint` says what to do then, unless the error itself does.
    pub fn step<T>(
        &mut self,
        name: impl Into<String>,
        hint: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        let started = self.env.clock().elapsed_since_boot();
        let result = work();
        self.note(name.into(), hint, started, result)
    }

    /// As [`Self::step`], for what waits.
    pub async fn step_async<T>(
        &mut self,
        name: impl Into<String>,
        hint: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        let started = self.env.clock().elapsed_since_boot();
        let result = work.await;
        self.note(name.into(), hint, started, result)
    }

    /// Says that something was not tried.
    pub fn skip(&mut self, name: impl Into<String>, reason: &str) {
        self.probe.steps.push(ProbeStep {
            name: name.into(),
            outcome: ProbeOutcome::Skipped(reason.to_owned()),
            took: Duration::ZERO,
            hint: None,
        });
    }

    /// Takes over the steps of another probe.
    pub fn extend(&mut self, other: Probe) {
        self.probe.steps.extend(other.steps);
    }

    /// What was tried.
    pub fn finish(self) -> Probe {
        self.probe
    }

    fn note<T>(
        &mut self,
        name: String,
        hint: &str,
        started: Duration,
        result: Result<T>,
    ) -> Option<T> {
        let took = self.env.clock().elapsed_since_boot().saturating_sub(started);
        let (outcome, hint, value) = match result {
            Ok(value) => (ProbeOutcome::Ok, None, Some(value)),
            Err(error) => {
                let hint = error.hint().unwrap_or(hint).to_owned();
                (ProbeOutcome::Failed(error.to_string()), Some(hint), None)
            }
        };
        self.probe.steps.push(ProbeStep { name, outcome, took, hint });
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_flat_in_json_and_times_are_seconds() {
        let mut probing = Probe::default();
        for (outcome, hint) in
            [(ProbeOutcome::Ok, None), (ProbeOutcome::Failed("no".into()), Some("yes".to_owned()))]
        {
            let took = Duration::from_millis(1500);
            probing.steps.push(ProbeStep { name: "a".into(), outcome, took, hint });
        }
        let expected = serde_json::json!({ "steps": [
            { "name": "a", "outcome": "ok", "seconds": 1.5, "hint": null },
            { "name": "a", "outcome": "failed", "reason": "no", "seconds": 1.5, "hint": "yes" },
        ] });
        assert_eq!(serde_json::to_value(&probing).unwrap(), expected);
    }
}
