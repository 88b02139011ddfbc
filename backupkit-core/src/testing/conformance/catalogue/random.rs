//! Changes at random, and calls that are dropped half-way.

use std::collections::{BTreeMap, BTreeSet};

use super::super::helpers::{MOST_POLLS, poll_times};
use super::{CatalogueFixture, Desk, draft, named};
use crate::error::Error;
use crate::state::{ChangeKind, Record, RecordKind};
use crate::testing::entropy::Random;

const SEED: u64 = 5;
const STEPS: usize = 400;
const NAMES: usize = 6;

/// What a record should be: its revision, its body, and what it needs.
type Expected = (Record, BTreeSet<Key>);
type Key = (RecordKind, String);

/// Hundreds of changes, each compared with what a model has.
pub async fn changes_made_at_random_are_those_of_a_model(fixture: CatalogueFixture) {
    super::super::say(&format!("seed {SEED}"));
    let (desk, mut random) = (fixture.desk(), Random::new(SEED));
    let mut model: BTreeMap<Key, Expected> = BTreeMap::new();
    let mut changes = 0;
    for step in 0..STEPS {
        let mut pick =
            |below: usize| usize::try_from(random.next_u64() % below as u64).expect("it succeeds");
        let kind = RecordKind::ALL[pick(3)];
        let key = (kind, format!("n{}", pick(NAMES)));
        let to = format!("n{}", pick(NAMES));
        let needed: BTreeSet<Key> = (0..pick(3))
            .map(|_| (RecordKind::ALL[pick(3)], format!("n{}", pick(NAMES))))
            .filter(|needed| *needed != key && *needed != (kind, to.clone()))
            .collect();
        let action = pick(3);
        let can_need = needed.iter().all(|needed| model.contains_key(needed));
        let needs: Vec<_> =
            needed.iter().filter_map(|key| Some(model.get(key)?.0.itself)).collect();
        let known = model.get(&key).map(|(record, _)| record.clone());
        let is_needed = model.values().any(|(_, needs)| needs.contains(&key));
        let body = step.to_string();
        // What cannot be named cannot be asked for.
        let (expected, result): (bool, Result<Option<Record>, Error>) = match (action, known) {
            _ if !can_need => continue,
            (0, known) => {
                let made = desk.create(kind, draft(&key.1, &body, &needs)).await;
                (known.is_none(), made.map(Some))
            }
            (_, None) => continue,
            (1, Some(record)) => {
                let is_free = to == key.1 || !model.contains_key(&(kind, to.clone()));
                let updated = desk.update(&record, draft(&to, &body, &needs)).await;
                (is_free, updated.map(Some))
            }
            (_, Some(record)) => (!is_needed, desk.delete(&record).await.map(|()| None)),
        };
        assert_eq!(result.is_ok(), expected, "step {step}: {action} {key:?} to {to}: {result:?}");
        let Ok(record) = result else { continue };
        changes += 1;
        if action > 0 {
            model.remove(&key);
        }
        let renamed = (kind, if action == 1 { to } else { key.1.clone() });
        if renamed != key {
            for (_, needs) in model.values_mut() {
                if needs.remove(&key) {
                    needs.insert(renamed.clone());
                }
            }
        }
        if let Some(record) = record {
            model.insert(renamed, (record, needed));
        }
        assert_is_model(&desk, &model, step).await;
    }
    assert_eq!(desk.changes().await.len(), changes);
    assert!(changes > STEPS / 4, "only {changes} changes took effect");
}

async fn assert_is_model(desk: &Desk, model: &BTreeMap<Key, Expected>, step: usize) {
    for kind in RecordKind::ALL {
        let names: Vec<_> =
            model.keys().filter(|key| key.0 == *kind).map(|key| key.1.clone()).collect();
        assert_eq!(desk.names(*kind).await, names, "step {step}");
    }
    for (key, (record, _)) in model {
        let found = desk.find(key.0, &key.1).await.expect("it is listed");
        super::assert_same(&found, record);
        let users: Vec<_> = model
            .iter()
            .filter(|(_, (_, needs))| needs.contains(key))
            .map(|(key, _)| key.1.clone())
            .collect();
        assert_eq!(desk.users(record.itself).await, users, "step {step}: users of {key:?}");
    }
}

/// Line 6: a call is dropped after each of its waits.
pub async fn dropped_calls_take_effect_whole_or_not_at_all(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    for polls in 1..=MOST_POLLS {
        let name = format!("dropped after {polls}");
        let has_ended = poll_times(polls, desk.create(RecordKind::Plan, named(&name))).await;
        // What is still under way ends before what comes after it.
        desk.create(RecordKind::Connection, named(&name)).await.expect("it succeeds");
        let is_there = desk.find(RecordKind::Plan, &name).await.is_some();
        let changes = desk.changes().await;
        let is_noted = changes.iter().any(|change| {
            (change.kind, change.record.kind) == (ChangeKind::Create, RecordKind::Plan)
                && change.name == name
        });
        assert_eq!(is_there, is_noted, "{name}");
        if has_ended {
            assert!(is_there);
            return;
        }
    }
    panic!("a call waits more than {MOST_POLLS} times");
}
