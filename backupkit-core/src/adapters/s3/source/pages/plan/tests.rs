use std::collections::BTreeSet;
use std::ops::Bound;

use super::*;
use crate::error::ErrorKind;

struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.word() % end as u64).unwrap()
    }
}

/// A bucket in the order of bytes, in pages of this size.
struct Bucket {
    keys: BTreeSet<String>,
    page_keys: usize,
}

impl Bucket {
    fn new(keys: impl IntoIterator<Item = String>, page_keys: usize) -> Self {
        Self { keys: keys.into_iter().collect(), page_keys }
    }

    fn pages(&self) -> usize {
        self.keys.len().div_ceil(self.page_keys)
    }

    fn answer(&self, request: &Request) -> Page {
        let behind = request.token.as_ref().or(request.behind.as_ref());
        let from = behind.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let mut rest = self.keys.range((from, Bound::Unbounded));
        let keys: Vec<PagedKey> =
            rest.by_ref().take(self.page_keys).map(|key| paged(key)).collect();
        let next = rest.next().and_then(|_| keys.last()).map(|last| last.key.clone());
        Page { keys, next }
    }
}

fn paged(key: &str) -> PagedKey {
    PagedKey {
        key: key.to_owned(),
        len_bytes: 1,
        etag: String::new(),
        modified: None,
        storage_class: None,
    }
}

/// What came of a listing.
#[derive(Debug, Default)]
struct Listed {
    keys: Vec<String>,
    requests: usize,
    /// Requests that were made one after the other: those of a round at the same time.
    rounds: usize,
    most_at_once: usize,
}

/// Lists with all that is asked answered at the same time.
fn list(bucket: &Bucket, is_by_bytes: bool) -> Listed {
    let mut plan = Plan::new(None, is_by_bytes);
    let mut listed = Listed::default();
    while !plan.is_over() {
        while let Some(keys) = plan.give() {
            listed.keys.extend(keys.unwrap().into_iter().map(|key| key.key));
        }
        let asked: Vec<Request> = std::iter::from_fn(|| plan.ask()).collect();
        listed.requests += asked.len();
        listed.most_at_once = listed.most_at_once.max(asked.len());
        listed.rounds += usize::from(!asked.is_empty());
        for request in asked {
            plan.take(request.number, Ok(bucket.answer(&request)));
        }
    }
    listed
}

/// Keys that are spread as they please.
fn random_keys(random: &mut Random) -> BTreeSet<String> {
    let shape = random.below(5);
    let count = random.below(400);
    let key = |random: &mut Random| match shape {
        0 => format!("{:016x}", random.word()),
        1 => format!("img-{:06}.jpg", random.below(900)),
        2 => format!("{}/{:02}/{:x}", 2020 + random.below(5), random.below(12), random.below(99)),
        3 => (0..=random.below(6))
            .map(|_| ["a", "ä", "/", "-", "\u{1}", "z"][random.below(6)])
            .collect(),
        _ => format!("{}{}", "x".repeat(random.below(40)), random.below(50)),
    };
    (0..count).map(|_| key(random)).filter(|key| !key.is_empty()).collect()
}

#[test]
fn a_bucket_of_one_page_takes_one_request() {
    for is_by_bytes in [true, false] {
        for count in [0, 1, 10] {
            let bucket = Bucket::new((0..count).map(|number| number.to_string()), 10);
            let listed = list(&bucket, is_by_bytes);
            assert_eq!((listed.requests, listed.keys.len()), (1, count));
        }
    }
}

#[test]
fn pages_come_in_turn_where_the_order_of_the_server_is_not_known() {
    let bucket = Bucket::new((0..1_000).map(|number| format!("{number:04}")), 10);
    let listed = list(&bucket, false);
    assert_eq!((listed.requests, listed.rounds, listed.most_at_once), (100, 100, 1));
    assert!(listed.keys.iter().eq(&bucket.keys));
    // `0-` before `0/` is the order of bytes, and of no other.
    let keys = (0..1_000).map(|number| format!("{number:04}"));
    let shown = Bucket::new(keys.chain(["0-".to_owned(), "0/".to_owned()]), 10);
    let listed = list(&shown, false);
    assert!(listed.most_at_once > 8, "{}", listed.most_at_once);
    assert!(listed.keys.iter().eq(&shown.keys));
}

