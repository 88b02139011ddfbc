//! Cases of steps that are done in one go.

use std::sync::Arc;

use super::{TargetFixture, needs_writing, plan, sample};
use crate::target::{Step, WholeStep};
use crate::testing::conformance::not_applicable;
use crate::testing::random_bytes;

/// [`write_many`](crate::target::RestoreSession::write_many).
pub async fn steps_done_in_one_go_are_as_those_done_one_by_one(fixture: TargetFixture) {
    let restore = fixture.restore(sample(&fixture));
    let session = restore.open().await;
    let steps = plan(&*session).await;
    for phase in steps.chunk_by(|a, b| a.phase == b.phase) {
        let wanted: Vec<&Step> = phase.iter().filter(|step| needs_writing(step)).collect();
        let mut whole = Vec::new();
        for step in &wanted {
            let pieces = restore.pieces(step).await;
            whole.push(WholeStep { step: Arc::new((*step).clone()), pieces });
        }
        let Some(written) = session.write_many(&whole).await else {
            return not_applicable("the target does one step after the other");
        };
        assert_eq!(written.len(), wanted.len(), "one answer for each step");
        for (step, written) in wanted.iter().zip(written) {
            let written = written.expect("a step can be written");
            assert_eq!(written.bytes, step.bytes, "{}", step.destination);
        }
        session.end_phase(phase[0].phase).await.expect("a phase can be ended");
    }
    session.finish().await.expect("a restore can be finished");
    for (seed, name, size) in [(1, "one", 300_000), (2, "folder/two", 10)] {
        fixture.assert_file(&fixture.at(name), &random_bytes(seed, size)).await;
    }
    assert_eq!(fixture.probe.files().await.len(), 3);
}
