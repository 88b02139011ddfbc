//! Facts about the store itself.

use super::super::helpers::race;
use super::{RunsFixture, assert_invalid};
use crate::state::MAX_SETTING_BYTES;

/// Only from what is expected.
pub async fn settings_are_swapped(fixture: RunsFixture) {
    let desk = fixture.desk();
    let get = async |name| desk.store.setting(name).await.expect("an answer");
    let swap = async |name, expected, value| {
        desk.store.swap_setting(name, expected, value).await.expect("an answer")
    };
    let (odd, longest) = ("a\0é\n", "x".repeat(MAX_SETTING_BYTES));
    assert_eq!(get("machine").await, None);
    assert!(swap("machine", None, None).await);
    assert!(!swap("machine", Some(""), Some("x")).await);
    assert!(swap("machine", None, Some(odd)).await);
    assert!(!swap("machine", None, Some("x")).await);
    assert_eq!(get("machine").await.as_deref(), Some(odd));
    assert_eq!(get("machine_2").await, None);
    assert!(swap("machine", Some(odd), Some(&longest)).await);
    assert_eq!(get("machine").await, Some(longest.clone()));
    assert!(!swap("machine", Some(odd), None).await);
    assert!(swap("machine", Some(&longest), Some("")).await);
    assert_eq!(get("machine").await.as_deref(), Some(""));
    assert!(swap("machine", Some(""), None).await);
    assert_eq!(get("machine").await, None);
}

/// Names that are none, and texts that are too long.
pub async fn odd_settings_are_refused(fixture: RunsFixture) {
    let desk = fixture.desk();
    for name in ["", "A", "a b", "a-b", "a\0", &"n".repeat(65)] {
        assert_invalid(desk.store.setting(name).await);
        assert_invalid(desk.store.swap_setting(name, None, Some("x")).await);
    }
    let long = "x".repeat(MAX_SETTING_BYTES + 1);
    assert_invalid(desk.store.swap_setting("a", None, Some(&long)).await);
    assert_eq!(desk.store.setting("a").await.expect("an answer"), None);
    let name = "n".repeat(64);
    assert!(desk.store.swap_setting(&name, None, Some("x")).await.expect("an answer"));
}

/// Counting up, with 16 at the same time.
pub async fn racing_swaps_lose_nothing(fixture: RunsFixture) {
    let desk = fixture.desk();
    race(16, |_| {
        let desk = desk.clone();
        Box::pin(async move {
            for _ in 0..4 {
                loop {
                    let seen = desk.store.setting("count").await.expect("an answer");
                    let count: u32 =
                        seen.as_deref().map_or(0, |text| text.parse().expect("a number"));
                    let next = (count + 1).to_string();
                    let swapped = desk.store.swap_setting("count", seen.as_deref(), Some(&next));
                    if swapped.await.expect("an answer") {
                        break;
                    }
                }
            }
        })
    })
    .await;
    assert_eq!(desk.store.setting("count").await.expect("an answer").as_deref(), Some("64"));
}
