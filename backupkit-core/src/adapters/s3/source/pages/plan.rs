//! Which pages of a listing are asked for, and in which order they are given.
//!
//! What was not given yet is divided into pieces, each from behind a key up to the key behind which the
//! next one begins, the last one without an end. Each piece is asked for by itself. A piece with more keys
//! than a page leaves the rest of it to be asked for.
//!
//! Only a server that is known to list by bytes is asked so; or one whose pages have shown it, as `a-b` comes
//! before `a/x` in no other order. That it begins where it was told to is not taken for granted all the same:
//! a page goes on into the next piece, and only if that one begins with the same key, the two make one listing.
//! Else that one and all behind it are forgotten, and the listing goes on where the page goes on.

use std::collections::VecDeque;

use super::super::super::bucket::{Page, PagedKey, incomplete};
use super::super::order::Order;
use crate::error::Result;

/// Pages that are asked for or lie ready at most; two more are on the way to whoever lists. Each may take
/// some hundred KiB.
pub(super) const MOST_PAGES: usize = 14;
/// A server may pass by what was deleted, page after page, but not for ever.
pub(super) const MOST_EMPTY_PAGES: u32 = 10_000;
/// How many pages are asked for at the same time in the beginning.
const FIRST_WINDOW: usize = 4;
/// Keys come and go while they are listed, so now and then a piece begins with another key than the page
/// before shows. If that happens more often, all is listed page by page.
const MOST_GAPS: u32 = 8;
/// Keys behind which pieces may begin that are known ahead.
const MOST_STARTS: usize = 2 * MOST_PAGES;

/// What is to be listed, and what lies ready.
#[derive(Debug)]
pub(super) struct Plan {
    pieces: VecDeque<Piece>,
    /// Where pieces may begin, in order.
    starts: VecDeque<String>,
    /// Whether the server is known to list by bytes.
    is_by_bytes: bool,
    /// What keys in turn tell of that; nothing if they are in no order.
    order: Option<Order>,
    last: Option<String>,
    /// How many keys a page has that is not the last one.
    page_keys: Option<usize>,
    /// How many pages are asked for at the same time.
    window: usize,
    /// Whether a page was the last one, or failed: no more pieces.
    has_end: bool,
    gaps: u32,
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
    link: Link,
    begins: Begins,
    state: State,
}

/// Whether a piece is known to follow the one before.
#[derive(Debug)]
enum Link {
    /// It goes on where the page before ends, or is the first one.
    Joined,
    /// The page before was not answered yet.
    Unknown,
    /// The page before goes on with these keys, and behind them at this token.
    Shown { keys: Vec<PagedKey>, next: Option<String> },
}

