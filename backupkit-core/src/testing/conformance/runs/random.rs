//! What happens at random, next to a model.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{CORRUPT, Desk, LEASE, RunsFixture, THROTTLED, UNREACHABLE, new_run, worker};
use crate::model::{
    CANCEL_GRACE, LeaseChange, PAUSE_GRACE, PauseReason, RunFacts, RunInput, RunOutcome, RunState,
    Wanted,
};
use crate::state::{Claim, LeaseRef, NewRun, RunId};
use crate::testing::entropy::Random;

const SEEDS: [u64; 4] = [1, 2, 3, 4];
const STEPS: usize = 300;
const MOST_RUNS: usize = 6;

/// What a run should be. Times are those since the beginning.
#[derive(Debug, Clone)]
struct Expected {
    state: RunState,
    wanted: Wanted,
    pause_reason: Option<PauseReason>,
    attempts: u32,
    progressed: bool,
    reach: u64,
    priority: i32,
    state_since: Duration,
    wanted_since: Duration,
    /// The worker, and when its lease is over.
    lease: Option<(&'static str, Duration)>,
    is_mended_by_time: bool,
    checkpoint: Option<Bytes>,
    lines: u64,
}

#[derive(Debug)]
struct Model {
    now: Duration,
    /// In the order of their creation.
    runs: Vec<(RunId, Expected)>,
    leases: BTreeMap<RunId, Vec<LeaseRef>>,
}

impl Expected {
    fn facts(&self) -> RunFacts {
        RunFacts {
            wanted: self.wanted,
            pause_reason: self.pause_reason,
            leased: self.lease.is_some(),
            attempts: self.attempts,
            progressed: self.progressed,
            jitter: 0,
        }
    }

    /// Whether it moves; then it did.
    fn happen(&mut self, input: RunInput, worker: &'static str, now: Duration) -> bool {
        let policy = new_run("model").attempts;
        let Ok(next) = self.state.after(input, &self.facts(), &policy) else { return false };
        if !next.changed {
            return true;
        }
        if self.state != next.state {
            (self.state, self.state_since) = (next.state, now);
        }
        if self.wanted != next.wanted {
            (self.wanted, self.wanted_since) = (next.wanted, now);
        }
        (self.pause_reason, self.attempts) = (next.pause_reason, next.attempts);
        self.is_mended_by_time = next.delay.is_some();
        match next.lease {
            LeaseChange::Take => {
                self.lease = Some((worker, now + LEASE));
                self.progressed = false;
            }
            LeaseChange::Keep => {}
            LeaseChange::Release => self.lease = None,
        }
        true
    }

    fn due(&self, dead: &str, now: Duration) -> Option<RunInput> {
        let is_lost = |(worker, until): (&str, Duration)| worker == dead || until <= now;
        if self.state.is_terminal() {
            None
        } else if self.wanted == Wanted::Cancel
            && now.saturating_sub(self.wanted_since) >= CANCEL_GRACE
        {
            Some(RunInput::CancelOverdue)
        } else if self.state == RunState::Pausing
            && now.saturating_sub(self.state_since) >= PAUSE_GRACE
        {
            Some(RunInput::PauseOverdue)
        } else if self.lease.is_some_and(is_lost) {
            Some(RunInput::LeaseLost)
        } else if self.state == RunState::Paused && self.wanted == Wanted::Run {
            self.is_mended_by_time.then_some(RunInput::PauseMended)
        } else {
            None
        }
    }
}

impl Model {
    fn next(&self) -> Option<usize> {
        let is_claimable =
            |run: &Expected| run.lease.is_none() && run.state.is_claimable(run.wanted);
        let claimable = (0..self.runs.len()).filter(|place| is_claimable(&self.runs[*place].1));
        claimable.min_by_key(|place| (std::cmp::Reverse(self.runs[*place].1.priority), *place))
    }

