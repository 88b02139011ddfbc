//! Which pages of a listing are asked for, and in which order they are given.
//!
//! What was not given yet is divided into pieces, each from behind a key up to the key behind which the
//! next one begins, the last one without an end. Each piece is asked for by itself: its page begins behind
//! its key, and what the page has of the next piece is left to that one, unless nobody asked for that one
//! yet. So each key is in one piece, whatever comes and goes meanwhile. A piece with more keys than a page
//! leaves the rest of it to be asked for.

use std::collections::VecDeque;

use super::super::super::bucket::{Page, PagedKey, incomplete};
use super::super::order::Order;
use super::density::Density;
use crate::error::{Error, Result};

/// Pages that are asked for or lie ready at most; two more are on the way to whoever lists. Each may take
/// some hundred KiB.
const MOST_PAGES: usize = 14;
/// The same where each page tells where the next one begins.
const MOST_IN_TURN: usize = 4;
/// A server may pass by what was deleted, page after page, but not for ever.
const MOST_EMPTY_PAGES: u32 = 10_000;

/// What is to be listed, and what lies ready.
#[derive(Debug)]
pub(super) struct Plan {
    pieces: VecDeque<Piece>,
    /// Whether the server is known to list by bytes: only then can a page begin anywhere.
    is_by_bytes: bool,
    /// What pages in turn tell of the order; nothing if they are in none.
    order: Option<Order>,
    last: Option<String>,
    density: Option<Density>,
    /// How many keys the largest page had.
    page_keys: u32,
    /// How many keys a piece is meant to have.
    aim: u32,
    /// How many pages are asked for at the same time.
    window: usize,
    /// Whether a page was the last one, or failed: no more guesses.
    has_end: bool,
    asked: u64,
}

/// What is asked of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) behind: Option<String>,
    pub(super) token: Option<String>,
}

#[derive(Debug)]
struct Piece {
    /// It begins behind this key.
    behind: Option<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody has asked. The token of the page before, and how many pages without keys there were.
    Open {
        token: Option<String>,
        empty_pages: u32,
    },
    Asked {
        number: u64,
        empty_pages: u32,
    },
    Ready(Result<Vec<PagedKey>>),
}

impl Plan {
    /// Returns a plan of all behind a key.
    pub(super) fn new(behind: Option<String>, is_by_bytes: bool) -> Self {
        let state = State::Open { token: None, empty_pages: 0 };
        Self {
            pieces: [Piece { behind, state }].into(),
            is_by_bytes,
            order: Some(Order::unknown()),
            last: None,
            density: None,
            page_keys: 0,
            aim: 0,
            window: 1,
            has_end: false,
            asked: 0,
        }
    }

