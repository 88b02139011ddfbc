//! Line 9 of the contract: the key that secrets are sealed with.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{CONNECTION, CatalogueFixture, Desk, assert_same, named};
use crate::env::Env;
use crate::error::ErrorKind;
use crate::secret::{MasterKey, SealedSecret, SecretPlace, Vault};
use crate::state::{Draft, Record};
use crate::testing::conformance::helpers::assert_refused;

const PLACE: SecretPlace<'_> = SecretPlace { scope: "", owner_kind: "", owner_id: "", field: "" };

fn vault() -> Vault {
    let env = Env::system();
    Vault::new(&env, MasterKey::generate(&env).expect("a key"), [])
}

fn sealed(vault: &Vault) -> SealedSecret {
    vault.seal(&PLACE, &SecretString::from("secret")).expect("it is sealed")
}

fn with_secrets(name: &str, vaults: &[&Vault]) -> Draft {
    let secrets = vaults.iter().enumerate();
    let secrets = secrets.map(|(index, vault)| (format!("field_{index}"), sealed(vault)));
    Draft { secrets: secrets.collect::<BTreeMap<_, _>>(), ..named(name) }
}

async fn records(desk: &Desk, page: usize) -> Vec<(String, Record)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let found = desk.catalogue.sealed(after, page).await.expect("an answer");
        let is_last = found.len() < page;
        after = found.last().map(|(_, record)| record.itself.id).or(after);
        all.extend(found.into_iter().map(|(scope, record)| (scope.to_string(), record)));
        if is_last {
            return all;
        }
    }
}

/// Line 9: from the moment on that another key is named, nothing comes under the former one.
pub async fn secrets_of_another_key_than_the_named_one_are_refused(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let (old, new) = (vault(), vault());
    let catalogue = &desk.catalogue;
    assert_eq!(catalogue.sealing_key().await.expect("an answer"), None);
    let before = desk.create(CONNECTION, with_secrets("a", &[&new])).await.expect("it succeeds");
    let swap = async |expected: Option<&Vault>, key: &Vault| {
        let expected = expected.map(Vault::primary_id);
        catalogue.swap_sealing_key(expected, key.primary_id()).await.expect("an answer")
    };
    assert!(!swap(Some(&old), &old).await);
    assert!(swap(None, &old).await);
    assert!(!swap(None, &new).await);
    assert_eq!(catalogue.sealing_key().await.expect("an answer"), Some(old.primary_id()));
    let refused = |result| assert_refused(result, ErrorKind::Conflict, "master-key-retired");
    refused(desk.create(CONNECTION, with_secrets("b", &[&old, &new])).await);
    refused(desk.update(&before, with_secrets("a", &[&new])).await);
    let kept = desk.create(CONNECTION, with_secrets("b", &[&old])).await.expect("it succeeds");
    assert!(swap(Some(&old), &new).await);
    // In all scopes, and what is on record stays.
    let other = desk.in_scope("tenant-2");
    refused(other.create(CONNECTION, with_secrets("c", &[&old])).await);
    refused(desk.update(&kept, with_secrets("b", &[&old])).await);
    assert_same(&desk.get(kept.itself).await.expect("it is there"), &kept);
    desk.update(&kept, with_secrets("b", &[&new])).await.expect("it succeeds");
    desk.create(CONNECTION, named("without")).await.expect("it succeeds");
}

/// Pages of all scopes, in the order of ids.
pub async fn records_with_secrets_are_found_in_all_scopes(fixture: CatalogueFixture) {
    let (desk, vault) = (fixture.desk(), vault());
    let mut made = Vec::new();
    for scope in ["default", "tenant-2"] {
        let desk = desk.in_scope(scope);
        desk.create(CONNECTION, named("none")).await.expect("it succeeds");
        for name in ["a", "b", "c"] {
            let draft = with_secrets(name, &[&vault]);
            let record = desk.create(CONNECTION, draft).await.expect("it succeeds");
            made.push((scope.to_owned(), record));
        }
    }
    made.sort_by_key(|(_, record)| record.itself.id);
    for page in [1, 2, 3, 100] {
        let found = records(&desk, page).await;
        assert_eq!(found.len(), made.len());
        for ((scope, record), (expected_scope, expected)) in found.iter().zip(&made) {
            assert_eq!(scope, expected_scope);
            assert_same(record, expected);
        }
    }
}
