//! The contracts of [`Runs`](crate::state::Runs), [`Leases`](crate::state::Leases),
//! [`Checkpoints`](crate::state::Checkpoints), [`Logs`](crate::state::Logs) and
//! [`Settings`](crate::state::Settings), case by case.

mod checkpoints;
mod dropped;
mod leases;
mod logs;
mod orders;
mod random;
mod settings;
mod slots;
mod states;
mod sweep;

pub use checkpoints::{
    a_checkpoint_comes_back_in_its_part_only, a_commit_that_is_taken_back_drops_its_outputs,
    outputs_are_recorded_while_it_is_not_too_late, packs_are_noted_once,
    progress_ends_the_count_of_attempts, values_of_adapters_come_back_in_order,
    what_is_too_much_for_a_checkpoint_is_refused,
};
pub use dropped::{
    dropped_calls_of_persons_take_effect_whole_or_not_at_all,
    dropped_calls_of_workers_take_effect_whole_or_not_at_all,
    dropped_moves_take_effect_whole_or_not_at_all,
};
pub use leases::{
    a_claim_may_name_its_run, a_lease_that_is_gone_does_nothing,
    a_run_whose_time_has_not_come_holds_up_no_other, a_yield_spends_no_attempt,
    attempts_that_are_used_up_end_it_with_the_last_cause, claims_follow_priority_then_creation,
    each_claim_has_a_higher_fence, of_racing_claimers_each_run_goes_to_one,
    reports_and_progress_come_back, what_is_to_rest_rests_when_it_is_claimed,
    workers_hear_what_is_wanted, workers_that_hold_leases_are_listed,
};
pub use logs::{
    lines_are_numbered_in_the_order_of_their_effect, lines_come_back_and_are_filtered,
    lines_out_of_bounds_are_refused_all_together, logs_of_old_runs_are_removed,
};
pub use orders::{
    a_key_makes_one_run, a_number_is_given_once, a_run_comes_back_as_it_was_ordered,
    an_id_is_used_once, ended_runs_are_removed_oldest_first, lists_are_newest_first_and_filtered,
    of_racing_orders_that_exclude_each_other_one_is_active,
    of_racing_orders_with_one_key_one_makes_the_run, orders_out_of_bounds_are_refused,
    racing_orders_are_numbered_without_gaps, runs_of_other_scopes_are_not_there,
    runs_that_exclude_each_other_follow_each_other, the_version_tells_of_each_change,
};
pub use random::what_happens_at_random_is_what_happens_to_a_model;
pub use settings::{odd_settings_are_refused, racing_swaps_lose_nothing, settings_are_swapped};
pub use slots::{
    no_more_runs_use_a_resource_than_each_allows, racing_claimers_respect_slots,
    what_has_no_room_holds_up_no_other,
};
pub use states::{
    asking_twice_changes_nothing, only_a_person_undoes_what_a_person_wants,
    times_of_a_run_are_noted, what_persons_ask_follows_the_rules_from_every_state,
    what_workers_report_follows_the_rules_from_every_state,
};
pub use sweep::{
    a_lease_lives_until_it_is_swept, a_reboot_ends_all_leases,
    a_run_that_does_not_come_to_rest_is_overdue, a_run_that_nobody_cancels_is_overdue,
    a_sweep_moves_so_many_at_most, steps_of_the_wall_clock_leave_leases_alone,
    the_lease_of_a_dead_worker_is_lost, what_time_mends_goes_on,
};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::KeepAlive;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Retry};
use crate::model::{AttemptPolicy, RunInput, RunKind, RunOutcome, RunState, Wanted};
use crate::state::{
    Actor, Claim, Lease, LeaseRef, NewRun, Report, Run, RunFilter, RunId, Scope, StateStore,
    WorkerId,
};
use crate::testing::ManualClock;