    /// Whether all was given.
    pub(super) fn is_over(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether [`Self::give`] gives something.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.pieces.front(), Some(Piece { state: State::Ready(_), .. }))
    }

    /// Gives the next keys, if they are there.
    pub(super) fn give(&mut self) -> Option<Result<Vec<PagedKey>>> {
        let front = self.pieces.pop_front()?;
        match front.state {
            State::Ready(keys) => Some(keys),
            state => {
                self.pieces.push_front(Piece { state, ..front });
                None
            }
        }
    }

    /// What is to be asked now, if anything.
    pub(super) fn ask(&mut self) -> Option<Request> {
        let is_open = |piece: &Piece| matches!(piece.state, State::Open { .. });
        let place = self.pieces.iter().position(is_open)?;
        let has_failed = |piece: &Piece| matches!(piece.state, State::Ready(Err(_)));
        if self.pieces.range(..place).any(has_failed) {
            return None;
        }
        let others = self.pieces.iter().filter(|piece| !is_open(piece)).count();
        let waits = |piece: &Piece| matches!(piece.state, State::Asked { .. });
        let asked = self.pieces.iter().filter(|piece| waits(piece)).count();
        let may_guess = self.is_by_bytes && !self.has_end;
        let is_in_turn = may_guess || !self.pieces.range(..place).any(waits);
        let has_room = if self.is_by_bytes {
            // Nothing is given before the first piece, so there is always room for it.
            place == 0 || (others < MOST_PAGES - 1 && asked < self.window)
        } else {
            others < MOST_IN_TURN
        };
        if !is_in_turn || !has_room {
            return None;
        }
        let end = self.pieces.get(place + 1).and_then(|next| next.behind.clone());
        let piece = self.pieces.get_mut(place)?;
        let number = self.asked;
        let State::Open { token, empty_pages } = &mut piece.state else { return None };
        let (token, empty_pages) = (token.take(), *empty_pages);
        let request = Request { number, behind: piece.behind.clone(), token };
        piece.state = State::Asked { number, empty_pages };
        self.asked += 1;
        if may_guess && asked + 1 < self.window.min(MOST_PAGES - 1) {
            self.divide(place, request.behind.as_deref(), end.as_deref());
        }
        Some(request)
    }

    /// Ends a piece where its page may end, so that what follows can be asked for at once.
    fn divide(&mut self, place: usize, behind: Option<&str>, end: Option<&str>) {
        let Some(behind) = behind else { return };
        let guess = self.density.as_ref().and_then(|density| density.guess(behind, self.aim));
        let is_inside =
            |guess: &String| guess.as_str() > behind && end.is_none_or(|end| guess.as_str() < end);
        if let Some(guess) = guess.filter(is_inside) {
            let state = State::Open { token: None, empty_pages: 0 };
            self.pieces.insert(place + 1, Piece { behind: Some(guess), state });
        }
    }

    /// Takes what the server has answered.
    pub(super) fn take(&mut self, number: u64, page: Result<Page>) {
        let is_it = |piece: &Piece| matches!(piece.state, State::Asked { number: asked, .. } if asked == number);
        let Some(place) = self.pieces.iter().position(is_it) else { return };
        let taken = page.and_then(|page| self.take_page(place, page));
        if let Err(error) = taken {
            self.has_end = true;
            self.pieces[place].state = State::Ready(Err(error));
        }
    }

    fn take_page(&mut self, place: usize, page: Page) -> Result<()> {
        let Page { mut keys, next } = page;
        self.look_at_order(place, &keys)?;
        let State::Asked { empty_pages, .. } = self.pieces[place].state else { return Ok(()) };
        let empty_pages = if keys.is_empty() { empty_pages + 1 } else { 0 };
        if next.is_some() && empty_pages >= MOST_EMPTY_PAGES {
            let why = "page after page is empty, and none is the last one";
            return Err(incomplete("list the bucket", why));
        }
        self.learn(&keys);
        // What was not asked for is part of this piece.
        while let Some(Piece { state: State::Open { .. }, .. }) = self.pieces.get(place + 1) {
            self.pieces.remove(place + 1);
        }
        let listed = keys.len();
        let mut is_whole = next.is_none();
        self.has_end |= is_whole;
        if let Some(end) = self.pieces.get(place + 1).and_then(|next| next.behind.as_deref()) {
            let inside = keys.partition_point(|key| key.key.as_str() <= end);
            is_whole |= inside < listed;
            keys.truncate(inside);
        }
        self.adapt(place, listed, keys.len(), is_whole);
        let behind = keys.last().map(|last| last.key.clone());
        let behind = behind.or_else(|| self.pieces[place].behind.clone());
        if !is_whole {
            let state = State::Open { token: next, empty_pages };
            self.pieces.insert(place + 1, Piece { behind, state });
        }
        if keys.is_empty() {
            self.pieces.remove(place);
        } else {
            self.pieces[place].state = State::Ready(Ok(keys));
        }
        Ok(())
    }

    /// Takes note of the order, as long as it is not known. Once it is, nothing else will do.
    fn look_at_order(&mut self, place: usize, keys: &[PagedKey]) -> Result<()> {
        if self.is_by_bytes {
            let mut last = self.pieces[place].behind.as_deref();
            for key in keys {
                if last.is_some_and(|last| last >= key.key.as_str()) {
                    return Err(unordered(last.unwrap_or_default(), &key.key));
                }
                last = Some(&key.key);
            }
            return Ok(());
        }
        for key in keys {
            if let (Some(order), Some(last)) = (&mut self.order, &self.last)
                && order.take(last, &key.key).is_err()
            {
                // Whoever gets the keys will see it, too.
                self.order = None;
            }
            self.last = Some(key.key.clone());
        }
        self.is_by_bytes = self.order.is_some_and(Order::is_by_bytes);
        Ok(())
    }

    fn learn(&mut self, keys: &[PagedKey]) {
        let density = Density::of(keys.iter().map(|key| key.key.as_str()));
        if density.is_some() {
            self.density = density;
        }
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        if count > self.page_keys {
            self.page_keys = count;
            self.aim = count - count / 8;
        }
    }

    /// Guesses that bring little are made fewer; those after which much is left, closer.
    fn adapt(&mut self, place: usize, listed: usize, kept: usize, is_whole: bool) {
        if kept * 4 < listed {
            self.window = (self.window / 2).max(1);
        } else {
            self.window = (self.window + 1).min(MOST_PAGES - 1);
        }
        let is_before_other = self.pieces.len() > place + 1;
        if !is_whole && is_before_other {
            self.aim = (self.aim - self.aim / 8).max(1);
        } else if kept < listed {
            self.aim = (self.aim + (self.aim / 128).max(1)).min(self.page_keys);
        }
    }
}

fn unordered(last: &str, next: &str) -> Error {
    incomplete("list the bucket", "a page has keys that were to come before it, or twice")
        .with_context("behind", last.escape_debug())
        .with_context("comes", next.escape_debug())
}

#[cfg(test)]
mod tests;