    /// The run that is claimed, if any.
    fn claim(&mut self, worker: &'static str) -> Option<RunId> {
        while let Some(place) = self.next() {
            let (id, run) = &mut self.runs[place];
            assert!(run.happen(RunInput::Claimed, worker, self.now), "{run:?}");
            if run.lease.is_some() {
                return Some(*id);
            }
        }
        None
    }
}

/// Hundreds of calls, each compared with what a model does.
pub async fn what_happens_at_random_is_what_happens_to_a_model(fixture: RunsFixture) {
    for seed in SEEDS {
        super::super::say(&format!("seed {seed}"));
        let desk = fixture.desk().in_scope(&format!("seed {seed}"));
        let mut walk = Walk { random: Random::new(seed), moved: 0, refused: 0 };
        let mut model = Model { now: Duration::ZERO, runs: Vec::new(), leases: BTreeMap::new() };
        for step in 0..STEPS {
            walk.step(&desk, &mut model).await;
            assert_is_model(&desk, &model, step).await;
        }
        assert!(walk.moved > STEPS / 3, "only {} calls moved a run", walk.moved);
        assert!(walk.refused > STEPS / 20, "only {} calls were refused", walk.refused);
        // Leases of this walk are in nobody's way in the next one.
        for (id, run) in &model.runs {
            if !run.state.is_terminal() {
                desk.ask(*id, Wanted::Cancel).await.ok();
            }
        }
        desk.clock.advance(CANCEL_GRACE);
        while desk.claim().await.is_some() || desk.sweep().await > 0 {
            desk.clock.advance(LEASE);
        }
    }
}

/// A walk at random.
struct Walk {
    random: Random,
    moved: usize,
    refused: usize,
}

impl Walk {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let place = self.random.below(from.len() as u64);
        from[usize::try_from(place).expect("a place")]
    }

    fn count(&mut self, moved: bool, expected: bool, what: &str) {
        assert_eq!(moved, expected, "{what}");
        if moved { self.moved += 1 } else { self.refused += 1 }
    }

    async fn step(&mut self, desk: &Desk, model: &mut Model) {
        let active = model.runs.iter().filter(|(_, run)| !run.state.is_terminal()).count();
        let action = self.random.below(12);
        let name = self.pick(&["a", "b", "c"]);
        if active < 2 || (action == 0 && active < MOST_RUNS) {
            return self.create(desk, model).await;
        }
        match action {
            0 | 1 => {
                let seconds = self.pick(&[1, 7, 20, 31, 61, 601]);
                let time = Duration::from_secs(seconds);
                desk.clock.advance(time);
                model.now += time;
            }
            2 | 3 => {
                let claim = Claim::new(worker(name), LEASE);
                let claimed = desk.store.claim(&claim).await.expect("an answer");
                let lease = claimed.map(|claimed| claimed.lease);
                assert_eq!(lease.map(|lease| lease.run()), model.claim(name));
                if let Some(lease) = lease {
                    model.leases.entry(lease.run()).or_default().push(lease);
                    self.moved += 1;
                }
            }
            4 => {
                let dead = [worker(name)];
                let moved = desk.store.sweep(&dead, usize::MAX).await.expect("an answer");
                let mut expected = 0;
                for (_, run) in &mut model.runs {
                    let Some(input) = run.due(name, model.now) else { continue };
                    assert!(run.happen(input, name, model.now), "{input:?}");
                    expected += 1;
                }
                assert_eq!(moved, expected);
                self.moved += moved;
            }
            5 | 6 => self.ask(desk, model).await,
            _ => self.work(desk, model, action).await,
        }
    }

    async fn create(&mut self, desk: &Desk, model: &mut Model) {
        let priority = self.pick(&[-1, 0, 0, 3]);
        let made = desk.create(NewRun { priority, ..new_run("run") }).await;
        let run = Expected {
            state: RunState::Queued,
            wanted: Wanted::Run,
            pause_reason: None,
            attempts: 0,
            progressed: false,
            reach: 0,
            priority,
            state_since: model.now,
            wanted_since: model.now,
            lease: None,
            is_mended_by_time: false,
            checkpoint: None,
            lines: 0,
        };
        model.runs.push((made.new.id, run));
        self.moved += 1;
    }

