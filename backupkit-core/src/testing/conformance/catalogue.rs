//! The contract of [`Catalogue`], case by case.

mod random;
mod sealing;

pub use random::{
    changes_made_at_random_are_those_of_a_model, dropped_calls_take_effect_whole_or_not_at_all,
};

pub use sealing::{
    records_with_secrets_are_found_in_all_scopes,
    secrets_of_another_key_than_the_named_one_are_refused,
};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::value::RawValue;

use super::KeepAlive;
use super::helpers::{assert_refused, race};
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::secret::{MasterKey, SecretPlace, Vault};
use crate::state::{
    Actor, Catalogue, Change, ChangeKind, Draft, MAX_BODY_BYTES, MAX_NAME_BYTES, Record, RecordId,
    RecordKind, RecordRef, Scope,
};

/// Makes one test for each line of the contract of [`Catalogue`](crate::state::Catalogue), in a module
/// `$name`. `$fixture` is an async closure that returns an empty one as a
/// [`CatalogueFixture`](crate::testing::conformance::CatalogueFixture), for each test a new one.
#[macro_export]
macro_rules! catalogue_conformance {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_tests! { catalogue, $name, $fixture;
            what_is_created_is_found_by_id_and_by_name
            every_kind_and_odd_text_comes_back
            what_is_not_there_is_nothing
            a_name_is_taken_within_its_kind_only
            names_and_bodies_out_of_bounds_are_refused
            an_id_is_used_once
            sealed_secrets_come_back_and_open_in_their_place_only
            secrets_of_another_key_than_the_named_one_are_refused
            records_with_secrets_are_found_in_all_scopes
            an_update_replaces_all_and_counts
            an_update_of_an_earlier_revision_is_refused
            what_is_needed_must_be_there
            what_is_needed_cannot_be_deleted
            a_record_may_let_go_of_what_it_needs
            what_is_deleted_is_gone_and_its_name_is_free
            scopes_do_not_see_each_other
            lists_come_in_pages_in_the_order_of_names
            changes_are_numbered_without_gaps
            of_racing_creators_exactly_one_gets_the_name
            of_racing_updates_exactly_one_takes_effect
            racing_changes_are_numbered_without_gaps
            dropped_calls_take_effect_whole_or_not_at_all
            changes_made_at_random_are_those_of_a_model
        }
    };
}

/// An empty catalogue and what keeps it alive.
pub struct CatalogueFixture {
    catalogue: Arc<dyn Catalogue>,
    keep_alive: KeepAlive,
}

impl fmt::Debug for CatalogueFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogueFixture")
            .field("catalogue", &self.catalogue)
            .finish_non_exhaustive()
    }
}

impl CatalogueFixture {
    /// Returns a fixture of this catalogue.
    pub fn new(catalogue: impl Catalogue) -> Self {
        Self { catalogue: Arc::new(catalogue), keep_alive: Vec::new() }
    }

    /// Keeps something until the case has ended, such as a temporary directory.
    #[must_use]
    pub fn keeping(mut self, thing: impl Send + Sync + 'static) -> Self {
        self.keep_alive.push(Box::new(thing));
        self
    }

    fn desk(&self) -> Desk {
        Desk {
            catalogue: Arc::clone(&self.catalogue),
            scope: Scope::default(),
            actor: Actor::new("test").expect("an actor"),
        }
    }
}

/// A catalogue as one actor sees one scope of it.
#[derive(Debug, Clone)]
struct Desk {
    catalogue: Arc<dyn Catalogue>,
    scope: Scope,
    actor: Actor,
}

impl Desk {
    fn in_scope(&self, scope: &str) -> Self {
        Self { scope: Scope::new(scope).expect("a scope"), ..self.clone() }
    }

    fn as_actor(&self, actor: &str) -> Self {
        Self { actor: Actor::new(actor).expect("an actor"), ..self.clone() }
    }

    async fn create(&self, kind: RecordKind, draft: Draft) -> Result<Record, Error> {
        let id = RecordId::random(&Env::system())?;
        self.create_as(RecordRef { kind, id }, draft).await
    }

