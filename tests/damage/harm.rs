//! What can befall the objects of a repository.

use std::collections::BTreeMap;
use std::fmt;

use backupkit::destination::ObjectKey;
use backupkit::model::BlobId;
use bytes::Bytes;

use crate::random::Random;

pub(crate) type Objects = BTreeMap<ObjectKey, Bytes>;

/// The kinds of objects. Each is met as often as any other, however many objects of it there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Config,
    Key,
    Snapshot,
    Index,
    DataPack,
    TreePack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    FlipBit,
    Truncate,
    Extend,
    Zero,
    Delete,
    /// Two objects have each other's bytes.
    Swap,
    /// One object has the bytes of another.
    Duplicate,
    /// The bytes of an object are there under a name of their own, too.
    Copy,
}

const ACTIONS: [Action; 8] = [
    Action::FlipBit,
    Action::Truncate,
    Action::Extend,
    Action::Zero,
    Action::Delete,
    Action::Swap,
    Action::Duplicate,
    Action::Copy,
];

/// What was done to which objects.
#[derive(Debug, Clone)]
pub(crate) struct Harm {
    pub(crate) kind: Kind,
    pub(crate) action: Action,
    /// The objects that are no longer what they were.
    pub(crate) damaged: Vec<ObjectKey>,
    detail: String,
}

impl Harm {
    /// Chooses objects and damages them.
    pub(crate) fn inflict(
        objects: &mut Objects,
        kinds: &BTreeMap<ObjectKey, Kind>,
        random: &mut Random,
    ) -> Self {
        let all =
            [Kind::Config, Kind::Key, Kind::Snapshot, Kind::Index, Kind::DataPack, Kind::TreePack];
        let kind = *random.pick(&all);
        let of_kind: Vec<_> = kinds.iter().filter(|(_, of)| **of == kind).collect();
        let key = random.pick(&of_kind).0.clone();
        let bytes = objects[&key].clone();
        let action = *random.pick(&ACTIONS);
        let mut harm = Self { kind, action, damaged: vec![key.clone()], detail: String::new() };
        match action {
            Action::FlipBit | Action::Truncate | Action::Extend | Action::Zero => {
                let (changed, detail) = change(action, &bytes, random);
                harm.detail = detail;
                objects.insert(key, changed.into());
            }
            Action::Delete => drop(objects.remove(&key)),
            Action::Swap | Action::Duplicate => {
                // There is one config only; it gets the bytes of something else.
                let of_kind = of_kind.iter().map(|(key, _)| *key).filter(|one| **one != key);
                let mut others: Vec<_> = of_kind.collect();
                if others.is_empty() {
                    others = kinds.keys().filter(|one| **one != key).collect();
                }
                let other = (*random.pick(&others)).clone();
                let other_bytes = objects.insert(key, objects[&other].clone()).map(|_| &other);
                let other = other_bytes.unwrap().clone();
                harm.detail = format!("with {other}");
                if action == Action::Swap {
                    objects.insert(other.clone(), bytes);
                    harm.damaged.push(other);
                }
            }
            Action::Copy => {
                let name = BlobId::of(&random.bytes(32)).to_string();
                let copy = match key.as_str().split_once('/') {
                    Some(("data", _)) => format!("data/{}/{name}", &name[..2]),
                    Some((folder, _)) => format!("{folder}/{name}"),
                    None => format!("keys/{name}"),
                };
                let copy = ObjectKey::new(copy).unwrap();
                harm.detail = format!("to {copy}");
                objects.insert(copy.clone(), bytes);
                harm.damaged = vec![copy];
            }
        }
        harm
    }

    /// Why no program can see that anything is wrong, if so.
    pub(crate) fn is_invisible(&self) -> Option<&'static str> {
        match (self.action, self.kind) {
            (Action::Delete, Kind::Snapshot) => {
                Some("nothing lists the snapshots: one that is deleted was forgotten")
            }
            (Action::Delete, Kind::Key) => {
                Some("nothing lists the keys: one that is deleted was removed")
            }
            (Action::Copy, Kind::DataPack | Kind::TreePack) => {
                Some("a pack that no index names is what an interrupted backup leaves")
            }
            _ => None,
        }
    }

    /// Why what is wrong cannot be named, if so.
    pub(crate) fn is_nameless(&self) -> Option<&'static str> {
        let is_lost_index = (self.action, self.kind) == (Action::Delete, Kind::Index);
        is_lost_index.then_some("nothing names the index files: only what they held is missed")
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, action, detail) = (self.kind, self.action, &self.detail);
        write!(f, "{action:?} {kind:?} {} {detail}", self.damaged[0])
    }
}

fn change(action: Action, bytes: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    let mut changed = bytes.to_vec();
    let at = below(random, bytes.len());
    let detail = match action {
        Action::FlipBit => {
            let bit = random.below(8);
            changed[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        Action::Truncate => {
            // Often by little, as a torn write does.
            let at = match random.below(3) {
                0 => bytes.len() - 1 - below(random, bytes.len().min(40)),
                1 => 0,
                _ => at,
            };
            changed.truncate(at);
            format!("to {at} bytes")
        }
        Action::Extend => {
            let more = 1 + below(random, 100);
            changed.extend(random.bytes(more));
            format!("by {more} bytes")
        }
        _ => {
            let end = bytes.len().min(at + 1 + below(random, 4096));
            changed[at..end].fill(0);
            if changed == bytes {
                changed[at] = 1;
            }
            format!("bytes {at} to {end}")
        }
    };
    (changed, detail)
}

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap()
}