    async fn ask(&mut self, desk: &Desk, model: &mut Model) {
        use {RunInput as I, Wanted as W};
        let (wanted, input) = self.pick(&[
            (W::Run, I::RunAsked),
            (W::Run, I::RunAsked),
            (W::Pause, I::PauseAsked),
            (W::Pause, I::PauseAsked),
            (W::Cancel, I::CancelAsked),
        ]);
        let place = self.random.below(model.runs.len() as u64);
        let (id, run) = &mut model.runs[usize::try_from(place).expect("a place")];
        let result = desk.ask(*id, wanted).await;
        let expected = run.happen(input, "", model.now);
        self.count(result.is_ok(), expected, &format!("{wanted}: {run:?}"));
    }

    /// What somebody does who holds a lease, or held it.
    async fn work(&mut self, desk: &Desk, model: &mut Model, action: u64) {
        let held: Vec<LeaseRef> = model.leases.values().flatten().copied().collect();
        if held.is_empty() {
            return;
        }
        let newest: Vec<LeaseRef> =
            model.leases.values().filter_map(|leases| leases.last()).copied().collect();
        // One of all that ever were, now and then.
        let lease = if self.random.below(6) == 0 { self.pick(&held) } else { self.pick(&newest) };
        let found = model.runs.iter_mut().find(|(id, _)| *id == lease.run());
        let run = &mut found.expect("it was created").1;
        let is_alive = newest.contains(&lease) && run.lease.is_some();
        let what = format!("action {action}: {run:?}");
        match action {
            7 => {
                let renewed = desk.store.renew(&lease, LEASE, None).await;
                self.count(renewed.is_ok(), is_alive, &what);
                if let Some((_, until)) = run.lease.as_mut().filter(|_| is_alive) {
                    *until = model.now + LEASE;
                }
            }
            8 => {
                let reach = self.random.below(20);
                let bytes = Bytes::copy_from_slice(&self.random.next_u64().to_le_bytes());
                let saved = desk.store.save_checkpoint(&lease, 0, bytes.clone(), reach).await;
                self.count(saved.is_ok(), is_alive, &what);
                if is_alive {
                    run.progressed |= reach > run.reach;
                    run.reach = reach.max(run.reach);
                    run.checkpoint = Some(bytes);
                }
            }
            9 => {
                let appended = desk.store.append_logs(&lease, &[super::logs::line("x")]).await;
                self.count(appended.is_ok(), is_alive, &what);
                run.lines += u64::from(is_alive);
            }
            _ => {
                let input = self.pick(&[
                    RunInput::WindowClosed,
                    RunInput::PauseMended,
                    RunInput::Rested,
                    RunInput::Yielded,
                    RunInput::CommitRecorded,
                    RunInput::BlobLost,
                    RunInput::Finished(RunOutcome::Succeeded),
                    RunInput::Finished(RunOutcome::Partial),
                    RunInput::CancelFinished,
                    CORRUPT,
                    UNREACHABLE,
                    THROTTLED,
                ]);
                let reported = desk.report(&lease, input).await;
                let expected = is_alive && run.happen(input, "", model.now);
                self.count(reported.is_ok(), expected, &format!("{input:?}: {what}"));
            }
        }
    }
}

async fn assert_is_model(desk: &Desk, model: &Model, step: usize) {
    for (id, expected) in &model.runs {
        let run = desk.run(*id).await;
        let what = format!("step {step}: {expected:?}");
        assert_eq!((run.state, run.wanted), (expected.state, expected.wanted), "{what}");
        assert_eq!(run.pause_reason, expected.pause_reason, "{what}");
        assert_eq!((run.attempts, run.last_log), (expected.attempts, expected.lines), "{what}");
        let holder = expected.lease.map(|(name, _)| worker(name));
        assert_eq!(run.worker, holder, "{what}");
        assert_eq!(run.ended_at.is_some(), expected.state.is_terminal(), "{what}");
        let newest = model.leases.get(id).and_then(|leases| leases.last());
        if let (Some(lease), Some(_)) = (newest, &holder) {
            let found = desk.store.load_checkpoint(lease, 0).await.expect("it is alive");
            assert_eq!(found, expected.checkpoint, "{what}");
        }
    }
}