    async fn create_as(&self, itself: RecordRef, draft: Draft) -> Result<Record, Error> {
        self.catalogue.create(&self.scope, &self.actor, itself, draft).await
    }

    async fn update(&self, record: &Record, draft: Draft) -> Result<Record, Error> {
        let Record { itself, revision, .. } = *record;
        self.catalogue.update(&self.scope, &self.actor, itself, revision, draft).await
    }

    async fn delete(&self, record: &Record) -> Result<(), Error> {
        let Record { itself, revision, .. } = *record;
        self.catalogue.delete(&self.scope, &self.actor, itself, revision).await
    }

    async fn get(&self, itself: RecordRef) -> Option<Record> {
        self.catalogue.get(&self.scope, itself).await.expect("an answer")
    }

    async fn find(&self, kind: RecordKind, name: &str) -> Option<Record> {
        self.catalogue.find(&self.scope, kind, name).await.expect("an answer")
    }

    async fn names(&self, kind: RecordKind) -> Vec<String> {
        let records = self.catalogue.list(&self.scope, kind, None, usize::MAX).await;
        records.expect("an answer").into_iter().map(|record| record.content.name).collect()
    }

    async fn users(&self, itself: RecordRef) -> Vec<String> {
        let users = self.catalogue.users(&self.scope, itself).await.expect("an answer");
        users.into_iter().map(|user| user.content.name).collect()
    }

    async fn changes(&self) -> Vec<Change> {
        let changes = self.catalogue.changes(&self.scope, 0, usize::MAX).await.expect("an answer");
        let numbers: Vec<u64> = changes.iter().map(|change| change.number).collect();
        assert_eq!(numbers, (1..=changes.len() as u64).collect::<Vec<_>>(), "numbers of changes");
        changes
    }
}

fn draft(name: &str, body: &str, needs: &[RecordRef]) -> Draft {
    let body = RawValue::from_string(body.to_owned()).expect("a JSON value");
    let secrets = BTreeMap::new();
    Draft { name: name.to_owned(), body: body.into(), secrets, needs: needs.to_vec() }
}

fn named(name: &str) -> Draft {
    draft(name, "{}", &[])
}

fn assert_same(found: &Record, expected: &Record) {
    assert_eq!((found.itself, found.revision), (expected.itself, expected.revision));
    assert_eq!(found.content, expected.content);
    assert_eq!(found.created_at, expected.created_at);
    assert_eq!(found.updated_at, expected.updated_at);
}

const CONNECTION: RecordKind = RecordKind::Connection;
const REPOSITORY: RecordKind = RecordKind::Repository;
const PLAN: RecordKind = RecordKind::Plan;

