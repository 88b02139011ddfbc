//! What a paused or crashed restore needs to go on: one small row in the journal.
//!
//! A step is known by its number in the plan, which is the same on a resume. So the row says with few
//! numbers which steps are done, and a fingerprint of the plan proves that they are the same steps.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::done::DoneSteps;
use super::fingerprint::Fingerprint;
use super::outcome::Outcomes;
use super::{RestoreCounts, RestoreRequest, VerifyCounts};
use crate::error::{Error, ErrorKind, Result};
use crate::model::BlobId;
use crate::pipeline::checkpoint::unusable;
use crate::target::Phase;
use crate::token::WriteToken;

const VERSION: u32 = 1;
/// What journals take.
const MAX_ROW_BYTES: usize = 1 << 20;
/// Together, tokens have less than this; files whose tokens have no room start over.
const MAX_TOKEN_BYTES: usize = 256 << 10;
/// The code of the error that makes a restore start over.
const PLAN_CHANGED: &str = "restore-plan-changed";

/// The row. The default one is of a restore of which nothing is done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Row {
    version: u32,
    /// What is restored, where to and how; `None` starts from the beginning.
    restore: Option<BlobId>,
    /// The steps that are done and durable.
    pub(super) done: DoneSteps,
    /// The last phase of which all steps and the end are done.
    ended: Option<u8>,
    /// How many steps the fingerprint is of.
    planned: u64,
    plan: Option<BlobId>,
    tokens: Vec<SavedToken>,
    /// Warnings told about steps that are done.
    pub(super) warnings: u64,
    /// What came of it, once only the target has to be told that it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) finished: Option<Finished>,
}

/// What came of a restore.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) counts: RestoreCounts,
    pub(super) verified: Option<VerifyCounts>,
    pub(super) problem_count: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedToken {
    step: usize,
    bytes: u64,
    token: WriteToken,
}

impl Row {
    /// Collects the row of a restore of which nothing is under way but a large file, and which goes on
    /// from an earlier row.
    pub(super) fn collect(
        restore: BlobId,
        earlier: &Self,
        outcomes: &Outcomes,
        plan: &Fingerprint,
        tokens: impl Iterator<Item = (usize, u64, WriteToken)>,
    ) -> Self {
        let (mut done, ended) = outcomes.done();
        let mut ended = ended.map(|phase| phase.0);
        let (mut planned, mut digest) = (plan.steps(), Some(plan.digest()));
        if !earlier.is_proved(plan) {
            // What the earlier row says of steps that were not taken again is neither lost nor taken
            // for proved: the next run has to prove the same plan.
            done.add_from(usize::try_from(planned).unwrap_or(usize::MAX), &earlier.done);
            ended = ended.max(earlier.ended);
            (planned, digest) = (earlier.planned, earlier.plan);
        }
        let mut room = MAX_TOKEN_BYTES;
        let tokens = tokens.filter_map(|(step, bytes, token)| {
            // Base64, and some words around it.
            room = room.checked_sub(2 * token.as_bytes().len() + 100)?;
            Some(SavedToken { step, bytes, token })
        });
        Self {
            version: VERSION,
            restore: Some(restore),
            done,
            ended,
            planned,
            plan: digest,
            tokens: tokens.collect(),
            warnings: outcomes.warnings(),
            finished: None,
        }
    }

    /// How far the restore is: steps that are done first, then what is written of others.
    pub(super) fn reach(&self) -> u64 {
        let written = self.tokens.iter().fold(0u64, |sum, token| sum.saturating_add(token.bytes));
        let pages = (written >> 12).min(u64::from(u32::MAX));
        let done = u32::try_from(self.done.count()).unwrap_or(u32::MAX);
        u64::from(done) << 32 | pages
    }

    /// # Errors
    /// `Conflict` if it is damaged or of another restore.
    pub(super) fn decode(json: &[u8], restore: &BlobId) -> Result<Option<Self>> {
        if json.len() > MAX_ROW_BYTES {
            return Err(unusable("its row is too long"));
        }
        let row: Self = serde_json::from_slice(json).map_err(|_| unusable("its row is damaged"))?;
        if row.version != VERSION {
            return Err(unusable("another version of this program wrote it"));
        }
        let Some(of) = &row.restore else {
            return Ok(None);
        };
        if of != restore {
            return Err(unusable("it belongs to another restore"));
        }
        if !row.done.is_sound() {
            return Err(unusable("its row is damaged"));
        }
        Ok(Some(row))
    }

    pub(super) fn encode(&self) -> Result<Bytes> {
        let internal = |why: &str| Error::new(ErrorKind::Internal, why.to_owned());
        let json = serde_json::to_vec(self)
            .map_err(|error| internal("cannot write the checkpoint").with_source(error))?;
        if json.len() > MAX_ROW_BYTES {
            return Err(internal("the checkpoint of the restore is too long"));
        }
        Ok(json.into())
    }

    /// The row of a restore of which only the end is left.
    pub(super) fn of_finished(restore: BlobId, finished: Finished) -> Self {
        let finished = Some(finished);
        Self { version: VERSION, restore: Some(restore), finished, ..Self::default() }
    }

    /// The row of a restore that is over: the next one starts from the beginning.
    pub(super) fn over() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    /// How far a step was, and the token to go on from there.
    pub(super) fn token(&self, step: usize) -> Option<(u64, &WriteToken)> {
        let saved = self.tokens.iter().find(|saved| saved.step == step)?;
        Some((saved.bytes, &saved.token))
    }

    /// All of them.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (usize, u64, WriteToken)> + '_ {
        self.tokens.iter().map(|saved| (saved.step, saved.bytes, saved.token.clone()))
    }

    /// Whether the end of a phase was done before.
    pub(super) fn has_ended(&self, phase: Phase) -> bool {
        self.ended.is_some_and(|ended| ended >= phase.0)
    }

    /// Proves, once all steps were taken that the row speaks of, that they are the same.
    ///
    /// # Errors
    /// One that [`is_plan_changed`] tells.
    pub(super) fn check(&self, plan: &Fingerprint) -> Result<()> {
        if plan.steps() == self.planned && self.plan.is_some_and(|known| known != plan.digest()) {
            return Err(plan_changed());
        }
        Ok(())
    }

    /// Whether all steps were taken that the row speaks of, and are the same.
    fn is_proved(&self, plan: &Fingerprint) -> bool {
        plan.steps() >= self.planned && self.check(plan).is_ok()
    }

    /// As [`Self::check`], at the end of the plan.
    pub(super) fn check_end(&self, plan: &Fingerprint) -> Result<()> {
        if plan.steps() < self.planned { Err(plan_changed()) } else { Ok(()) }
    }
}

/// Tells restores apart: what is restored, from where, where to and how.
pub(super) fn name_of(request: &RestoreRequest) -> BlobId {
    let options = &request.options;
    let parts = [
        request.repository.id().as_bytes().to_vec(),
        request.snapshot.as_bytes().to_vec(),
        request.target.location().into_bytes(),
        options.path.to_token(),
        format!("{:?}", options.conflict).into_bytes(),
    ];
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(&part);
    }
    BlobId::of(&text)
}

fn plan_changed() -> Error {
    unusable("the target plans other steps than before").with_code(PLAN_CHANGED)
}

/// Whether a restore must start over because the row does not fit the plan.
pub(super) fn is_plan_changed(error: &Error) -> bool {
    error.code() == PLAN_CHANGED
}
