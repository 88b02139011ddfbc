//! Windows: as many steps as fit into the memory of a restore, and their bytes.

use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::Tools;
use super::checkpoint::Row;
use super::fingerprint::Fingerprint;
use super::outcome::{Outcome, Outcomes};
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryKind;
use crate::repo::fetch::{BlobFetcher, is_of_stored_bytes};
use crate::repo::pack_header::BlobKind;
use crate::repo::reader::RepositoryReader;
use crate::target::{Phase, RestoreSession, Step, StepAction};
use crate::token::WriteToken;

/// Bytes of files in a window. One is written while a few are read, see [`super::ahead`].
const WINDOW_BYTES: u64 = 8 << 20;
const WINDOW_STEPS: usize = 1024;
/// A plan that tells so many errors one after the other is taken for broken.
const MAX_ERRORS_IN_A_ROW: usize = 1000;

/// Steps whose bytes are read together.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) items: Vec<Item>,
}

/// A step, or a part of a large one.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// The place of the step in the plan.
    pub(super) number: usize,
    pub(super) step: Arc<Step>,
    /// Which blobs of the content.
    pub(super) blobs: Range<usize>,
    /// Where the first of them begins.
    pub(super) offset: u64,
    /// How many bytes of the first of them an earlier run wrote.
    pub(super) skip: u64,
    /// The token that this goes on from.
    pub(super) from: Option<(u64, WriteToken)>,
    /// Whether the step begins here.
    pub(super) is_first: bool,
    /// Whether the step ends here.
    pub(super) is_last: bool,
}

/// What comes next in a restore.
#[derive(Debug)]
pub(super) enum Next {
    Window(Window),
    /// All steps of this phase were given.
    PhaseEnd(Phase),
    /// The run is asked to rest.
    Pause,
}

/// Takes steps from the plan and gathers them into windows. Those that an earlier run did are passed
/// over.
pub(super) struct Gatherer {
    session: Arc<dyn RestoreSession>,
    plan: BoxStream<'static, Result<Step>>,
    earlier: Arc<Row>,
    fingerprint: Fingerprint,
    fetcher: BlobFetcher,
    tools: Tools,
    outcomes: Arc<Outcomes>,
    preview: Option<mpsc::Sender<Step>>,
    phase: Option<Phase>,
    /// A step that was taken from the plan and belongs into the next window.
    taken: Option<Item>,
    /// The first phase with directories. Their steps in later ones are further steps.
    directories_in: Option<Phase>,
    errors_in_a_row: usize,
}

impl Gatherer {
    pub(super) fn new(
        session: &Arc<dyn RestoreSession>,
        reader: &RepositoryReader,
        tools: &Tools,
        outcomes: &Arc<Outcomes>,
        earlier: &Arc<Row>,
        preview: Option<mpsc::Sender<Step>>,
    ) -> Self {
        Self {
            // Asked again after its end, a plan need not answer.
            plan: session.plan().fuse().boxed(),
            session: Arc::clone(session),
            earlier: Arc::clone(earlier),
            fingerprint: Fingerprint::default(),
            fetcher: reader.fetcher().clone(),
            tools: tools.clone(),
            outcomes: Arc::clone(outcomes),
            preview,
            phase: None,
            taken: None,
            directories_in: None,
            errors_in_a_row: 0,
        }
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Tells the plan, as far as it was taken, from others.
    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// As [`Self::next`], unless the run is asked to rest first; there is no more then.
    pub(super) async fn next_or_pause(&mut self) -> Result<Option<Next>> {
        let (cancel, control) = (self.tools.cancel.clone(), self.tools.control.clone());
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            () = control.pausing() => Ok(Some(Next::Pause)),
            next = self.next() => next,
        }
    }

