use std::collections::BTreeMap;

use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % end as u64).unwrap()
    }
}

fn key(text: String, modified: i64) -> PagedKey {
    PagedKey {
        key: text,
        len_bytes: 1,
        etag: format!("\"{modified}\""),
        modified: Some(modified),
        storage_class: None,
        version: None,
    }
}

fn pages(pages: Vec<Vec<PagedKey>>) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    stream::iter(pages.into_iter().map(Ok)).boxed()
}

fn file() -> Arc<File> {
    Arc::new(tempfile::tempfile().unwrap())
}

async fn all(mut keys: BoxStream<'static, Result<Vec<PagedKey>>>) -> Result<Vec<PagedKey>> {
    let mut all = Vec::new();
    while let Some(batch) = keys.next().await {
        all.extend(batch?);
    }
    Ok(all)
}

#[tokio::test]
async fn keys_in_any_order_come_once_and_in_the_order_of_bytes() {
    let mut random = Random(6);
    for round in 0..60 {
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        let mut listed = Vec::new();
        for page in 0..random.below(40) {
            // A key of its own, so that no two pages are the same.
            let mut keys = vec![key(format!("page {page}"), 0)];
            newest.insert(format!("page {page}"), 0);
            for _ in 0..random.below(30) {
                let number = random.below(700);
                let text = format!("{}{number}", "x".repeat(number % 60));
                let modified = i64::try_from(random.below(4)).unwrap();
                let known = newest.entry(text.clone()).or_insert(modified);
                *known = modified.max(*known);
                keys.push(key(text, modified));
            }
            let by = random.below(keys.len());
            keys.rotate_left(by);
            listed.push(keys);
        }
        let run_bytes = [1, 2_000, 20_000, usize::MAX][round % 4];
        let found = all(sorted_in_runs_of(run_bytes, pages(listed), || Ok(file()))).await.unwrap();
        let found: Vec<(String, i64)> =
            found.into_iter().map(|key| (key.key, key.modified.unwrap())).collect();
        assert!(found.into_iter().eq(newest), "seed 6, round {round}");
    }
}

#[tokio::test]
async fn few_keys_need_no_file() {
    let keys = vec![key("b".to_owned(), 1), key("a".to_owned(), 1)];
    let refused = || Err(Error::new(ErrorKind::StorageFull, "no file"));
    let found = all(sorted(pages(vec![keys.clone()]), refused)).await.unwrap();
    assert_eq!(found.len(), 2);
    let error = all(sorted_in_runs_of(1, pages(vec![keys]), refused)).await.unwrap_err();
    assert!(error.is(ErrorKind::StorageFull));
}

#[tokio::test]
async fn a_page_that_comes_twice_is_no_listing() {
    let page = || vec![key("b".to_owned(), 1), key("a".to_owned(), 1)];
    let mut again = page();
    again.reverse();
    let error = all(sorted(pages(vec![page(), again]), || Ok(file()))).await.unwrap_err();
    assert_eq!(error.code(), "s3-listing-incomplete");
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_says_what_to_do() {
    let full = || {
        let file = File::options().read(true).write(true).open("/dev/full").unwrap();
        Ok(Arc::new(file))
    };
    let keys = vec![key("b".to_owned(), 1), key("a".to_owned(), 1)];
    let error = all(sorted_in_runs_of(1, pages(vec![keys]), full)).await.unwrap_err();
    assert!(error.is(ErrorKind::StorageFull), "{}", error.report());
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_listing_that_fails_is_no_shorter_one() {
    let failing = stream::iter([
        Ok(vec![key("b".to_owned(), 1)]),
        Err(Error::new(ErrorKind::Unavailable, "gone")),
    ]);
    assert!(
        all(sorted(failing.boxed(), || Ok(file()))).await.unwrap_err().is(ErrorKind::Unavailable)
    );
}