/// A record comes back by its id and by its name.
pub async fn what_is_created_is_found_by_id_and_by_name(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made =
        desk.create(CONNECTION, draft("nas", r#"{"a": [1, 2]}"#, &[])).await.expect("it succeeds");
    assert_eq!((made.revision, made.itself.kind), (1, CONNECTION));
    assert_eq!(made.content, draft("nas", r#"{"a": [1, 2]}"#, &[]));
    assert_eq!(made.created_at, made.updated_at);
    assert_same(&desk.get(made.itself).await.expect("it succeeds"), &made);
    assert_same(&desk.find(CONNECTION, "nas").await.expect("it succeeds"), &made);
}

/// Line 8: names and bodies come back byte by byte.
pub async fn every_kind_and_odd_text_comes_back(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let longest = "n".repeat(MAX_NAME_BYTES);
    let names = ["a", "Ünïcode 名前", "it's; -- \"x\" %_\\", "e\u{301}", "é", longest.as_str()];
    // Not another JSON text that means the same: these bytes.
    let bodies = ["null", "{ \"b\":1 ,\"a\":1.0e2}", r#""\u0000 \u00e9 é""#, "[1,\n2]"];
    for kind in RecordKind::ALL {
        for (name, body) in names.iter().zip(bodies.iter().cycle()) {
            let made = desk.create(*kind, draft(name, body, &[])).await.expect("it succeeds");
            assert_same(&desk.find(*kind, name).await.expect("it succeeds"), &made);
            assert_eq!(made.content, draft(name, body, &[]));
        }
        assert_eq!(desk.names(*kind).await.len(), names.len());
    }
    let large = format!("\"{}\"", "x".repeat(MAX_BODY_BYTES - 2));
    let made = desk.create(PLAN, draft("large", &large, &[])).await.expect("it succeeds");
    assert_eq!(desk.get(made.itself).await.expect("it succeeds").content.body.get(), large);
}

/// Records that are missing are nothing to readers and refused to changes.
pub async fn what_is_not_there_is_nothing(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    let other_kind = RecordRef { kind: PLAN, ..made.itself };
    assert!(desk.get(other_kind).await.is_none());
    assert!(desk.find(PLAN, "nas").await.is_none());
    assert!(desk.find(CONNECTION, "NAS").await.is_none());
    assert!(desk.names(PLAN).await.is_empty());
    assert!(desk.users(other_kind).await.is_empty());
    let gone = Record { itself: other_kind, ..made };
    assert_refused(desk.update(&gone, named("x")).await, ErrorKind::NotFound, "no-such-record");
    assert_refused(desk.delete(&gone).await, ErrorKind::NotFound, "no-such-record");
    assert_eq!(desk.changes().await.len(), 1);
}

/// Line 1.
pub async fn a_name_is_taken_within_its_kind_only(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let first = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    desk.create(PLAN, named("nas")).await.expect("it succeeds");
    let second = desk.create(CONNECTION, named("other")).await.expect("it succeeds");
    let told = assert_refused(
        desk.create(CONNECTION, named("nas")).await,
        ErrorKind::Conflict,
        "name-taken",
    );
    assert!(told.contains("connection called `nas`"), "{told}");
    assert_refused(desk.update(&second, named("nas")).await, ErrorKind::Conflict, "name-taken");
    assert_same(&desk.get(second.itself).await.expect("it succeeds"), &second);
    // Its own name is no other's.
    desk.update(&first, draft("nas", "1", &[])).await.expect("it succeeds");
    assert_eq!(desk.names(CONNECTION).await, ["nas", "other"]);
}

/// Line 8: what a draft may not hold is refused.
pub async fn names_and_bodies_out_of_bounds_are_refused(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    let large = format!("\"{}\"", "x".repeat(MAX_BODY_BYTES - 1));
    for bad in [named(""), named(" a"), named("a "), named("a\0b"), named("a\nb"), named(&long)] {
        let created = desk.create(CONNECTION, bad.clone()).await;
        assert_eq!(created.expect_err("a refusal").kind(), ErrorKind::InvalidInput, "{bad:?}");
        let updated = desk.update(&made, bad).await;
        assert_eq!(updated.expect_err("a refusal").kind(), ErrorKind::InvalidInput);
    }
    let created = desk.create(CONNECTION, draft("large", &large, &[])).await;
    assert_eq!(created.expect_err("a refusal").kind(), ErrorKind::InvalidInput);
    assert_eq!(desk.changes().await.len(), 1);
}

/// Line 7, also across scopes; it is free again once its record is deleted.
pub async fn an_id_is_used_once(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    let other_kind = RecordRef { kind: PLAN, ..made.itself };
    for (desk, itself) in [
        (desk.clone(), made.itself),
        (desk.clone(), other_kind),
        (desk.in_scope("tenant-2"), made.itself),
    ] {
        let created = desk.create_as(itself, named("other")).await;
        assert_refused(created, ErrorKind::Conflict, "id-taken");
    }
    assert_same(&desk.get(made.itself).await.expect("it is there"), &made);
    desk.delete(&made).await.expect("it succeeds");
    desk.create_as(made.itself, named("again")).await.expect("it succeeds");
}

/// Line 8: sealed secrets come back as they were, are replaced and dropped by updates.
pub async fn sealed_secrets_come_back_and_open_in_their_place_only(fixture: CatalogueFixture) {
    let (desk, env) = (fixture.desk(), Env::system());
    let vault = Vault::new(&env, MasterKey::generate(&env).expect("a key"), []);
    let id = RecordId::random(&env).expect("an id");
    let itself = RecordRef { kind: CONNECTION, id };
    let (owner_id, scope) = (id.to_string(), desk.scope.to_string());
    let place = |field| SecretPlace {
        scope: &scope,
        owner_kind: CONNECTION.as_str(),
        owner_id: &owner_id,
        field,
    };
    let seal = |field: &'static str, text: &str| {
        let sealed = vault.seal(&place(field), &SecretString::from(text)).expect("it is sealed");
        (field.to_owned(), sealed)
    };
    let secrets = BTreeMap::from([seal("password", "one"), seal("key_2", &"k".repeat(60_000))]);
    let draft = |secrets: &BTreeMap<_, _>| Draft { secrets: secrets.clone(), ..named("nas") };
    let made = desk.create_as(itself, draft(&secrets)).await.expect("it succeeds");
    let found = desk.get(itself).await.expect("it is there");
    assert_same(&found, &made);
    let opened = vault.open(&place("password"), &found.content.secrets["password"]);
    assert_eq!(opened.expect("it opens").expose_secret(), "one");
    assert!(vault.open(&place("key_2"), &found.content.secrets["password"]).is_err());
    let fewer = BTreeMap::from([seal("password", "two")]);
    let updated = desk.update(&found, draft(&fewer)).await.expect("it succeeds");
    assert_eq!(updated.content.secrets, fewer);
    assert_same(&desk.get(itself).await.expect("it is there"), &updated);
    for field in ["", "Password", "a-b", "a b", "a,b", &"f".repeat(65)] {
        let odd = BTreeMap::from([(field.to_owned(), fewer["password"].clone())]);
        let error = desk.update(&updated, draft(&odd)).await.expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{field}");
    }
}

/// An update leaves nothing of before but the id and the time of creation.
pub async fn an_update_replaces_all_and_counts(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, draft("nas", "1", &[])).await.expect("it succeeds");
    let updated = desk.update(&made, draft("box", "2", &[])).await.expect("it succeeds");
    assert_eq!((updated.itself, updated.revision), (made.itself, 2));
    assert_eq!(updated.content, draft("box", "2", &[]));
    assert_eq!(updated.created_at, made.created_at);
    assert!(updated.updated_at >= made.updated_at);
    assert_same(&desk.get(made.itself).await.expect("it succeeds"), &updated);
    assert!(desk.find(CONNECTION, "nas").await.is_none());
    assert_eq!(desk.update(&updated, named("nas")).await.expect("it succeeds").revision, 3);
}

/// Line 2.
pub async fn an_update_of_an_earlier_revision_is_refused(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    let updated = desk.update(&made, named("box")).await.expect("it succeeds");
    let told = assert_refused(desk.update(&made, named("x")).await, ErrorKind::Conflict, "stale");
    assert!(told.contains("connection `box`"), "{told}");
    assert_refused(desk.delete(&made).await, ErrorKind::Conflict, "stale");
    let ahead = Record { revision: 9, ..updated.clone() };
    assert_refused(desk.update(&ahead, named("x")).await, ErrorKind::Conflict, "stale");
    assert_same(&desk.get(made.itself).await.expect("it succeeds"), &updated);
    assert_eq!(desk.changes().await.len(), 2);
}

/// Line 3: missing ones are refused.
pub async fn what_is_needed_must_be_there(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let there = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    let gone = desk.create(CONNECTION, named("gone")).await.expect("it succeeds");
    desk.delete(&gone).await.expect("it succeeds");
    let both = [there.itself, gone.itself];
    let created = desk.create(PLAN, draft("nightly", "{}", &both)).await;
    assert_refused(created, ErrorKind::NotFound, "no-such-record");
    let plan =
        desk.create(PLAN, draft("nightly", "{}", &[there.itself])).await.expect("it succeeds");
    let updated = desk.update(&plan, draft("nightly", "{}", &both)).await;
    assert_refused(updated, ErrorKind::NotFound, "no-such-record");
    let other_kind = RecordRef { kind: REPOSITORY, ..there.itself };
    let created = desk.create(PLAN, draft("other", "{}", &[other_kind])).await;
    assert_refused(created, ErrorKind::NotFound, "no-such-record");
    assert_eq!(desk.get(plan.itself).await.expect("it succeeds").content.needs, [there.itself]);
}

/// Line 3: the users are named.
pub async fn what_is_needed_cannot_be_deleted(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let connection = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    let needs = [connection.itself];
    let repository =
        desk.create(REPOSITORY, draft("vault", "{}", &needs)).await.expect("it succeeds");
    let needs = [repository.itself, connection.itself];
    let plan = desk.create(PLAN, draft("nightly", "{}", &needs)).await.expect("it succeeds");
    assert_eq!(desk.users(connection.itself).await, ["vault", "nightly"]);
    let told = assert_refused(desk.delete(&connection).await, ErrorKind::Conflict, "in-use");
    assert!(told.contains("repository `vault`, plan `nightly`"), "{told}");
    assert_same(&desk.get(connection.itself).await.expect("it succeeds"), &connection);
    // An update keeps it in use, and what nobody needs goes first.
    let connection = desk.update(&connection, named("box")).await.expect("it succeeds");
    desk.delete(&plan).await.expect("it succeeds");
    desk.delete(&repository).await.expect("it succeeds");
    desk.delete(&connection).await.expect("it succeeds");
    assert!(desk.names(CONNECTION).await.is_empty());
}

/// Line 3: what is no longer needed can go, and a record does not hold itself.
pub async fn a_record_may_let_go_of_what_it_needs(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let old = desk.create(CONNECTION, named("old")).await.expect("it succeeds");
    let new = desk.create(CONNECTION, named("new")).await.expect("it succeeds");
    let plan = desk.create(PLAN, draft("nightly", "{}", &[old.itself])).await.expect("it succeeds");
    let plan =
        desk.update(&plan, draft("nightly", "{}", &[new.itself])).await.expect("it succeeds");
    desk.delete(&old).await.expect("it succeeds");
    assert_refused(desk.delete(&new).await, ErrorKind::Conflict, "in-use");
    // Needing itself or the same twice does not tie it forever.
    let odd = draft("nightly", "{}", &[new.itself, plan.itself, new.itself]);
    let plan = desk.update(&plan, odd.clone()).await.expect("it succeeds");
    assert_eq!(desk.get(plan.itself).await.expect("it succeeds").content, odd);
    assert_eq!(desk.users(new.itself).await, ["nightly"]);
    assert!(desk.users(plan.itself).await.is_empty());
    desk.delete(&plan).await.expect("it succeeds");
    desk.delete(&new).await.expect("it succeeds");
}

/// A deleted record is gone for readers and changes.
pub async fn what_is_deleted_is_gone_and_its_name_is_free(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    desk.delete(&made).await.expect("it succeeds");
    assert!(desk.get(made.itself).await.is_none());
    assert!(desk.find(CONNECTION, "nas").await.is_none());
    assert_refused(desk.delete(&made).await, ErrorKind::NotFound, "no-such-record");
    let again = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    assert_ne!(again.itself, made.itself);
    assert_eq!(again.revision, 1);
}

/// Line 4.
pub async fn scopes_do_not_see_each_other(fixture: CatalogueFixture) {
    let (mine, theirs) = (fixture.desk(), fixture.desk().in_scope("tenant-2"));
    let made = mine.create(CONNECTION, named("nas")).await.expect("it succeeds");
    assert!(theirs.get(made.itself).await.is_none());
    assert!(theirs.find(CONNECTION, "nas").await.is_none());
    assert!(theirs.names(CONNECTION).await.is_empty());
    let updated = theirs.update(&made, named("x")).await;
    assert_refused(updated, ErrorKind::NotFound, "no-such-record");
    assert_refused(theirs.delete(&made).await, ErrorKind::NotFound, "no-such-record");
    let created = theirs.create(PLAN, draft("nightly", "{}", &[made.itself])).await;
    assert_refused(created, ErrorKind::NotFound, "no-such-record");
    theirs.create(CONNECTION, named("nas")).await.expect("it succeeds");
    assert_same(&mine.get(made.itself).await.expect("it succeeds"), &made);
    assert_eq!((mine.changes().await.len(), theirs.changes().await.len()), (1, 1));
}

/// Pages follow each other without gaps, by the bytes of the names.
pub async fn lists_come_in_pages_in_the_order_of_names(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    // By bytes: capitals first, what is not ASCII last.
    for name in ["b", "é", "B", "a b", "a", "z"] {
        desk.create(PLAN, named(name)).await.expect("it succeeds");
    }
    let mut names = Vec::new();
    loop {
        let after = names.last().cloned();
        let page =
            desk.catalogue.list(&desk.scope, PLAN, after.as_deref(), 4).await.expect("it succeeds");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 4);
        names.extend(page.into_iter().map(|record| record.content.name));
    }
    assert_eq!(names, ["B", "a", "a b", "b", "z", "é"]);
    let behind = desk.catalogue.list(&desk.scope, PLAN, Some("aa"), 1).await.expect("it succeeds");
    assert_eq!(behind[0].content.name, "b");
}

/// Line 5: each change with its actor, and none for what was refused.
pub async fn changes_are_numbered_without_gaps(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    assert!(desk.create(CONNECTION, named("nas")).await.is_err());
    let updated =
        desk.as_actor("someone else").update(&made, named("box")).await.expect("it succeeds");
    desk.delete(&updated).await.expect("it succeeds");
    let changes = desk.changes().await;
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.kind, change.actor.as_str(), change.name.as_str()))
        .collect();
    let expected = [
        (ChangeKind::Create, "test", "nas"),
        (ChangeKind::Update, "someone else", "box"),
        (ChangeKind::Delete, "test", "box"),
    ];
    assert_eq!(told, expected);
    assert!(changes.iter().all(|change| change.record == made.itself));
    assert_eq!(changes[0].at, made.created_at);
    assert_eq!(
        desk.catalogue.changes(&desk.scope, 1, 1).await.expect("it succeeds"),
        changes[1..2]
    );
    assert!(desk.catalogue.changes(&desk.scope, 3, 9).await.expect("it succeeds").is_empty());
}

