//! Checkpoints, noted packs and sealed outputs.

use bytes::Bytes;

use super::super::helpers::assert_refused;
use super::{RunsFixture, UNREACHABLE, assert_invalid};
use crate::error::ErrorKind;
use crate::model::{BlobId, IndexId, LockId, PackId, RunInput, RunState};
use crate::state::{
    MAX_ADAPTER_KEY_BYTES, MAX_ADAPTER_VALUE_BYTES, MAX_CHECKPOINT_BYTES, MAX_PARTS, SealedOutput,
};

pub(super) fn output(number: u64) -> SealedOutput {
    let name = number.to_le_bytes();
    SealedOutput {
        repository_id: format!("repository é {number}"),
        snapshot: crate::model::SnapshotId::of(&name),
        sealed: Bytes::copy_from_slice(&[0, 255, b'\n', name[0]]),
        tree: BlobId::of(&name),
        lock: LockId::of(&name),
        index_files: (0..number % 3).map(|file| IndexId::of(&file.to_le_bytes())).collect(),
        problems: u64::MAX - number,
    }
}

/// Replaced, also by less, and not seen in another part or run.
pub async fn a_checkpoint_comes_back_in_its_part_only(fixture: RunsFixture) {
    let desk = fixture.desk();
    let (lease, other) = (desk.leased().await.lease, desk.leased().await.lease);
    let store = &desk.store;
    let load = async |part| store.load_checkpoint(&lease, part).await.expect("an answer");
    assert_eq!(load(0).await, None);
    let large = crate::testing::random_bytes(1, MAX_CHECKPOINT_BYTES);
    for (part, bytes) in [
        (0, large.clone()),
        (MAX_PARTS - 1, Bytes::from_static(b"\0last")),
        (0, Bytes::from_static(b"two")),
        (1, Bytes::new()),
    ] {
        store.save_checkpoint(&lease, part, bytes.clone(), 7).await.expect("it is saved");
        assert_eq!(load(part).await, Some(bytes));
    }
    assert_eq!(load(0).await.as_deref(), Some(&b"two"[..]));
    assert_eq!(load(MAX_PARTS - 1).await.as_deref(), Some(&b"\0last"[..]));
    assert_eq!(load(2).await, None);
    assert_eq!(store.load_checkpoint(&other, 0).await.expect("an answer"), None);
    // The next worker finds it.
    desk.report(&lease, RunInput::Yielded).await.expect("it is given back");
    let next = desk.claim_run(lease.run()).await.expect("it is claimed").lease;
    let found = store.load_checkpoint(&next, 0).await.expect("an answer");
    assert_eq!(found.as_deref(), Some(&b"two"[..]));
}

/// Line 3 of `Checkpoints`.
pub async fn what_is_too_much_for_a_checkpoint_is_refused(fixture: RunsFixture) {
    let desk = fixture.desk();
    let (lease, store) = (desk.leased().await.lease, &desk.store);
    let small = Bytes::from_static(b"small");
    store.save_checkpoint(&lease, 0, small.clone(), 1).await.expect("it is saved");
    let large = Bytes::from(vec![0; MAX_CHECKPOINT_BYTES + 1]);
    assert_invalid(store.save_checkpoint(&lease, 0, large, 2).await);
    for part in [MAX_PARTS, u32::MAX] {
        assert_invalid(store.save_checkpoint(&lease, part, small.clone(), 2).await);
        assert_invalid(store.load_checkpoint(&lease, part).await);
        assert_invalid(store.record_packs(&lease, part, "r", &[]).await);
        assert_invalid(store.recorded_packs(&lease, part, "r").await);
        assert_invalid(store.record_outputs(&lease, part, &[]).await);
        assert_invalid(store.recorded_outputs(&lease, part).await);
        assert_invalid(store.set_adapter_value(&lease, part, "k", None).await);
        assert_invalid(store.adapter_values(&lease, part, "", None, 1).await);
    }
    let (long, longer) = ("k".repeat(MAX_ADAPTER_KEY_BYTES), "k".repeat(MAX_ADAPTER_KEY_BYTES + 1));
    let value = Bytes::from(vec![7; MAX_ADAPTER_VALUE_BYTES]);
    store.set_adapter_value(&lease, 0, &long, Some(value)).await.expect("it is kept");
    assert_invalid(store.set_adapter_value(&lease, 0, &longer, Some(small.clone())).await);
    assert_invalid(store.set_adapter_value(&lease, 0, "", Some(small.clone())).await);
    let value = Bytes::from(vec![7; MAX_ADAPTER_VALUE_BYTES + 1]);
    assert_invalid(store.set_adapter_value(&lease, 0, "k", Some(value)).await);
    let kept = store.adapter_values(&lease, 0, "", None, 9).await.expect("an answer");
    assert_eq!(kept.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&long]);
    assert_eq!(store.load_checkpoint(&lease, 0).await.expect("an answer"), Some(small));
}

