//! Logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::super::helpers::race;
use super::{Desk, RunsFixture, assert_invalid, json};
use crate::model::{Level, RunInput, RunState};
use crate::state::{LogFilter, LogLine, MAX_LOG_LINE_BYTES, NewLogLine, RunId};

pub(super) fn line(text: &str) -> NewLogLine {
    NewLogLine {
        at: Timestamp::constant(1_767_225_600, 123_456_789),
        level: Level::Info,
        code: "code-1".to_owned(),
        text: text.to_owned(),
        body: json("{}"),
    }
}

async fn read(
    desk: &Desk,
    run: RunId,
    filter: &LogFilter,
    after: u64,
    most: usize,
) -> Vec<LogLine> {
    desk.store.logs(&desk.scope, run, filter, after, most).await.expect("an answer")
}

/// Line 3 of `Logs`; pages follow each other, and each part of a filter restricts.
pub async fn lines_come_back_and_are_filtered(fixture: RunsFixture) {
    let desk = fixture.desk();
    let (lease, other) = (desk.leased().await.lease, desk.leased().await.lease);
    let id = lease.run();
    let any = LogFilter::default();
    assert!(read(&desk, id, &any, 0, 9).await.is_empty());
    let mut lines: Vec<NewLogLine> = (0..500).map(|number| line(&number.to_string())).collect();
    let odd = ["", "a\0Error é\n名前", "%_\\ \"' ERROR", "É error"];
    for (text, level) in odd.iter().zip([Level::Info, Level::Warning, Level::Error, Level::Info]) {
        let body = json("{\"path\" :\"\\u0000é\"}");
        lines.push(NewLogLine { level, body, ..line(text) });
    }
    let appended = desk.store.append_logs(&lease, &lines[..3]).await.expect("it is appended");
    assert_eq!(appended, 3);
    assert_eq!(desk.store.append_logs(&lease, &[]).await.expect("it is appended"), 3);
    assert_eq!(desk.store.append_logs(&other, &[line("x")]).await.expect("it is appended"), 1);
    let appended = desk.store.append_logs(&lease, &lines[3..]).await.expect("it is appended");
    assert_eq!((appended, desk.run(id).await.last_log), (504, 504));
    let all = read(&desk, id, &any, 0, usize::MAX).await;
    assert_eq!(all.len(), lines.len());
    for (number, (found, expected)) in (1..).zip(all.iter().zip(&lines)) {
        assert_eq!(found.number, number);
        assert_eq!(format!("{:?}", found.line), format!("{expected:?}"));
    }
    let numbers = async |filter: &LogFilter, after, most| {
        let lines = read(&desk, id, filter, after, most).await;
        lines.iter().map(|line| line.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&any, 7, 3).await, [8, 9, 10]);
    assert_eq!(numbers(&any, 503, 3).await, [504]);
    assert_eq!(numbers(&any, u64::MAX, 3).await, [0; 0]);
    assert_eq!(numbers(&any, 0, 0).await, [0; 0]);
    let matters = |level| LogFilter { level: Some(level), text: None };
    assert_eq!(numbers(&matters(Level::Warning), 0, 9).await, [502, 503]);
    assert_eq!(numbers(&matters(Level::Error), 0, 9).await, [503]);
    assert_eq!(numbers(&matters(Level::Info), 0, 900).await.len(), 504);
    let with = |text: &str| LogFilter { level: None, text: Some(text.to_owned()) };
    assert_eq!(numbers(&with("eRRor"), 0, 9).await, [502, 503, 504]);
    assert_eq!(numbers(&with("error é"), 0, 9).await, [502]);
    assert_eq!(numbers(&with("é"), 0, 9).await, [502]);
    assert_eq!(numbers(&with("%_\\"), 0, 9).await, [503]);
    assert_eq!(numbers(&with("\0"), 0, 9).await, [502]);
    assert_eq!(numbers(&with("499"), 0, 1).await, [500]);
    let both = LogFilter { level: Some(Level::Error), text: Some("error".to_owned()) };
    assert_eq!(numbers(&both, 0, 9).await, [503]);
}

