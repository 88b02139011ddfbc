//! Cases of what the target already has.

use bytes::Bytes;

use super::super::not_applicable;
use super::{OLD, TargetFixture, sample};
use crate::model::{EntryKind, FileTime};
use crate::target::{ConflictPolicy, Step, StepAction};
use crate::testing::random_bytes;

/// A restore of `one` onto a file of other bytes, last changed at `mtime`.
async fn restore_onto(fixture: &TargetFixture, policy: ConflictPolicy, mtime: FileTime) -> Step {
    let one = fixture.at("one");
    let there = Bytes::from_static(b"there");
    fixture.probe.put(&one, there, mtime).await;
    let restore = fixture.restore(sample(fixture)).with_conflict(policy);
    let mut steps = restore.run().await;
    steps.retain(|step| step.entry.path == one && step.entry.kind == EntryKind::File);
    for (name, seed, size) in [("folder/two", 2, 10), ("folder/inner/three", 3, 70_000)] {
        let wanted = random_bytes(seed, size);
        fixture.assert_file(&fixture.at(name), &wanted).await;
    }
    steps.pop().expect("a step for the file")
}

/// [`ConflictPolicy::Overwrite`].
pub async fn overwrite_replaces_what_differs(fixture: TargetFixture) {
    let step = restore_onto(&fixture, ConflictPolicy::Overwrite, OLD).await;
    assert_eq!(step.action, StepAction::Overwrite);
    let wanted = random_bytes(1, 300_000);
    fixture.assert_file(&fixture.at("one"), &wanted).await;
}

/// [`ConflictPolicy::Skip`].
pub async fn skip_keeps_what_is_there(fixture: TargetFixture) {
    let step = restore_onto(&fixture, ConflictPolicy::Skip, OLD).await;
    assert_eq!(step.action, StepAction::Skip);
    let there = Bytes::from_static(b"there");
    fixture.assert_file(&fixture.at("one"), &there).await;
}

/// [`ConflictPolicy::Newer`].
pub async fn newer_replaces_only_what_is_older(fixture: TargetFixture) {
    let future = FileTime::from_unix(1_500_000_000, 0);
    let step = restore_onto(&fixture, ConflictPolicy::Newer, future).await;
    assert_eq!(step.action, StepAction::Skip);
    let there = Bytes::from_static(b"there");
    fixture.assert_file(&fixture.at("one"), &there).await;

    if fixture.has_own_times {
        return not_applicable("nothing that is put there is older");
    }
    let step = restore_onto(&fixture, ConflictPolicy::Newer, OLD).await;
    assert_eq!(step.action, StepAction::Overwrite);
    let wanted = random_bytes(1, 300_000);
    fixture.assert_file(&fixture.at("one"), &wanted).await;
}

/// [`ConflictPolicy::Rename`].
pub async fn rename_restores_beside_what_is_there(fixture: TargetFixture) {
    let step = restore_onto(&fixture, ConflictPolicy::Rename, OLD).await;
    let there = Bytes::from_static(b"there");
    fixture.assert_file(&fixture.at("one"), &there).await;
    let StepAction::Rename(beside) = step.action else {
        panic!("{:?} instead of another name", step.action);
    };
    assert_eq!(beside.parent(), fixture.at("one").parent());
    fixture.assert_file(&beside, &random_bytes(1, 300_000)).await;
}
