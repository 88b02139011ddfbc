//! Every pair of a state and an input.

use super::super::{
    AttemptPolicy, LeaseChange, PauseReason, Refusal, RunFacts, RunInput, RunKind, RunOutcome,
    RunState, Wanted,
};
use super::{CORRUPT, INPUTS, UNREACHABLE, place_of, usual_facts};
use crate::error::{ErrorKind, Retry};

/// What is expected of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    /// Moves on, or stays with something changed.
    To(RunState),
    /// Nothing changes, and that is no error.
    Same,
    Refused(Refusal),
}

/// The states that are not ends, in the order of the columns below.
const COLUMNS: [RunState; 6] = [
    RunState::Queued,
    RunState::Running,
    RunState::Pausing,
    RunState::Paused,
    RunState::Committing,
    RunState::Cancelling,
];

/// One row for each input, in the order of [`INPUTS`].
fn table() -> [[Then; 6]; 23] {
    use Refusal as R;
    use RunState as S;
    use Then::{Refused as No, Same, To};
    let no_lease = No(R::NotLeased);
    let gone = No(R::CancelAsked);
    let not_cancelling = No(R::NotCancelling);
    let too_early = No(R::NotCommitting);
    let finished = |end| [no_lease, too_early, too_early, no_lease, To(end), gone];
    let mendable =
        [no_lease, To(S::Paused), To(S::Paused), no_lease, To(S::Committing), To(S::Cancelling)];
    [
        // queued, running, pausing, paused, committing, cancelling
        [To(S::Running), No(R::Leased), No(R::Leased), No(R::Paused), No(R::Leased), No(R::Leased)],
        [To(S::Queued), Same, To(S::Running), To(S::Queued), Same, gone],
        [To(S::Paused), To(S::Pausing), Same, Same, No(R::Committing), gone],
        [
            To(S::Queued),
            To(S::Cancelling),
            To(S::Cancelling),
            To(S::Paused),
            No(R::Committing),
            Same,
        ],
        [To(S::Paused), To(S::Pausing), Same, Same, No(R::Committing), gone],
        [
            No(R::NotPaused),
            No(R::NotPaused),
            No(R::PausedByPerson),
            No(R::PausedByPerson),
            No(R::NotPaused),
            gone,
        ],
        [no_lease, To(S::Queued), To(S::Paused), no_lease, To(S::Committing), To(S::Cancelling)],
        [No(R::NotPaused), No(R::NotPaused), To(S::Paused), Same, No(R::NotPaused), gone],
        [no_lease, To(S::Queued), To(S::Queued), no_lease, To(S::Committing), To(S::Cancelling)],
        [no_lease, To(S::Queued), To(S::Queued), no_lease, To(S::Committing), To(S::Cancelling)],
        [no_lease, To(S::Committing), No(R::Pausing), no_lease, No(R::Committing), gone],
        [no_lease, too_early, too_early, no_lease, To(S::Queued), gone],
        finished(S::Succeeded),
        finished(S::Warnings),
        finished(S::Partial),
        finished(S::Failed),
        [no_lease, To(S::Failed), To(S::Failed), no_lease, To(S::Failed), To(S::Cancelled)],
        [no_lease, To(S::Queued), To(S::Paused), no_lease, To(S::Committing), To(S::Cancelling)],
        mendable,
        mendable,
        mendable,
        [no_lease, not_cancelling, not_cancelling, no_lease, not_cancelling, To(S::Cancelled)],
        [
            not_cancelling,
            not_cancelling,
            not_cancelling,
            not_cancelling,
            not_cancelling,
            To(S::Cancelled),
        ],
    ]
}

fn then(state: RunState, input: RunInput, facts: &RunFacts) -> Then {
    match state.after(input, facts, &AttemptPolicy::default()) {
        Ok(to) if to.changed => Then::To(to.state),
        Ok(same) => {
            assert_eq!((same.state, same.lease), (state, LeaseChange::Keep));
            assert_eq!((same.wanted, same.pause_reason), (facts.wanted, facts.pause_reason));
            Then::Same
        }
        Err(refusal) => Then::Refused(refusal),
    }
}

#[test]
fn every_pair_of_state_and_input_is_decided_as_the_table_says() {
    for (place, input) in INPUTS.into_iter().enumerate() {
        assert!(place_of(input) <= place, "{input:?} stands in the wrong place");
        assert_eq!(
            std::mem::discriminant(&INPUTS[place_of(input)]),
            std::mem::discriminant(&input)
        );
        for &state in RunState::ALL {
            let found = then(state, input, &usual_facts(state));
            let expected = match COLUMNS.iter().position(|column| *column == state) {
                Some(column) => table()[place][column],
                None => Then::Refused(Refusal::Ended(state)),
            };
            assert_eq!(found, expected, "{state} after {input:?}");
        }
    }
    let ends = RunState::ALL.iter().filter(|state| state.is_terminal()).count();
    assert_eq!(COLUMNS.len() + ends, RunState::ALL.len(), "a state without a column");
}

#[test]
fn what_nobody_leases_is_claimed_where_that_is_said() {
    for &state in RunState::ALL {
        for &wanted in Wanted::ALL {
            let facts = RunFacts { wanted, leased: false, ..usual_facts(state) };
            if matches!(state, RunState::Running | RunState::Pausing) {
                continue;
            }
            let claimed = state.after(RunInput::Claimed, &facts, &AttemptPolicy::default());
            assert_eq!(claimed.is_ok(), state.is_claimable(wanted), "{state}, wanted {wanted}");
        }
    }
}