/// Line 2 of `Logs`: all or none.
pub async fn lines_out_of_bounds_are_refused_all_together(fixture: RunsFixture) {
    let desk = fixture.desk();
    let lease = desk.leased().await.lease;
    let longest = line(&"x".repeat(MAX_LOG_LINE_BYTES - 2));
    desk.store.append_logs(&lease, std::slice::from_ref(&longest)).await.expect("it is appended");
    let coded = |code: &str| NewLogLine { code: code.to_owned(), ..line("x") };
    let long = line(&"x".repeat(MAX_LOG_LINE_BYTES - 1));
    for bad in [long, coded(""), coded("A"), coded("a b"), coded(&"c".repeat(65))] {
        assert_invalid(desk.store.append_logs(&lease, &[line("good"), bad]).await);
    }
    let lines = read(&desk, lease.run(), &LogFilter::default(), 0, 9).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].line.text, longest.text);
    assert_eq!(desk.store.append_logs(&lease, &[line("x")]).await.expect("it is appended"), 2);
}

/// Line 1 of `Logs`: eight append, and one reads along.
pub async fn lines_are_numbered_in_the_order_of_their_effect(fixture: RunsFixture) {
    const APPENDERS: usize = 8;
    const BATCHES: usize = 12;
    let desk = fixture.desk();
    let lease = desk.leased().await.lease;
    let is_over = Arc::new(AtomicBool::new(false));
    let reader = {
        let (desk, is_over) = (desk.clone(), Arc::clone(&is_over));
        async move {
            let mut seen: Vec<LogLine> = Vec::new();
            loop {
                // Asked before the read: what was appended until then is read.
                let is_last = is_over.load(Ordering::Acquire);
                let after = seen.last().map_or(0, |line| line.number);
                let lines = read(&desk, lease.run(), &LogFilter::default(), after, 7).await;
                if lines.is_empty() && is_last {
                    return seen;
                }
                seen.extend(lines);
                tokio::task::yield_now().await;
            }
        }
    };
    let appenders = race(APPENDERS, |appender| {
        let desk = desk.clone();
        Box::pin(async move {
            for batch in 0..BATCHES {
                let lines: Vec<_> = (0..=batch % 3)
                    .map(|place| line(&format!("{appender} {batch:02} {place}")))
                    .collect();
                let last = desk.store.append_logs(&lease, &lines).await.expect("it is appended");
                assert!(last >= lines.len() as u64);
            }
        })
    });
    let appending = async {
        appenders.await;
        is_over.store(true, Ordering::Release);
    };
    let (seen, ()) = futures::future::join(reader, appending).await;
    let numbers: Vec<u64> = seen.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=(APPENDERS * BATCHES * 2) as u64).collect::<Vec<_>>());
    // Each appender's lines stand in its own order, each batch in one piece.
    for appender in 0..APPENDERS {
        let prefix = format!("{appender} ");
        let mine = seen.iter().filter(|line| line.line.text.starts_with(&prefix));
        assert!(mine.is_sorted_by_key(|line| line.line.text.clone()));
    }
    for pair in seen.windows(2) {
        let is_first = |line: &LogLine| line.line.text.ends_with(" 0");
        let batch =
            |line: &LogLine| line.line.text.rsplit_once(' ').map(|(batch, _)| batch.to_owned());
        assert!(is_first(&pair[1]) || batch(&pair[0]) == batch(&pair[1]), "{pair:?}");
    }
}

/// Only those of runs that ended before that time; the runs stay.
pub async fn logs_of_old_runs_are_removed(fixture: RunsFixture) {
    let desk = fixture.desk();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (id, lease) = desk.in_state(RunState::Cancelling).await;
        let lease = lease.expect("it is held");
        desk.store.append_logs(&lease, &[line("a"), line("b")]).await.expect("it is appended");
        desk.report(&lease, RunInput::CancelFinished).await.expect("it ends");
        desk.clock.advance(Duration::from_secs(1));
        runs.push(id);
    }
    let active = desk.leased().await.lease;
    desk.store.append_logs(&active, &[line("a")]).await.expect("it is appended");
    let second = desk.run(runs[1]).await.ended_at.expect("it ended");
    let remove =
        async |before| desk.store.remove_logs(&desk.scope, before).await.expect("an answer");
    assert_eq!(remove(second).await, 2);
    assert_eq!(remove(second).await, 0);
    let any = LogFilter::default();
    assert!(read(&desk, runs[0], &any, 0, 9).await.is_empty());
    assert_eq!(read(&desk, runs[1], &any, 0, 9).await.len(), 2);
    assert_eq!(desk.run(runs[0]).await.last_log, 2);
    assert_eq!(remove(desk.clock_now()).await, 2);
    assert_eq!(read(&desk, active.run(), &any, 0, 9).await.len(), 1);
    // With a run goes its log.
    desk.store.remove_ended(&desk.scope, desk.clock_now(), 9).await.expect("an answer");
    assert!(read(&desk, runs[1], &any, 0, 9).await.is_empty());
}