    /// The next window, or the end of a phase; nothing after the last phase.
    pub(super) async fn next(&mut self) -> Result<Option<Next>> {
        let mut window = Window { items: Vec::new() };
        let mut room = WINDOW_BYTES;
        while room > 0 && window.items.len() < WINDOW_STEPS {
            let Some(item) = self.next_item().await? else {
                break;
            };
            let phase = item.step.phase;
            if let Some(before) = self.phase.filter(|before| *before != phase) {
                if !window.items.is_empty() {
                    self.taken = Some(item);
                    return Ok(Some(Next::Window(window)));
                }
                if before > phase {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        "the target planned a phase after a later one",
                    ));
                }
                self.taken = Some(item);
                self.phase = Some(phase);
                return Ok(Some(Next::PhaseEnd(before)));
            }
            self.phase = Some(phase);
            if item.is_settled() {
                self.settle(&item);
                continue;
            }
            let (now, later) = self.split(item, &mut room);
            // Large ones are begun behind all others of a window: what comes after must not overtake it.
            let is_begun_last = now.is_first && now.is_large();
            window.items.push(now);
            if is_begun_last || later.is_some() {
                self.taken = later;
                break;
            }
        }
        if !window.items.is_empty() {
            return Ok(Some(Next::Window(window)));
        }
        Ok(self.phase.take().map(Next::PhaseEnd))
    }

    /// Skipped and refused steps are done once they are told.
    fn settle(&self, item: &Item) {
        if let StepAction::Refuse(reason) = &item.step.action {
            self.tools.not_restored(&item.step, reason.clone(), "unsupported");
        }
        self.outcomes.set(item.number, Outcome::of(&item.step.action), 0);
        self.tools.counters.add_finished(1);
        self.tools.counters.add_finished_bytes(item.step.bytes);
    }

    async fn next_item(&mut self) -> Result<Option<Item>> {
        // The rest of a file whose writing failed is of no use.
        if let Some(item) = self.taken.take()
            && (item.is_first || !self.outcomes.is_settled(item.number))
        {
            return Ok(Some(item));
        }
        loop {
            let step = match self.plan.next().await {
                Some(Ok(step)) => step,
                Some(Err(error)) if is_of_stored_bytes(&error) => {
                    self.plan_failed(error)?;
                    continue;
                }
                Some(Err(error)) => return Err(error),
                None => {
                    self.earlier.check_end(&self.fingerprint)?;
                    self.tools.counters.set_listing_done();
                    return Ok(None);
                }
            };
            self.errors_in_a_row = 0;
            self.tools.counters.add_listed(1);
            self.tools.counters.add_listed_bytes(step.bytes);
            let is_counted = step.entry.kind != EntryKind::Directory
                || *self.directories_in.get_or_insert(step.phase) == step.phase;
            if let Some(preview) = &self.preview {
                // Nobody may be looking any more.
                drop(preview.send(step.clone()).await);
            }
            let number = self.outcomes.add(step.phase, is_counted);
            self.fingerprint.add(&step);
            self.earlier.check(&self.fingerprint)?;
            let item = Item::whole(number, step);
            if !item.is_settled() && self.earlier.done.contains(number) {
                self.outcomes.set(number, Outcome::of(&item.step.action), item.step.bytes);
                self.tools.counters.add_finished(1);
                self.tools.counters.add_finished_bytes(item.step.bytes);
                continue;
            }
            match self.check_content(&item) {
                Ok(()) => return Ok(Some(self.continued(item).await)),
                Err(error) => {
                    self.tools.entry_failed(&item.step, &error);
                    self.outcomes.set(number, Outcome::Failed, 0);
                    self.tools.counters.add_finished(1);
                    self.tools.counters.add_finished_bytes(item.step.bytes);
                }
            }
        }
    }

    /// Leaves out of a step what an earlier run wrote, if the target still has it.
    async fn continued(&mut self, mut item: Item) -> Item {
        let Some((bytes, token)) = self.earlier.token(item.number) else {
            return item;
        };
        let can_resume = self.session.can_resume(&item.step, token).await;
        if !item.needs_bytes() || bytes > item.step.bytes || !can_resume.unwrap_or(false) {
            return item;
        }
        // The blobs before the token are whole ones, but for the last.
        let mut offset = 0;
        let mut first = item.blobs.start;
        for id in item.blob_ids() {
            let location = self.fetcher.index().get(BlobKind::Data, &id);
            let end = offset + location.map_or(0, |location| u64::from(location.content_bytes()));
            if end > bytes {
                break;
            }
            (offset, first) = (end, first + 1);
        }
        item.blobs.start = first;
        (item.offset, item.skip) = (offset, bytes - offset);
        item.from = Some((bytes, token.clone()));
        item
    }

    /// What the target could not plan. The rest of the plan may still come.
    fn plan_failed(&mut self, error: Error) -> Result<()> {
        self.errors_in_a_row += 1;
        if self.errors_in_a_row > MAX_ERRORS_IN_A_ROW {
            return Err(error);
        }
        self.tools.events.note(crate::model::Level::Error, error.report());
        self.outcomes.add_failure();
        Ok(())
    }

    /// Proves that the blobs of a step are known and have as many bytes as its entry.
    fn check_content(&self, item: &Item) -> Result<()> {
        let entry = &item.step.entry;
        // A file that says it is empty needs no bytes, so its blobs are looked at all the same.
        if item.is_settled() || !(item.needs_bytes() || entry.size_bytes == 0) {
            return Ok(());
        }
        let mut bytes = 0_u64;
        for id in entry.content.0.iter() {
            let location = self.fetcher.locate(BlobKind::Data, id)?;
            bytes = bytes.saturating_add(u64::from(location.content_bytes()));
        }
        let expected = entry.size_bytes;
        if bytes == expected {
            return Ok(());
        }
        let detail = format!("its size is {expected}, but its blobs have {bytes} bytes");
        Err(Error::corrupt("the file", detail))
    }

    /// Splits off what has room. At least one blob always has.
    fn split(&self, item: Item, room: &mut u64) -> (Item, Option<Item>) {
        let mut bytes = 0_u64;
        let mut count = 0;
        for id in item.blob_ids() {
            if bytes >= *room {
                break;
            }
            let location = self.fetcher.index().get(BlobKind::Data, &id);
            bytes += location.map_or(0, |location| u64::from(location.content_bytes()));
            count += 1;
        }
        *room = room.saturating_sub(bytes);
        let cut = item.blobs.start + count;
        if cut == item.blobs.end {
            return (item, None);
        }
        let later = Item {
            blobs: cut..item.blobs.end,
            offset: item.offset + bytes,
            skip: 0,
            is_first: false,
            ..item.clone()
        };
        (Item { blobs: item.blobs.start..cut, is_last: false, ..item }, Some(later))
    }
}

impl Item {
    fn whole(number: usize, step: Step) -> Self {
        let mut item = Self {
            number,
            step: Arc::new(step),
            blobs: 0..0,
            offset: 0,
            skip: 0,
            from: None,
            is_first: true,
            is_last: true,
        };
        if item.needs_bytes() {
            item.blobs = 0..item.step.entry.content.0.len();
        }
        item
    }

    fn needs_bytes(&self) -> bool {
        self.step.bytes > 0 && !self.is_settled()
    }

    fn is_settled(&self) -> bool {
        matches!(self.step.action, StepAction::Skip | StepAction::Refuse(_))
    }

    /// Whether this is a part of a step, or the rest of one that was begun before.
    pub(super) fn is_large(&self) -> bool {
        !(self.is_first && self.is_last) || self.from.is_some()
    }

    /// The blobs of this part, in order.
    pub(super) fn blob_ids(&self) -> impl Iterator<Item = crate::model::BlobId> + '_ {
        let blobs = self.step.entry.content.0.get(self.blobs.clone()).unwrap_or_default();
        blobs.iter().copied()
    }
}