/// Makes one test for each line of the contracts of the traits for runs in
/// [`state`](crate::state), in a module `$name`. `$fixture` is an async closure that returns an empty
/// store as a [`RunsFixture`](crate::testing::conformance::RunsFixture), for each test a new one.
#[macro_export]
macro_rules! runs_conformance {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_tests! { runs, $name, $fixture;
            a_run_comes_back_as_it_was_ordered
            a_number_is_given_once
            a_key_makes_one_run
            an_id_is_used_once
            runs_that_exclude_each_other_follow_each_other
            orders_out_of_bounds_are_refused
            runs_of_other_scopes_are_not_there
            lists_are_newest_first_and_filtered
            ended_runs_are_removed_oldest_first
            the_version_tells_of_each_change
            racing_orders_are_numbered_without_gaps
            of_racing_orders_with_one_key_one_makes_the_run
            of_racing_orders_that_exclude_each_other_one_is_active
            what_persons_ask_follows_the_rules_from_every_state
            what_workers_report_follows_the_rules_from_every_state
            asking_twice_changes_nothing
            only_a_person_undoes_what_a_person_wants
            times_of_a_run_are_noted
            claims_follow_priority_then_creation
            a_claim_may_name_its_run
            a_run_whose_time_has_not_come_holds_up_no_other
            what_is_to_rest_rests_when_it_is_claimed
            each_claim_has_a_higher_fence
            a_lease_that_is_gone_does_nothing
            a_yield_spends_no_attempt
            attempts_that_are_used_up_end_it_with_the_last_cause
            reports_and_progress_come_back
            workers_hear_what_is_wanted
            workers_that_hold_leases_are_listed
            of_racing_claimers_each_run_goes_to_one
            no_more_runs_use_a_resource_than_each_allows
            what_has_no_room_holds_up_no_other
            racing_claimers_respect_slots
            a_lease_lives_until_it_is_swept
            the_lease_of_a_dead_worker_is_lost
            steps_of_the_wall_clock_leave_leases_alone
            a_reboot_ends_all_leases
            a_run_that_does_not_come_to_rest_is_overdue
            a_run_that_nobody_cancels_is_overdue
            what_time_mends_goes_on
            a_sweep_moves_so_many_at_most
            a_checkpoint_comes_back_in_its_part_only
            what_is_too_much_for_a_checkpoint_is_refused
            values_of_adapters_come_back_in_order
            progress_ends_the_count_of_attempts
            packs_are_noted_once
            outputs_are_recorded_while_it_is_not_too_late
            a_commit_that_is_taken_back_drops_its_outputs
            lines_come_back_and_are_filtered
            lines_out_of_bounds_are_refused_all_together
            lines_are_numbered_in_the_order_of_their_effect
            logs_of_old_runs_are_removed
            settings_are_swapped
            odd_settings_are_refused
            racing_swaps_lose_nothing
            dropped_calls_of_persons_take_effect_whole_or_not_at_all
            dropped_calls_of_workers_take_effect_whole_or_not_at_all
            dropped_moves_take_effect_whole_or_not_at_all
            what_happens_at_random_is_what_happens_to_a_model
        }
    };
}

/// An empty store, its clock, and what keeps it alive.
pub struct RunsFixture {
    store: Arc<dyn StateStore>,
    clock: ManualClock,
    keep_alive: KeepAlive,
}

impl fmt::Debug for RunsFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunsFixture").field("store", &self.store).finish_non_exhaustive()
    }
}

impl RunsFixture {
    /// Returns a fixture of this store, which goes by this clock.
    pub fn new(store: impl StateStore, clock: ManualClock) -> Self {
        Self { store: Arc::new(store), clock, keep_alive: Vec::new() }
    }

    /// Keeps something until the case has ended, such as a temporary directory.
    #[must_use]
    pub fn keeping(mut self, thing: impl Send + Sync + 'static) -> Self {
        self.keep_alive.push(Box::new(thing));
        self
    }

    fn desk(&self) -> Desk {
        Desk {
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            scope: Scope::default(),
            actor: Actor::new("test").expect("an actor"),
        }
    }
}

/// A store as one actor sees one scope of it.
#[derive(Debug, Clone)]
struct Desk {
    store: Arc<dyn StateStore>,
    clock: ManualClock,
    scope: Scope,
    actor: Actor,
}

/// How long leases are taken for.
const LEASE: Duration = Duration::from_mins(1);
/// Longer than any wait before the next attempt.
const ANY_WAIT: Duration = Duration::from_hours(1);

const UNREACHABLE: RunInput = RunInput::Failed { kind: ErrorKind::Unavailable, retry: Retry::Soon };
const CORRUPT: RunInput = RunInput::Failed { kind: ErrorKind::Corrupt, retry: Retry::Never };
const THROTTLED: RunInput = RunInput::Failed { kind: ErrorKind::RateLimited, retry: Retry::Soon };

impl Desk {
    fn in_scope(&self, scope: &str) -> Self {
        Self { scope: Scope::new(scope).expect("a scope"), ..self.clone() }
    }

    fn as_actor(&self, actor: &str) -> Self {
        Self { actor: Actor::new(actor).expect("an actor"), ..self.clone() }
    }

