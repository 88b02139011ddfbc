//! The suites notice what they are for: destinations with one flaw each fail the case for it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use async_trait::async_trait;
use backupkit::destination::{
    Destination, DestinationCapabilities, Extension, Leftovers, MemoryDestination, ObjectKey,
    ObjectMeta, Payload,
};
use backupkit::testing::conformance::{self, DestinationFixture};
use backupkit::{Error, ErrorKind, Probe, Result};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    CreateReplaces,
    CreateRefusesTheSameBytes,
    CreateLooksFirst,
    CreateIsNotAtomic,
    RangesAreCut,
    ListEndsAfterAPage,
    ListTakesPrefixesAsText,
    ListGivesAnObjectTwice,
    DeleteOfNothingFails,
    SwapReplacesAnything,
    CheckLeavesAnObject,
    AbandonedTakesObjects,
    ExtensionTakesObjects,
}

#[derive(Debug)]
struct Flawed {
    flaw: Flaw,
    inner: MemoryDestination,
}

#[async_trait]
impl Destination for Flawed {
    fn capabilities(&self) -> DestinationCapabilities {
        self.inner.capabilities()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    async fn check(&self) -> Result<Probe> {
        if self.flaw == Flaw::CheckLeavesAnObject {
            self.inner.put_raw(&ObjectKey::new("data/probe")?, "probe");
        }
        self.inner.check().await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let exists = Err(Error::new(ErrorKind::AlreadyExists, "it exists"));
        let there = self.inner.objects().remove(key);
        match self.flaw {
            Flaw::CreateReplaces => {
                self.inner.remove_raw(key);
            }
            Flaw::CreateRefusesTheSameBytes if there.is_some() => return exists,
            Flaw::CreateLooksFirst if there.is_none() => {
                // Long enough for all others to look too.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                self.inner.remove_raw(key);
            }
            Flaw::CreateIsNotAtomic if there.is_none() => {
                self.inner.put_raw(key, "a part");
                tokio::task::yield_now().await;
                self.inner.remove_raw(key);
            }
            _ => {}
        }
        self.inner.create(key, payload).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let size = self.inner.stat(key).await?.size_bytes;
        let range = match range {
            Some(range) if self.flaw == Flaw::RangesAreCut => {
                Some(range.start.min(size)..range.end.min(size))
            }
            range => range,
        };
        self.inner.get(key, range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.inner.stat(key).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        let objects = self.inner.list(prefix);
        match self.flaw {
            Flaw::ListEndsAfterAPage => objects.take(1_000).boxed(),
            Flaw::ListGivesAnObjectTwice => objects.chain(self.inner.list(prefix).take(1)).boxed(),
            Flaw::ListTakesPrefixesAsText => {
                let mut found = self.inner.objects();
                found.retain(|key, _| key.as_str().starts_with(prefix.as_str()));
                let found = found.into_iter().map(|(key, bytes)| {
                    let size_bytes = bytes.len() as u64;
                    Ok(ObjectMeta { key, size_bytes })
                });
                futures::stream::iter(found).boxed()
            }
            _ => objects,
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        if self.flaw == Flaw::DeleteOfNothingFails {
            self.inner.stat(key).await?;
        }
        self.inner.delete(key).await
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        if self.flaw == Flaw::SwapReplacesAnything {
            self.inner.put_raw(key, bytes);
            return Ok(());
        }
        self.inner.swap(key, expected, bytes).await
    }

    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        if self.flaw == Flaw::ExtensionTakesObjects {
            self.inner.remove_raw(key);
        }
        self.inner.extend_retention(key, dry_run).await
    }

    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        if self.flaw == Flaw::AbandonedTakesObjects {
            for key in self.inner.objects().keys() {
                self.inner.remove_raw(key);
            }
        }
        self.inner.remove_abandoned(prefix, unchanged_for, dry_run).await
    }
}

fn is_noticed(flaw: Flaw, case: impl AsyncFnOnce(DestinationFixture)) -> bool {
    let fixture = async || {
        let inner = MemoryDestination::new();
        DestinationFixture::new(Flawed { flaw, inner })
    };
    let run = || conformance::run("a case for a flaw", fixture, case);
    catch_unwind(AssertUnwindSafe(run)).is_err()
}

macro_rules! flaws {
    ($($flaw:ident: $($case:ident)+;)*) => {
        #[test]
        fn each_flaw_fails_the_cases_for_it() {
            $($(
                assert!(
                    is_noticed(Flaw::$flaw, conformance::destination::$case),
                    "{} does not notice {:?}", stringify!($case), Flaw::$flaw
                );
            )+)*
        }
    };
}

flaws! {
    CreateReplaces: other_bytes_are_refused_and_change_nothing;
    CreateRefusesTheSameBytes: the_same_bytes_may_be_created_again;
    CreateLooksFirst: of_concurrent_creators_exactly_one_wins;
    CreateIsNotAtomic: a_dropped_create_leaves_nothing_or_a_whole_object;
    RangesAreCut: a_range_beyond_the_end_is_refused;
    ListEndsAfterAPage: list_gives_each_object_below_the_prefix_once;
    ListTakesPrefixesAsText: list_keeps_to_whole_segments;
    ListGivesAnObjectTwice: list_keeps_to_whole_segments;
    DeleteOfNothingFails: delete_removes_and_may_be_repeated;
    SwapReplacesAnything: swap_creates_only_what_is_missing swap_replaces_only_what_is_expected of_concurrent_swaps_exactly_one_wins;
    CheckLeavesAnObject: check_is_healthy_and_leaves_nothing;
    AbandonedTakesObjects: what_is_abandoned_is_no_object;
    ExtensionTakesObjects: what_is_retained_for_longer_stays_as_it_is;
}
