//! Cases of the bytes of entries.

use bytes::Bytes;
use futures::stream::StreamExt;

use super::{
    SourceFixture, assert_bytes, files, list, open_body, ranged, read, read_content, read_stream,
    sample, streams,
};
use crate::testing::conformance::not_applicable;
use crate::testing::entropy::Random;

/// [`read_at`](crate::source::RangedBody::read_at).
pub async fn any_range_of_a_body_can_be_read(fixture: SourceFixture) {
    let view = fixture.open().await;
    let bodies = ranged(&*view).await;
    if bodies.is_empty() {
        return not_applicable("all bodies are streams");
    }
    let mut random = Random::new(1);
    for (path, body) in bodies {
        let wanted = fixture.bytes_of(&path);
        let len_bytes = wanted.len() as u64;
        assert_eq!(body.len_bytes(), len_bytes, "{path}");
        for _ in 0..if len_bytes == 0 { 0 } else { 10 } {
            let start = random.below(len_bytes);
            let end = start + 1 + random.below(len_bytes - start);
            let found = body.read_at(start..end).await;
            let found = found.expect("a range can be read");
            let index = |at| usize::try_from(at).expect("an index");
            assert_bytes(&path, &found, &wanted.slice(index(start)..index(end)));
        }
    }
}

/// [`read_at`](crate::source::RangedBody::read_at).
pub async fn a_range_past_the_end_is_short(fixture: SourceFixture) {
    let view = fixture.open().await;
    let bodies = ranged(&*view).await;
    if bodies.is_empty() {
        return not_applicable("all bodies are streams");
    }
    for (path, body) in bodies {
        let wanted = fixture.bytes_of(&path);
        let len_bytes = wanted.len() as u64;
        let behind = body.read_at(len_bytes..len_bytes + 10).await;
        assert_bytes(&path, &behind.expect("the end can be read"), &Bytes::new());
        let start = len_bytes.saturating_sub(3);
        let across = body.read_at(start..len_bytes + 10).await;
        let tail = wanted.slice(wanted.len().saturating_sub(3)..);
        assert_bytes(&path, &across.expect("the end can be read"), &tail);
    }
}

/// Contract 4.
pub async fn a_stream_continues_behind_every_token(fixture: SourceFixture) {
    let view = fixture.open().await;
    let streams = streams(&*view).await;
    if streams.is_empty() {
        return not_applicable("no body is a stream");
    }
    for (path, body) in streams {
        let (all, tokens) = read_stream(&*body, None).await;
        for index in sample(tokens.len(), 16) {
            let (at, token) = &tokens[index];
            let (rest, _) = read_stream(&*body, Some(token)).await;
            assert_bytes(&path, &rest, &all.slice(*at..));
        }
    }
}

/// [`pieces`](crate::source::StreamBody::pieces).
pub async fn pieces_of_a_stream_are_bounded(fixture: SourceFixture) {
    let view = fixture.open().await;
    let streams = streams(&*view).await;
    if streams.is_empty() {
        return not_applicable("no body is a stream");
    }
    for (path, body) in streams {
        let mut pieces = body.pieces(None);
        while let Some(piece) = pieces.next().await {
            let piece = piece.expect("a stream can be read");
            let len_bytes = piece.bytes.len();
            assert!(len_bytes <= 8 << 20, "a piece of {path} has {len_bytes}");
        }
    }
}

/// [`segments`](crate::source::SourceView::segments).
pub async fn segments_make_up_the_whole_and_do_not_move(fixture: SourceFixture) {
    let view = fixture.open().await;
    let mut any = false;
    for entry in files(&list(&*view, None).await) {
        let first = view.segments(&entry).await;
        let first = first.expect("segments can be asked for");
        let second = view.segments(&entry).await;
        assert_eq!(first, second.expect("segments can be asked for again"));
        any |= !first.is_empty();
        // Segments may be read in any order.
        let mut parts = Vec::new();
        for segment in first.iter().rev() {
            let content = open_body(&*view, &entry, Some(segment)).await;
            parts.push(read_content(content).await);
        }
        parts.reverse();
        if !parts.is_empty() {
            let whole = Bytes::from(parts.concat());
            assert_bytes(&entry.path, &whole, &fixture.bytes_of(&entry.path));
        }
    }
    if !any {
        not_applicable("no entry has segments");
    }
}

/// Several bodies at once, as the engine reads them.
pub async fn bodies_can_be_read_at_the_same_time(fixture: SourceFixture) {
    let view = fixture.open().await;
    let files = files(&list(&*view, None).await);
    let reads = futures::stream::iter(&files).map(async |entry| {
        let found = read(&*view, entry).await;
        assert_bytes(&entry.path, &found, &fixture.bytes_of(&entry.path));
    });
    reads.buffer_unordered(8).collect::<()>().await;
}

/// [`bodies`](crate::source::SourceView::bodies).
pub async fn bodies_opened_in_one_go_are_those_opened_one_by_one(fixture: SourceFixture) {
    let view = fixture.open().await;
    let files = files(&list(&*view, None).await);
    let Some(bodies) = view.bodies(&files).await else {
        return not_applicable("bodies are opened one by one");
    };
    assert_eq!(bodies.len(), files.len(), "one answer for each entry");
    for (entry, body) in files.iter().zip(bodies) {
        let body = body.expect("a body can be opened");
        let alone = view.body(entry, None).await.expect("a body can be opened");
        assert_eq!(body.refreshed, alone.refreshed, "{}", entry.path);
        let found = read_content(body.content).await;
        assert_bytes(&entry.path, &found, &fixture.bytes_of(&entry.path));
    }
}