/// Line 1, with 16 at the same time.
pub async fn of_racing_creators_exactly_one_gets_the_name(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let results = race(16, |_| {
        let desk = desk.clone();
        Box::pin(async move { desk.create(CONNECTION, named("nas")).await })
    })
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 15));
    for result in refused {
        assert_refused(result, ErrorKind::Conflict, "name-taken");
    }
    assert_eq!(desk.changes().await.len(), 1);
}

/// Line 2, with 16 at the same time.
pub async fn of_racing_updates_exactly_one_takes_effect(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let made = desk.create(CONNECTION, named("nas")).await.expect("it succeeds");
    let results = race(16, |number| {
        let (desk, made) = (desk.clone(), made.clone());
        let draft = named(&format!("nas {number}"));
        Box::pin(async move { desk.update(&made, draft).await })
    })
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 15));
    for result in refused {
        assert_refused(result, ErrorKind::Conflict, "stale");
    }
    let made = made.into_iter().next().expect("it succeeds").expect("it succeeds");
    assert_same(&desk.get(made.itself).await.expect("it succeeds"), &made);
}

/// Line 5, with 16 at the same time.
pub async fn racing_changes_are_numbered_without_gaps(fixture: CatalogueFixture) {
    let desk = fixture.desk();
    let results = race(16, |number| {
        let desk = desk.clone();
        Box::pin(async move {
            for round in 0..4 {
                let made = desk.create(PLAN, named(&format!("{number}-{round}"))).await?;
                let updated = desk.update(&made, draft(&made.content.name, "1", &[])).await?;
                desk.delete(&updated).await?;
            }
            Ok::<_, Error>(())
        })
    })
    .await;
    results.into_iter().collect::<Result<Vec<_>, _>>().expect("it succeeds");
    assert_eq!(desk.changes().await.len(), 16 * 4 * 3);
    assert!(desk.names(PLAN).await.is_empty());
}