/// Only what reaches further than ever before in its part is progress.
pub async fn progress_ends_the_count_of_attempts(fixture: RunsFixture) {
    let desk = fixture.desk();
    let id = desk.create(super::new_run("run")).await.new.id;
    // The saves of each attempt as part and reach, and the attempts that count after it.
    let attempts: [(&[(u32, u64)], u32); 6] = [
        (&[], 1),
        (&[], 2),
        (&[(0, 10), (0, 3)], 1),
        (&[(0, 10)], 2),
        (&[(1, 1)], 1),
        (&[(0, 9), (1, 1), (2, 0)], 2),
    ];
    for (saves, expected) in attempts {
        let lease = desk.claim().await.expect("it is claimed").lease;
        for (part, reach) in saves {
            let saved = desk.store.save_checkpoint(&lease, *part, Bytes::new(), *reach).await;
            saved.expect("it is saved");
        }
        let run = desk.report(&lease, UNREACHABLE).await.expect("it fails");
        assert_eq!((run.new.id, run.attempts), (id, expected), "{saves:?}");
    }
}

/// In the order of their ids, by part and repository.
pub async fn packs_are_noted_once(fixture: RunsFixture) {
    let desk = fixture.desk();
    let (lease, store) = (desk.leased().await.lease, &desk.store);
    let mut packs: Vec<PackId> = (0..50_u8).map(|name| PackId::of(&[name])).collect();
    let recorded = async |part, repository: &str| {
        store.recorded_packs(&lease, part, repository).await.expect("an answer")
    };
    assert!(recorded(0, "é").await.is_empty());
    for half in [&packs[..30], &packs[20..], &[]] {
        store.record_packs(&lease, 0, "é", half).await.expect("they are noted");
    }
    store.record_packs(&lease, 0, "other", &packs[..1]).await.expect("it is noted");
    store.record_packs(&lease, 1, "é", &packs[1..2]).await.expect("it is noted");
    assert_eq!(recorded(0, "other").await, packs[..1]);
    assert_eq!(recorded(1, "é").await, packs[1..2]);
    packs.sort();
    assert_eq!(recorded(0, "é").await, packs);
}

/// As they were, in their order; replaced while the run runs, and once more never.
pub async fn outputs_are_recorded_while_it_is_not_too_late(fixture: RunsFixture) {
    let desk = fixture.desk();
    let store = &desk.store;
    let (_, lease) = desk.in_state(RunState::Running).await;
    let lease = lease.expect("it is held");
    let recorded = async |part| store.recorded_outputs(&lease, part).await.expect("an answer");
    let outputs: Vec<SealedOutput> = (0..5).rev().map(output).collect();
    assert!(recorded(0).await.is_empty());
    store.record_outputs(&lease, 0, &outputs).await.expect("they are recorded");
    assert_eq!(recorded(0).await, outputs);
    store.record_outputs(&lease, 0, &outputs[1..3]).await.expect("they are recorded");
    assert_eq!(recorded(0).await, outputs[1..3]);
    assert!(recorded(1).await.is_empty());
    desk.report(&lease, RunInput::CommitRecorded).await.expect("it moves");
    let late = store.record_outputs(&lease, 0, &outputs).await;
    assert_refused(late, ErrorKind::Conflict, "run-refused");
    assert_eq!(recorded(0).await, outputs[1..3]);
    store.record_outputs(&lease, 1, &outputs).await.expect("another part has none yet");
    assert_eq!(recorded(1).await, outputs);
    for state in [RunState::Pausing, RunState::Cancelling] {
        let (_, lease) = desk.in_state(state).await;
        let lease = lease.expect("it is held");
        let late = store.record_outputs(&lease, 0, &outputs).await;
        assert_refused(late, ErrorKind::Conflict, "run-refused");
        assert!(store.recorded_outputs(&lease, 0).await.expect("an answer").is_empty());
    }
}

