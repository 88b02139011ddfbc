use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::super::super::super::keys::by_tree;
use super::*;
use crate::error::{Error, ErrorKind};

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

/// A bucket in pages of this size.
struct Bucket {
    keys: BTreeSet<String>,
    page_keys: usize,
    serves: Serves,
}

/// How a server lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    ByBytes,
    /// The same, but behind a key that is not there, it begins so many keys late.
    Late(usize),
    /// Directory by directory, and what is behind `a` is behind all of `a/`, too.
    ByDirectory,
    /// Directory by directory, but behind a key is what has later bytes.
    ByDirectoryBehindBytes,
}

impl Bucket {
    fn new(keys: impl IntoIterator<Item = String>, page_keys: usize) -> Self {
        Self { keys: keys.into_iter().collect(), page_keys, serves: Serves::ByBytes }
    }

    fn serving(mut self, serves: Serves) -> Self {
        self.serves = serves;
        self
    }

    fn pages(&self) -> usize {
        self.keys.len().div_ceil(self.page_keys)
    }

    /// All keys as they are listed.
    fn listing(&self) -> Vec<&String> {
        let mut keys: Vec<&String> = self.keys.iter().collect();
        if matches!(self.serves, Serves::ByDirectory | Serves::ByDirectoryBehindBytes) {
            keys.sort_by(|one, next| by_tree(one, next));
        }
        keys
    }

    fn answer(&self, request: &Request) -> Page {
        let listing = self.listing();
        let behind = |key: &String, behind: &String| match self.serves {
            Serves::ByDirectory => by_tree(key, behind) == Ordering::Greater,
            Serves::ByDirectoryBehindBytes if request.token.is_some() => {
                by_tree(key, behind) == Ordering::Greater
            }
            _ => key > behind,
        };
        let mut rest: Vec<&String> = match (&request.token, &request.behind) {
            (Some(token), _) => listing.into_iter().filter(|key| behind(key, token)).collect(),
            (None, None) => listing,
            (None, Some(start)) => {
                let below = format!("{start}/");
                let is_below =
                    |key: &String| self.serves == Serves::ByDirectory && key.starts_with(&below);
                let is_behind = |key: &&String| behind(key, start) && !is_below(key);
                listing.into_iter().filter(is_behind).collect()
            }
        };
        if let (Serves::Late(late), None, Some(start)) =
            (self.serves, &request.token, &request.behind)
            && !self.keys.contains(start)
        {
            rest.drain(..late.min(rest.len()));
        }
        let goes_on = rest.len() > self.page_keys;
        rest.truncate(self.page_keys);
        let next = rest.last().filter(|_| goes_on).map(|last| (*last).clone());
        Page { keys: rest.into_iter().map(|key| paged(key)).collect(), next }
    }

    /// Where pieces may begin, if the bucket had these keys before.
    fn starts(&self, before: &BTreeSet<String>) -> Vec<String> {
        let stride = (self.page_keys * 15 / 16).max(1);
        before.iter().skip(stride - 1).step_by(stride).cloned().collect()
    }
}