#[test]
fn a_large_bucket_is_listed_several_times_as_fast() {
    let mut random = Random(1);
    let hashes: Vec<String> =
        (0..100_000).map(|_| format!("data/{:016x}", random.word())).collect();
    let ids = (0..100_000).map(|_| {
        let word = format!("{:016x}{:016x}", random.word(), random.word());
        format!("users/{}-{}-{}/avatar.png", &word[..8], &word[8..12], &word[12..])
    });
    let ids: Vec<String> = ids.collect();
    let numbers = (0..100_000).map(|number| format!("IMG_{number:08}.jpg"));
    let dates = (0..100_000).map(|number| {
        let (day, event) = (number / 500, number % 500);
        format!("logs/2026/{:02}/{:02}/event-{event:05}.json", day / 28 + 1, day % 28 + 1)
    });
    let buckets: [(&str, Vec<String>); 4] = [
        ("hashes", hashes),
        ("ids", ids),
        ("numbers", numbers.collect()),
        ("dates", dates.collect()),
    ];
    for (name, keys) in buckets {
        let bucket = Bucket::new(keys, 500);
        let (listed, pages) = (list(&bucket, true), bucket.pages());
        assert!(listed.keys.iter().eq(&bucket.keys), "{name}");
        let (requests, rounds) = (listed.requests, listed.rounds);
        assert!(rounds * 4 <= pages, "{name}: {pages} pages, {requests} requests, {rounds} rounds");
        assert!(requests <= 2 * pages, "{name}: {pages} pages, {requests} requests");
    }
}

#[test]
fn keys_that_are_anyhow_take_few_requests_more() {
    let mut random = Random(2);
    let (mut pages, mut requests) = (0, 0);
    for round in 0..500 {
        let bucket = Bucket::new(random_keys(&mut random), 1 + random.below(20));
        let listed = list(&bucket, true);
        assert!(listed.keys.iter().eq(&bucket.keys), "seed 2, round {round}");
        pages += bucket.pages().max(1);
        requests += listed.requests;
    }
    assert!(requests <= 3 * pages, "{requests} requests for {pages} pages");
}

#[test]
fn keys_that_come_and_go_lose_no_other_key_in_whichever_order_answers_come() {
    let mut random = Random(3);
    for round in 0..2_000 {
        let mut bucket = Bucket::new(random_keys(&mut random), 1 + random.below(12));
        let mut stayed = bucket.keys.clone();
        let mut plan = Plan::new(None, true);
        let mut asked: Vec<Request> = Vec::new();
        let mut keys: Vec<String> = Vec::new();
        while !plan.is_over() {
            asked.extend(std::iter::from_fn(|| plan.ask()));
            let ready = plan.pieces.iter().filter(|piece| matches!(piece.state, State::Ready(_)));
            assert!(ready.count() + asked.len() <= MOST_PAGES, "seed 3, round {round}");
            match random.below(6) {
                0 => stayed = remove_one(&mut random, &mut bucket, stayed),
                1 => bucket.keys.extend(random_keys(&mut random).into_iter().take(2)),
                2 | 3 => {
                    let given = plan.give().map(Result::unwrap).unwrap_or_default();
                    keys.extend(given.into_iter().map(|key| key.key));
                }
                _ if asked.is_empty() => {}
                _ => {
                    let request = asked.remove(random.below(asked.len()));
                    plan.take(request.number, Ok(bucket.answer(&request)));
                }
            }
        }
        assert!(keys.is_sorted_by(|one, next| one < next), "seed 3, round {round}: {keys:?}");
        let found: BTreeSet<String> = keys.into_iter().collect();
        let lost: Vec<&String> = stayed.difference(&found).collect();
        assert!(lost.is_empty(), "seed 3, round {round}: {lost:?}");
    }
}

fn remove_one(
    random: &mut Random,
    bucket: &mut Bucket,
    mut stayed: BTreeSet<String>,
) -> BTreeSet<String> {
    let place = random.below(bucket.keys.len().max(1));
    if let Some(key) = bucket.keys.iter().nth(place).cloned() {
        bucket.keys.remove(&key);
        stayed.remove(&key);
    }
    stayed
}

#[test]
fn a_request_that_fails_ends_the_listing_behind_what_came_before() {
    let bucket = Bucket::new((0..1_000).map(|number| format!("{number:04}")), 10);
    for failing in 0..60 {
        let mut plan = Plan::new(None, true);
        let (mut keys, mut failed) = (Vec::new(), None);
        while failed.is_none() {
            while let Some(request) = plan.ask() {
                let page = if request.number == failing {
                    Err(Error::new(ErrorKind::Unavailable, "gone"))
                } else {
                    Ok(bucket.answer(&request))
                };
                plan.take(request.number, page);
            }
            match plan.give() {
                Some(Ok(given)) => keys.extend(given.into_iter().map(|key| key.key)),
                Some(Err(error)) => failed = Some(error),
                None => panic!("request {failing}: nothing comes any more"),
            }
        }
        assert!(bucket.keys.iter().take(keys.len()).eq(&keys), "request {failing}");
        assert!(keys.len() < 1_000, "request {failing}");
    }
}

#[test]
fn a_page_that_is_out_of_order_is_no_listing_once_the_order_is_known() {
    for keys in [&["a", "a"][..], &["b", "a"]] {
        let mut plan = Plan::new(None, true);
        let request = plan.ask().unwrap();
        let keys = keys.iter().map(|key| paged(key)).collect();
        plan.take(request.number, Ok(Page { keys, next: None }));
        assert_eq!(plan.give().unwrap().unwrap_err().code(), "s3-listing-incomplete");
    }
}