#[test]
fn a_worker_that_claims_a_waiting_run_does_what_is_wanted() {
    let expect = |state: RunState, wanted, to, lease| {
        let facts = RunFacts { wanted, ..RunFacts::default() };
        let next = state.after(RunInput::Claimed, &facts, &AttemptPolicy::default()).unwrap();
        assert_eq!((next.state, next.lease), (to, lease), "{state}, wanted {wanted}");
    };
    expect(RunState::Queued, Wanted::Run, RunState::Running, LeaseChange::Take);
    expect(RunState::Queued, Wanted::Cancel, RunState::Cancelling, LeaseChange::Take);
    // The worker crashed while the run came to rest.
    expect(RunState::Queued, Wanted::Pause, RunState::Paused, LeaseChange::Release);
    expect(RunState::Paused, Wanted::Cancel, RunState::Cancelling, LeaseChange::Take);
    expect(RunState::Committing, Wanted::Run, RunState::Committing, LeaseChange::Take);
    expect(RunState::Cancelling, Wanted::Cancel, RunState::Cancelling, LeaseChange::Take);
}

#[test]
fn a_cancel_that_no_worker_takes_up_ends_and_is_not_taken_back() {
    for state in [RunState::Queued, RunState::Paused] {
        let facts = RunFacts { wanted: Wanted::Cancel, ..usual_facts(state) };
        assert_eq!(then(state, RunInput::CancelAsked, &facts), Then::Same);
        assert_eq!(then(state, RunInput::CancelOverdue, &facts), Then::To(RunState::Cancelled));
        for input in [RunInput::RunAsked, RunInput::PauseAsked, RunInput::WindowClosed] {
            assert_eq!(then(state, input, &facts), Then::Refused(Refusal::CancelAsked));
        }
    }
}

#[test]
fn time_ends_a_pause_that_no_person_asked_for() {
    for (state, to) in
        [(RunState::Pausing, RunState::Running), (RunState::Paused, RunState::Queued)]
    {
        let facts = RunFacts {
            wanted: Wanted::Run,
            pause_reason: Some(PauseReason::Window),
            ..usual_facts(state)
        };
        assert_eq!(then(state, RunInput::PauseMended, &facts), Then::To(to));
        // A person who asks as well makes it theirs.
        let asked = state.after(RunInput::PauseAsked, &facts, &AttemptPolicy::default()).unwrap();
        assert_eq!((asked.state, asked.wanted), (state, Wanted::Pause));
        assert_eq!(asked.pause_reason, Some(PauseReason::User));
    }
}

#[test]
fn an_error_does_not_take_back_the_pause_of_a_person() {
    let full = RunInput::Failed { kind: ErrorKind::StorageFull, retry: Retry::Never };
    let facts = usual_facts(RunState::Pausing);
    let policy = AttemptPolicy::default();
    let rest = RunState::Pausing.after(full, &facts, &policy).unwrap();
    assert_eq!(rest.pause_reason, Some(PauseReason::User));
    let by_window =
        RunFacts { wanted: Wanted::Run, pause_reason: Some(PauseReason::Window), ..facts };
    let rest = RunState::Pausing.after(full, &by_window, &policy).unwrap();
    assert_eq!(rest.pause_reason, Some(PauseReason::Space));
    let rest = RunState::Pausing.after(UNREACHABLE, &facts, &policy).unwrap();
    assert_eq!((rest.state, rest.attempts), (RunState::Paused, 1));
    assert_eq!(then(RunState::Pausing, CORRUPT, &facts), Then::To(RunState::Failed));
}

#[test]
fn what_can_be_mended_pauses_with_its_reason() {
    let reasons = [
        (ErrorKind::Unauthenticated, "credentials"),
        (ErrorKind::WrongPassword, "credentials"),
        (ErrorKind::StorageFull, "space"),
        (ErrorKind::QuotaExceeded, "quota"),
        (ErrorKind::RateLimited, "throttled"),
    ];
    for (kind, name) in reasons {
        let input = RunInput::Failed { kind, retry: Retry::Never };
        let facts = usual_facts(RunState::Running);
        let rest = RunState::Running.after(input, &facts, &AttemptPolicy::default()).unwrap();
        assert_eq!(rest.state, RunState::Paused);
        assert_eq!(rest.pause_reason.map(PauseReason::as_str), Some(name));
        assert_eq!((rest.wanted, rest.attempt_counted), (Wanted::Run, false));
        // Only what time mends has a time.
        assert_eq!(rest.delay.is_some(), kind == ErrorKind::RateLimited);
    }
    assert_eq!(PauseReason::for_error(ErrorKind::PermissionDenied), None);
}

#[test]
fn names_are_read_back_and_say_the_same_in_json() {
    macro_rules! check {
        ($($name:ident),+) => {$(
            for one in $name::ALL {
                let text = one.as_str();
                assert_eq!(text, text.to_lowercase());
                assert_eq!(text.parse::<$name>(), Ok(*one));
                let json = serde_json::to_string(one).unwrap();
                assert_eq!(json, format!("\"{text}\""));
                assert_eq!(serde_json::from_str::<$name>(&json).unwrap(), *one);
            }
            assert!("Running ".parse::<$name>().is_err());
        )+};
    }
    check!(RunState, Wanted, PauseReason, RunKind, RunOutcome);
    // They stand in databases: a changed name loses what is stored.
    let names: Vec<_> = RunState::ALL.iter().map(|state| state.as_str()).collect();
    assert_eq!(
        names.join(" "),
        "queued running pausing paused committing cancelling cancelled succeeded warnings partial failed"
    );
    let error = "done".parse::<RunState>().unwrap_err();
    assert_eq!(error.to_string(), "not a state of a run");
}