fn paged(key: &str) -> PagedKey {
    PagedKey {
        key: key.to_owned(),
        len_bytes: 1,
        etag: String::new(),
        modified: None,
        storage_class: None,
        version: None,
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
fn list(bucket: &Bucket, starts: &[String], is_by_bytes: bool) -> Listed {
    let mut plan = Plan::new(None, is_by_bytes);
    let mut starts = starts.iter().cloned();
    let mut listed = Listed::default();
    while !plan.is_over() {
        while let Some(keys) = plan.give() {
            listed.keys.extend(keys.unwrap().into_iter().map(|key| key.key));
        }
        while plan.wants_start()
            && let Some(start) = starts.next()
        {
            plan.add_start(start);
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

/// The same, some of them others.
fn changed(random: &mut Random, keys: &BTreeSet<String>) -> BTreeSet<String> {
    let mut changed = keys.clone();
    for _ in 0..random.below(20) {
        if let Some(key) = keys.iter().nth(random.below(keys.len().max(1))) {
            changed.remove(key);
            changed.insert(format!("{key}{}", random.below(3)));
        }
    }
    changed
}

#[test]
fn a_bucket_of_one_page_takes_one_request() {
    for is_by_bytes in [true, false] {
        for count in [0, 1, 10] {
            let bucket = Bucket::new((0..count).map(|number| number.to_string()), 10);
            let listed = list(&bucket, &[], is_by_bytes);
            assert_eq!((listed.requests, listed.keys.len()), (1, count));
        }
    }
}

#[test]
fn pages_come_in_turn_where_nothing_is_known() {
    let bucket = Bucket::new((0..1_000).map(|number| format!("{number:04}")), 10);
    let listed = list(&bucket, &[], true);
    assert_eq!((listed.requests, listed.rounds, listed.most_at_once), (100, 100, 1));
    assert!(listed.keys.iter().eq(&bucket.keys));
}

#[test]
fn a_bucket_that_is_known_is_listed_several_times_as_fast_with_few_requests_more() {
    let mut random = Random(1);
    let hashes: Vec<String> = (0..20_000).map(|_| format!("data/{:016x}", random.word())).collect();
    let dates = (0..20_000).map(|number| {
        let (day, event) = (number / 90, number % 90);
        format!("logs/2026/{:02}/{:02}/event-{event:05}.json", day / 28 + 1, day % 28 + 1)
    });
    for (name, keys) in [("hashes", hashes), ("dates", dates.collect())] {
        for (is_known, page_keys) in [(true, 200), (false, 200), (false, 50)] {
            // In no other order than that of bytes the one comes before the other.
            let shown = ["0-", "0/x"].into_iter().filter(|_| !is_known).map(str::to_owned);
            let bucket = Bucket::new(keys.iter().cloned().chain(shown), page_keys);
            let listed = list(&bucket, &bucket.starts(&bucket.keys), is_known);
            assert!(listed.keys.iter().eq(&bucket.keys), "{name}");
            let (pages, requests, rounds) = (bucket.pages(), listed.requests, listed.rounds);
            let figures = format!("{name}: {pages} pages, {requests} requests, {rounds} rounds");
            assert!(rounds * 5 <= pages, "{figures}");
            assert!(requests * 100 <= pages * 115, "{figures}");
        }
    }
}

#[test]
fn a_bucket_that_changed_takes_few_requests_more() {
    let mut random = Random(2);
    let (mut pages, mut requests) = (0, 0);
    for round in 0..500 {
        let bucket = Bucket::new(random_keys(&mut random), 1 + random.below(40));
        let starts = bucket.starts(&changed(&mut random, &bucket.keys));
        let listed = list(&bucket, &starts, true);
        assert!(listed.keys.iter().eq(&bucket.keys), "seed 2, round {round}");
        pages += bucket.pages().max(1);
        requests += listed.requests;
    }
    assert!(requests <= 2 * pages, "{requests} requests for {pages} pages");
}

#[test]
fn however_a_server_lists_no_key_is_lost_and_the_order_is_its_own() {
    let mut random = Random(4);
    for serves in [
        Serves::ByBytes,
        Serves::Late(1),
        Serves::Late(9),
        Serves::ByDirectory,
        Serves::ByDirectoryBehindBytes,
    ] {
        for round in 0..500 {
            let bucket = Bucket::new(random_keys(&mut random), 1 + random.below(20));
            let bucket = bucket.serving(serves);
            let starts = bucket.starts(&changed(&mut random, &bucket.keys));
            let listed = list(&bucket, &starts, false);
            assert!(listed.keys.iter().eq(bucket.listing()), "seed 4, {serves:?}, round {round}");
            let most = 2 * bucket.pages() + 100;
            assert!(listed.requests <= most, "{} of {most}, {serves:?}", listed.requests);
        }
    }
}

#[test]
fn keys_that_come_and_go_lose_no_other_key_in_whichever_order_answers_come() {
    let mut random = Random(3);
    for round in 0..2_000 {
        let mut bucket = Bucket::new(random_keys(&mut random), 1 + random.below(12));
        let starts = bucket.starts(&changed(&mut random, &bucket.keys));
        let mut stayed = bucket.keys.clone();
        let mut plan = Plan::new(None, round % 2 == 0);
        let mut starts = starts.into_iter();
        let mut asked: Vec<Request> = Vec::new();
        let mut keys: Vec<String> = Vec::new();
        while !plan.is_over() {
            if plan.wants_start()
                && let Some(start) = starts.next()
            {
                plan.add_start(start);
            }
            asked.extend(std::iter::from_fn(|| plan.ask()));
            let held =
                plan.pieces.iter().filter(|piece| !matches!(piece.state, State::Open { .. }));
            assert!(held.count() <= MOST_PAGES, "seed 3, round {round}");
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
        bucket.starts(&bucket.keys).into_iter().for_each(|start| plan.add_start(start));
        let (mut keys, mut failed) = (Vec::new(), None);
        while failed.is_none() {
            while let Some(request) = plan.ask() {
                let page = if request.number >= failing {
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