/// Line 9 of `Leases`: the checkpoint stays.
pub async fn a_commit_that_is_taken_back_drops_its_outputs(fixture: RunsFixture) {
    let desk = fixture.desk();
    let store = &desk.store;
    let (id, lease) = desk.in_state(RunState::Running).await;
    let lease = lease.expect("it is held");
    let checkpoint = Bytes::from_static(b"checkpoint");
    store.save_checkpoint(&lease, 0, checkpoint.clone(), 1).await.expect("it is saved");
    store.record_packs(&lease, 0, "r", &[PackId::of(b"p")]).await.expect("it is noted");
    for part in [0, 3] {
        store.record_outputs(&lease, part, &[output(1)]).await.expect("it is recorded");
    }
    desk.report(&lease, RunInput::CommitRecorded).await.expect("it moves");
    desk.report(&lease, RunInput::Yielded).await.expect("it is given back");
    let lease = desk.claim_run(id).await.expect("it is claimed").lease;
    assert_eq!(store.recorded_outputs(&lease, 3).await.expect("an answer"), [output(1)]);
    let run = desk.report(&lease, RunInput::BlobLost).await.expect("it goes back");
    assert_eq!((run.state, run.attempts), (RunState::Queued, 1));
    let lease = desk.claim_run(id).await.expect("it is claimed").lease;
    for part in [0, 3] {
        assert!(store.recorded_outputs(&lease, part).await.expect("an answer").is_empty());
    }
    assert_eq!(store.load_checkpoint(&lease, 0).await.expect("an answer"), Some(checkpoint));
    assert_eq!(store.recorded_packs(&lease, 0, "r").await.expect("an answer").len(), 1);
    store.record_outputs(&lease, 0, &[output(2)]).await.expect("it is recorded anew");
}

/// By prefix, in the order of their bytes, page by page; not seen in another part or run.
pub async fn values_of_adapters_come_back_in_order(fixture: RunsFixture) {
    let desk = fixture.desk();
    let (lease, other) = (desk.leased().await.lease, desk.leased().await.lease);
    let store = &desk.store;
    let keys = ["a", "b", "b/", "b/%_", "b/1", "b/10", "b/2", "b/é", "b0", "c"];
    for key in keys.iter().rev() {
        let value = Bytes::from(format!("\0{key}"));
        for value in [Bytes::new(), value] {
            store.set_adapter_value(&lease, 0, key, Some(value)).await.expect("it is kept");
        }
    }
    let found = async |prefix: &str, after: Option<&str>, most| {
        let found = store.adapter_values(&lease, 0, prefix, after, most).await.expect("an answer");
        assert!(found.iter().all(|(key, value)| *value == format!("\0{key}")), "{found:?}");
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(found("", None, 99).await, keys);
    assert_eq!(found("b/", None, 99).await, keys[2..8]);
    assert_eq!(found("b/", None, 2).await, keys[2..4]);
    assert_eq!(found("b/", Some("b/1"), 2).await, keys[5..7]);
    assert_eq!(found("b/", Some("a"), 1).await, keys[2..3]);
    assert!(found("b/", Some("b/é"), 9).await.is_empty());
    assert!(found("", None, 0).await.is_empty());
    for key in ["b/1", "b/1", "not there"] {
        store.set_adapter_value(&lease, 0, key, None).await.expect("it is gone");
    }
    assert_eq!(found("b/1", None, 9).await, ["b/10"]);
    assert!(store.adapter_values(&lease, 1, "", None, 9).await.expect("an answer").is_empty());
    assert!(store.adapter_values(&other, 0, "", None, 9).await.expect("an answer").is_empty());
    // The next worker finds them.
    desk.report(&lease, RunInput::Yielded).await.expect("it is given back");
    let next = desk.claim_run(lease.run()).await.expect("it is claimed").lease;
    let kept = store.adapter_values(&next, 0, "", None, 99).await.expect("an answer");
    assert_eq!(kept.len(), keys.len() - 1);
}