/// What the first page of a piece has.
#[derive(Debug)]
enum Begins {
    Unknown,
    With(String),
    /// There is nothing any more.
    Nowhere,
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
        Self {
            pieces: [Piece::new(behind, Link::Joined, State::unasked(None))].into(),
            starts: VecDeque::new(),
            is_by_bytes,
            order: Some(Order::unknown()),
            last: None,
            page_keys: None,
            window: FIRST_WINDOW,
            has_end: false,
            gaps: 0,
            asked: 0,
        }
    }

    /// Whether all was given.
    pub(super) fn is_over(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many keys a page has; nothing as long as that is not known, or if there is no second page.
    pub(super) fn page_keys(&self) -> Option<usize> {
        self.page_keys
    }

    /// Whether [`Self::add_start`] is of use.
    pub(super) fn wants_start(&self) -> bool {
        self.is_by_bytes && !self.has_end && self.starts.len() < MOST_STARTS
    }

    /// Says behind which key a piece may begin. Each comes behind the one before.
    pub(super) fn add_start(&mut self, start: String) {
        if self.starts.back().is_none_or(|last| *last < start) {
            self.starts.push_back(start);
        }
    }

    /// Whether [`Self::give`] gives something.
    pub(super) fn is_ready(&self) -> bool {
        self.pieces.front().is_some_and(|front| match &front.state {
            State::Ready(keys) => keys.is_err() || matches!(front.link, Link::Joined),
            _ => false,
        })
    }

    /// Gives the next keys, if they are there.
    pub(super) fn give(&mut self) -> Option<Result<Vec<PagedKey>>> {
        if !self.is_ready() {
            return None;
        }
        match self.pieces.pop_front()?.state {
            State::Ready(keys) => Some(keys),
            _ => None,
        }
    }

    /// What is to be asked now, if anything.
    pub(super) fn ask(&mut self) -> Option<Request> {
        let is_open = |piece: &Piece| matches!(piece.state, State::Open { .. });
        let waits = |piece: &&Piece| matches!(piece.state, State::Asked { .. });
        let others = self.pieces.iter().filter(|piece| !is_open(piece)).count();
        let asked = self.pieces.iter().filter(waits).count();
        let has_room = others < MOST_PAGES - 1 && asked < self.window;
        let place = match self.pieces.iter().position(is_open) {
            // Nothing is given before the first piece, so there is always room for it.
            Some(place) => (place == 0 || has_room).then_some(place)?,
            None => has_room.then(|| self.divide())??,
        };
        let has_failed = |piece: &Piece| matches!(piece.state, State::Ready(Err(_)));
        if self.pieces.range(..place).any(has_failed) {
            return None;
        }
        let piece = self.pieces.get_mut(place)?;
        let State::Open { token, empty_pages } = &mut piece.state else { return None };
        let (token, empty_pages) = (token.take(), *empty_pages);
        let request = Request { number: self.asked, behind: piece.behind.clone(), token };
        piece.state = State::Asked { number: self.asked, empty_pages };
        self.asked += 1;
        Some(request)
    }

    /// Ends the last piece, which somebody waits for, where the next one may begin.
    fn divide(&mut self) -> Option<usize> {
        let Piece { behind, state: State::Asked { .. }, .. } = self.pieces.back()? else {
            return None;
        };
        let behind = behind.clone();
        let is_passed =
            |start: &mut String| behind.as_ref().is_some_and(|behind| *start <= *behind);
        while self.starts.pop_front_if(is_passed).is_some() {}
        if self.has_end || !self.is_by_bytes {
            return None;
        }
        let start = self.starts.pop_front()?;
        self.pieces.push_back(Piece::new(Some(start), Link::Unknown, State::unasked(None)));
        Some(self.pieces.len() - 1)
    }

    /// Takes what the server has answered. What nobody waits for any more is left.
    pub(super) fn take(&mut self, number: u64, page: Result<Page>) {
        let is_it = |piece: &Piece| matches!(piece.state, State::Asked { number: asked, .. } if asked == number);
        let Some(place) = self.pieces.iter().position(is_it) else { return };
        let Err(error) = page.and_then(|page| self.take_page(place, page)) else { return };
        self.has_end = true;
        match &self.pieces[place].link {
            Link::Joined => self.pieces[place].state = State::Ready(Err(error)),
            // Only a hint led there.
            Link::Unknown => self.pieces.truncate(place),
            Link::Shown { .. } => self.list_on(place),
        }
    }

    fn take_page(&mut self, place: usize, page: Page) -> Result<()> {
        let Page { mut keys, next } = page;
        let piece = &mut self.pieces[place];
        let State::Asked { empty_pages, .. } = piece.state else { return Ok(()) };
        match keys.first() {
            Some(first) => piece.begins = Begins::With(first.key.clone()),
            None if next.is_none() => piece.begins = Begins::Nowhere,
            None if empty_pages + 1 >= MOST_EMPTY_PAGES => {
                let why = "page after page is empty, and none is the last one";
                return Err(incomplete("list the bucket", why));
            }
            None => {
                piece.state = State::Open { token: next, empty_pages: empty_pages + 1 };
                return Ok(());
            }
        }
        if !self.is_by_bytes {
            self.look_at_order(&keys);
        }
        let listed = keys.len();
        if next.is_some() {
            self.page_keys.get_or_insert(listed);
        }
        self.has_end |= next.is_none();
        if !keys.is_sorted_by(|one, next| one.key < next.key) {
            // Where a piece ends cannot be told from bytes.
            self.has_end = true;
            self.pieces.truncate(place + 1);
        }
        // What was not asked for is part of this piece.
        while let Some(Piece { state: State::Open { .. }, .. }) = self.pieces.get(place + 1) {
            self.pieces.remove(place + 1);
        }
        let Some(following) = self.pieces.get_mut(place + 1) else {
            self.finish(place, keys, next);
            return Ok(());
        };
        let end = following.behind.as_deref().unwrap_or_default();
        let inside = keys.partition_point(|key| key.key.as_str() <= end);
        if inside == listed && next.is_some() {
            self.finish(place, keys, next);
            return Ok(());
        }
        following.link = Link::Shown { keys: keys.split_off(inside), next };
        self.adapt(inside, listed);
        self.finish(place, keys, None);
        self.join(place + 1);
        Ok(())
    }

    /// A piece, or its beginning, lies ready.
    fn finish(&mut self, place: usize, keys: Vec<PagedKey>, next: Option<String>) {
        if let Some(next) = next {
            let behind = keys.last().map(|last| last.key.clone());
            let behind = behind.or_else(|| self.pieces[place].behind.clone());
            let rest = Piece::new(behind, Link::Joined, State::unasked(Some(next)));
            self.pieces.insert(place + 1, rest);
        }
        self.pieces[place].state = State::Ready(Ok(keys));
        self.join(place);
    }

    /// Joins a piece to the one before as soon as both are known, or lists on from that one.
    fn join(&mut self, place: usize) {
        let Some(piece) = self.pieces.get_mut(place) else { return };
        let Link::Shown { keys, .. } = &piece.link else { return };
        let is_behind = |key: &String| piece.behind.as_ref().is_none_or(|behind| behind < key);
        let follows = match (&piece.begins, keys.first()) {
            (Begins::Unknown, _) => return,
            (Begins::With(first), Some(shown)) if *first == shown.key => true,
            // It came meanwhile.
            (Begins::With(first), shown) => {
                let is_before = shown.is_none_or(|shown| *first < shown.key);
                is_before && is_behind(first)
            }
            (Begins::Nowhere, shown) => shown.is_none(),
        };
        if follows {
            piece.link = Link::Joined;
            return;
        }
        self.list_on(place);
    }

    /// Forgets a piece and all behind it, and goes on where the page before goes on.
    fn list_on(&mut self, place: usize) {
        let Some(piece) = self.pieces.get_mut(place) else { return };
        let (behind, link) = (piece.behind.take(), &mut piece.link);
        let Link::Shown { keys, next } = std::mem::replace(link, Link::Joined) else { return };
        self.pieces.truncate(place);
        self.pieces.push_back(Piece::new(behind, Link::Joined, State::Ready(Ok(Vec::new()))));
        self.window = (self.window / 2).max(1);
        self.gaps += 1;
        self.has_end |= self.gaps > MOST_GAPS || next.is_none();
        self.finish(place, keys, next);
    }

    /// Takes note of the order, as long as pages come in turn.
    fn look_at_order(&mut self, keys: &[PagedKey]) {
        for PagedKey { key, .. } in keys {
            if let (Some(order), Some(last)) = (&mut self.order, &self.last)
                && order.take(last, key).is_err()
            {
                // Whoever gets the keys will see it, too.
                self.order = None;
            }
            self.last = Some(key.clone());
        }
        self.is_by_bytes = self.order.is_some_and(Order::is_by_bytes);
    }

    /// Pieces that bring little are made fewer.
    fn adapt(&mut self, kept: usize, listed: usize) {
        if kept * 4 < listed {
            self.window = (self.window / 2).max(1);
        } else {
            self.window = (self.window + 1).min(MOST_PAGES - 1);
        }
    }
}

impl Piece {
    fn new(behind: Option<String>, link: Link, state: State) -> Self {
        Self { behind, link, begins: Begins::Unknown, state }
    }
}

impl State {
    fn unasked(token: Option<String>) -> Self {
        Self::Open { token, empty_pages: 0 }
    }
}

#[cfg(test)]
mod tests;
