//! Pages of a listing, the next ones fetched while one is used.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{self, BoxStream, Stream, StreamExt as _};

use super::super::bucket::{Bucket, Page};
use crate::error::Result;

/// Pages that lie ready at most. Each may take some hundred KiB.
const MOST_PAGES: usize = 4;

/// All pages behind a key.
pub(super) fn pages(bucket: Bucket, behind: Option<String>) -> BoxStream<'static, Result<Page>> {
    enum At {
        Start(Option<String>),
        Token(String),
        End,
    }
    let pages = stream::unfold((bucket, At::Start(behind)), |(bucket, at)| async move {
        let page = match &at {
            At::End => return None,
            At::Start(behind) => bucket.objects_page(behind.as_deref(), None).await,
            At::Token(token) => bucket.objects_page(None, Some(token)).await,
        };
        let next = match &page {
            Ok(Page { next: Some(token), .. }) => At::Token(token.clone()),
            _ => At::End,
        };
        Some((page, (bucket, next)))
    });
    Ahead { pages: pages.boxed(), ready: VecDeque::new(), has_ended: false }.boxed()
}

/// Asks for the next page as soon as somebody has taken one.
struct Ahead {
    pages: BoxStream<'static, Result<Page>>,
    ready: VecDeque<Result<Page>>,
    has_ended: bool,
}

impl Stream for Ahead {
    type Item = Result<Page>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Page>>> {
        while !self.has_ended && self.ready.len() <= MOST_PAGES {
            match self.pages.poll_next_unpin(cx) {
                Poll::Ready(Some(page)) => self.ready.push_back(page),
                Poll::Ready(None) => self.has_ended = true,
                Poll::Pending => break,
            }
        }
        match self.ready.pop_front() {
            Some(page) => Poll::Ready(Some(page)),
            None if self.has_ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
