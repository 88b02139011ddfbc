//! Listing objects, page by page: all of them, or an error.

use std::collections::HashSet;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sha2::{Digest, Sha256};

use crate::adapters::s3::bucket::{Bucket, Page, PagedKey};
use crate::destination::{ObjectKey, ObjectMeta};
use crate::error::{Error, ErrorKind, Result};

/// Lists what is `prefix` or stands below it.
pub(super) fn list(bucket: Bucket, prefix: ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
    let given = Given::InOrder(String::new());
    let listing = Listing { bucket, prefix, next: Next::Start, given };
    let pages = stream::try_unfold(listing, |mut listing| async move {
        let page = listing.next_page().await?;
        Ok::<_, Error>(page.map(|objects| (objects, listing)))
    });
    pages
        .flat_map(|page| match page {
            Ok(objects) => stream::iter(objects.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        })
        .boxed()
}

/// Where to go on.
enum Next {
    Start,
    Behind(String),
    Nowhere,
}

/// What was given so far. A page that comes twice is told by its keys.
enum Given {
    /// All keys up to this one, each greater than the one before: nothing more is to be kept of them.
    InOrder(String),
    /// 16 bytes for each key: not every server lists in order.
    Digests(HashSet<[u8; 16]>),
}

struct Listing {
    bucket: Bucket,
    prefix: ObjectKey,
    next: Next,
    given: Given,
}

impl Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<ObjectMeta>>> {
        let token = match std::mem::replace(&mut self.next, Next::Nowhere) {
            Next::Start => None,
            Next::Behind(token) => Some(token),
            Next::Nowhere => return Ok(None),
        };
        let page = self.bucket.list_page(self.prefix.as_str(), token.as_deref(), None).await?;
        if let Given::InOrder(last) = &self.given
            && !goes_on_in_order(last, &page.keys)
        {
            let last = last.clone();
            self.given = Given::Digests(self.digests_to(&last).await?);
        }
        match &mut self.given {
            Given::InOrder(last) => {
                if let Some(found) = page.keys.last() {
                    last.clone_from(&found.key);
                }
            }
            Given::Digests(digests) => {
                // On the last page as well: such keys stand for others that are not given.
                if !page.keys.iter().all(|found| digests.insert(digest(&found.key))) {
                    return Err(self.incomplete("the server gives keys twice"));
                }
            }
        }
        let mut objects = Vec::with_capacity(page.keys.len());
        for found in page.keys {
            // What cannot be a key was not created here.
            let Ok(key) = ObjectKey::new(found.key) else { continue };
            if key.is_below(&self.prefix) {
                objects.push(ObjectMeta { key, size_bytes: found.len_bytes });
            }
        }
        self.next = page.next.map_or(Next::Nowhere, Next::Behind);
        Ok(Some(objects))
    }

    /// Reads once more what was given in order, up to this key.
    async fn digests_to(&self, last: &str) -> Result<HashSet<[u8; 16]>> {
        let mut digests = HashSet::new();
        let mut token = None;
        let mut is_over = last.is_empty();
        while !is_over {
            let Page { keys, next } =
                self.bucket.list_page(self.prefix.as_str(), token.as_deref(), None).await?;
            let given = keys.iter().filter(|found| found.key.as_str() <= last);
            digests.extend(given.map(|found| digest(&found.key)));
            is_over = next.is_none() || keys.iter().any(|found| found.key.as_str() >= last);
            token = next;
        }
        Ok(digests)
    }

    fn incomplete(&self, why: &str) -> Error {
        Error::new(ErrorKind::Unavailable, format!("cannot list {}: {why}", self.prefix))
            .with_code("s3-listing-incomplete")
    }
}

/// Whether each key is greater than the one before.
fn goes_on_in_order(last: &str, keys: &[PagedKey]) -> bool {
    let mut before = last;
    keys.iter().all(|found| std::mem::replace(&mut before, &found.key) < found.key.as_str())
}

pub(super) fn digest(key: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(key)[..16]);
    digest
}