    async fn try_create(&self, run: NewRun) -> Result<Run, Error> {
        self.store.create_run(&self.scope, &self.actor, run).await
    }

    async fn create(&self, run: NewRun) -> Run {
        self.try_create(run).await.expect("it is created")
    }

    async fn find(&self, id: RunId) -> Option<Run> {
        self.store.run(&self.scope, id).await.expect("an answer")
    }

    async fn run(&self, id: RunId) -> Run {
        self.find(id).await.expect("it is there")
    }

    fn clock_now(&self) -> jiff::Timestamp {
        crate::env::Clock::now(&self.clock)
    }

    async fn numbers(&self) -> Vec<u64> {
        let any = RunFilter::default();
        let runs = self.store.runs(&self.scope, &any, None, usize::MAX).await;
        runs.expect("an answer").into_iter().map(|run| run.number).collect()
    }

    async fn ask(&self, id: RunId, wanted: Wanted) -> Result<Run, Error> {
        self.store.ask(&self.scope, &self.actor, id, wanted).await
    }

    async fn claim(&self) -> Option<Lease> {
        self.claim_as("worker").await
    }

    async fn claim_as(&self, name: &str) -> Option<Lease> {
        let claim = Claim::new(worker(name), LEASE);
        self.store.claim(&claim).await.expect("an answer")
    }

    async fn claim_run(&self, id: RunId) -> Option<Lease> {
        let claim = Claim::new(worker("worker"), LEASE).only(id);
        self.store.claim(&claim).await.expect("an answer")
    }

    async fn report(&self, lease: &LeaseRef, input: RunInput) -> Result<Run, Error> {
        self.store.report(lease, input, Report::default()).await
    }

    async fn sweep(&self) -> usize {
        self.store.sweep(&[], usize::MAX).await.expect("an answer")
    }

    /// A new run that somebody holds.
    async fn leased(&self) -> Lease {
        self.leased_of(new_run("run")).await
    }

    async fn leased_of(&self, run: NewRun) -> Lease {
        let run = self.create(run).await;
        self.claim_run(run.new.id).await.expect("it is claimed")
    }

    /// Brings a new run into a state; the lease too, where one is held there.
    async fn in_state(&self, state: RunState) -> (RunId, Option<LeaseRef>) {
        let id = self.create(new_run("run")).await.new.id;
        if state == RunState::Queued {
            return (id, None);
        }
        let lease = self.claim_run(id).await.expect("it is claimed").lease;
        let outcome = match state {
            RunState::Succeeded => Some(RunOutcome::Succeeded),
            RunState::Warnings => Some(RunOutcome::Warnings),
            RunState::Partial => Some(RunOutcome::Partial),
            RunState::Failed => Some(RunOutcome::Failed),
            _ => None,
        };
        if matches!(state, RunState::Pausing | RunState::Paused) {
            self.ask(id, Wanted::Pause).await.expect("it is asked");
        }
        if matches!(state, RunState::Cancelling | RunState::Cancelled) {
            self.ask(id, Wanted::Cancel).await.expect("it is asked");
        }
        let mut inputs = Vec::new();
        match state {
            RunState::Paused => inputs.push(RunInput::Rested),
            RunState::Cancelled => inputs.push(RunInput::CancelFinished),
            RunState::Committing => inputs.push(RunInput::CommitRecorded),
            _ => {}
        }
        if let Some(outcome) = outcome {
            inputs.extend([RunInput::CommitRecorded, RunInput::Finished(outcome)]);
        }
        let mut run = self.run(id).await;
        for input in inputs {
            run = self.report(&lease, input).await.expect("it moves");
        }
        assert_eq!(run.state, state);
        (id, run.worker.is_some().then_some(lease))
    }
}

/// An order that asks for nothing special, and waits for nothing between attempts.
fn new_run(title: &str) -> NewRun {
    let id = RunId::random(&Env::system()).expect("an id");
    let attempts = AttemptPolicy {
        first_delay: Duration::ZERO,
        max_delay: Duration::ZERO,
        ..AttemptPolicy::default()
    };
    NewRun { attempts, ..NewRun::new(id, RunKind::Backup, title, json("{}")) }
}

fn json(text: &str) -> Arc<RawValue> {
    RawValue::from_string(text.to_owned()).expect("a JSON value").into()
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("a worker")
}

/// All of it, bodies byte by byte.
#[track_caller]
fn assert_same(found: &Run, expected: &Run) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

#[track_caller]
fn assert_invalid<T: fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", error.report());
}
