//! Resources that only so many runs may use.

use super::super::helpers::race;
use super::{CORRUPT, RunsFixture, new_run};
use crate::model::RunInput;
use crate::state::{NewRun, Slot};

fn using(slots: &[(&str, u32)]) -> NewRun {
    let slot =
        |(resource, most): &(&str, u32)| Slot { resource: (*resource).to_owned(), most: *most };
    NewRun { slots: slots.iter().map(slot).collect(), ..new_run("run") }
}

/// Line 5 of `Leases`: over all scopes, and also what those allow who hold it already.
pub async fn no_more_runs_use_a_resource_than_each_allows(fixture: RunsFixture) {
    let desk = fixture.desk();
    let (two, other) = ([("nas", 2)], desk.in_scope("tenant-2"));
    for desk in [&desk, &other, &desk] {
        desk.create(using(&two)).await;
    }
    let first = desk.claim().await.expect("there is room").lease;
    let second = desk.claim().await.expect("there is room").lease;
    assert!(desk.claim().await.is_none());
    desk.report(&first, RunInput::CommitRecorded).await.expect("it moves");
    assert!(desk.claim().await.is_none(), "it still holds it");
    desk.report(&first, RunInput::Yielded).await.expect("it is given back");
    let third = desk.claim().await.expect("there is room").lease;
    assert!(desk.claim().await.is_none());
    for lease in [second, third] {
        desk.report(&lease, CORRUPT).await.expect("it ends");
    }
    // Now one that wants it alone.
    let last = desk.claim().await.expect("there is room").lease;
    let alone = desk.create(using(&[("nas", 1)])).await.new.id;
    assert!(desk.claim_run(alone).await.is_none());
    desk.report(&last, CORRUPT).await.expect("it ends");
    let alone = desk.claim_run(alone).await.expect("there is room").lease;
    let many = desk.create(using(&[("nas", 9)])).await.new.id;
    assert!(desk.claim_run(many).await.is_none(), "the other one allows no second");
    desk.report(&alone, RunInput::Yielded).await.expect("it is given back");
    assert!(desk.claim_run(many).await.is_some());
}

/// Line 6 of `Leases`.
pub async fn what_has_no_room_holds_up_no_other(fixture: RunsFixture) {
    let desk = fixture.desk();
    let holder = desk.leased_of(using(&[("nas", 1), ("é, \"x\"", 3)])).await.lease;
    let blocked = NewRun { priority: 9, ..using(&[("other", 5), ("nas", 1)]) };
    let blocked = desk.create(blocked).await.new.id;
    let free = desk.create(using(&[("é, \"x\"", 2), ("other", 1)])).await.new.id;
    let plain = desk.create(new_run("plain")).await.new.id;
    for expected in [free, plain] {
        assert_eq!(desk.claim().await.expect("there is room").run.new.id, expected);
    }
    assert!(desk.claim().await.is_none());
    desk.report(&holder, RunInput::Rested).await.expect("it is given back");
    // `other` is held by one that allows no second.
    assert!(desk.claim_run(blocked).await.is_none());
    assert_eq!(desk.claim().await.expect("there is room").run.new.id, holder.run());
}

/// Line 5 of `Leases`, with 16 at the same time.
pub async fn racing_claimers_respect_slots(fixture: RunsFixture) {
    let desk = fixture.desk();
    for number in 0..32 {
        let slots: &[_] = if number % 2 == 0 { &[("nas", 3), ("all", 4)] } else { &[("all", 4)] };
        desk.create(using(slots)).await;
    }
    for _ in 0..4 {
        let claimed = race(16, |_| {
            let desk = desk.clone();
            Box::pin(async move { desk.claim().await })
        })
        .await;
        let claimed: Vec<_> = claimed.into_iter().flatten().collect();
        assert_eq!(claimed.len(), 4);
        assert!(claimed.iter().filter(|lease| lease.run.new.slots.len() == 2).count() <= 3);
        for lease in claimed {
            desk.report(&lease.lease, CORRUPT).await.expect("it ends");
        }
    }
}
