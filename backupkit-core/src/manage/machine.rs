//! Which machine a store belongs to.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::state::Settings;

/// Under this name the store keeps its machine: `<id> <name>`.
const MACHINE: &str = "machine";
const ID_BYTES: usize = 16;

/// Tells machines apart, and says nothing else about them: a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineId {
    id: String,
    name: String,
}

impl MachineId {
    /// Returns the machine with this identity, such as the content of `/etc/machine-id`, which is hashed,
    /// and this name, which is for people.
    pub fn new(identity: &[u8], name: &str) -> Self {
        let hash = Sha256::new().chain_update(b"backupkit machine 1:").chain_update(identity);
        let name = name.chars().filter(|c| !c.is_control()).take(100).collect();
        Self { id: hex::encode(&hash.finalize()[..ID_BYTES]), name }
    }
}

/// As the store keeps it.
impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.name)
    }
}

/// Lets a machine use a store that lies in its own files: two at a time would damage it, since a network
/// file system does not keep its locks. A store that is new belongs to the first one. With `take_over` it
/// belongs to this one from now on: ask for that once a [`Workspace`](super::Workspace) is open, so that a
/// machine without its key takes over nothing.
///
/// # Errors
/// `Conflict` with code `other-machine` if the store belongs to another one; those of the store.
pub async fn admit_machine(
    store: &dyn Settings,
    machine: &MachineId,
    take_over: bool,
) -> Result<()> {
    loop {
        let kept = store.setting(MACHINE).await?;
        let (id, name) = kept.as_deref().and_then(|kept| kept.split_once(' ')).unwrap_or_default();
        if kept.is_some() && id == machine.id {
            return Ok(());
        }
        if kept.is_some() && !take_over {
            let message = format!("the state store belongs to another machine, `{name}`");
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_code("other-machine")
                .with_hint(
                    "work there; or, if nothing uses it there any more, take it over once with \
                     `backupkit worker --take-over`",
                ));
        }
        // Another process may be faster; then what it wrote counts.
        if store.swap_setting(MACHINE, kept.as_deref(), Some(&machine.to_string())).await? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::state::InMemoryStore;

    #[tokio::test]
    async fn a_store_belongs_to_its_first_machine_until_another_takes_it_over() {
        let store = InMemoryStore::new(&Env::system());
        let (one, two) = (MachineId::new(b"1", "alpha"), MachineId::new(b"2", "beta"));
        admit_machine(&store, &one, false).await.unwrap();
        admit_machine(&store, &MachineId::new(b"1", "renamed"), false).await.unwrap();
        let error = admit_machine(&store, &two, false).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "other-machine"));
        assert!(error.report().contains("`alpha`"), "{}", error.report());
        assert!(error.report().contains("--take-over"), "{}", error.report());
        admit_machine(&store, &two, true).await.unwrap();
        admit_machine(&store, &two, false).await.unwrap();
        assert_eq!(admit_machine(&store, &one, false).await.unwrap_err().code(), "other-machine");
    }

    #[test]
    fn the_identity_itself_is_not_kept() {
        let machine = MachineId::new(b"b08dfa6083e7567a1921a715000001fb", "a\nb");
        assert!(!machine.to_string().contains("b08dfa60"));
        assert!(machine.to_string().ends_with(" ab"));
    }
}
