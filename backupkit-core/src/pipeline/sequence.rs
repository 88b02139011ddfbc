//! One sequence of bytes on its way through chunking and storing, in order.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;

use super::budget::Permit;
use super::chunk::{Cuts, Cutter, divide};
use super::progress::Resume;
use super::read::{Reading, SharedProgress};
use super::store::{Answer, Chunk};
use crate::error::{Error, ErrorKind, Result};
use crate::model::BlobId;
use crate::repo::pack_header::BlobKind;
use crate::token::ReadToken;

/// A place where reading can go on later.
#[derive(Debug)]
pub(crate) enum Mark {
    /// Bytes can be read again from the last cut.
    AtCut,
    /// The source continues behind this token.
    Token(ReadToken),
}

/// The bytes of one part of an entry.
#[derive(Debug)]
pub(crate) struct Sequence<'a> {
    reading: &'a Reading,
    progress: &'a SharedProgress,
    part: usize,
    cutters: Vec<Cutter>,
    storing: FuturesOrdered<Storing>,
    started: u64,
    finished: u64,
    /// Ids that are stored but lie behind the last mark that took effect.
    staged: VecDeque<(usize, BlobId)>,
    marks: VecDeque<Pending>,
    position: u64,
}

/// A chunk on its way. It gets there even if the sequence does not: the same chunk may be elsewhere,
/// and was not stored again there.
#[derive(Debug)]
struct Storing {
    group: usize,
    answer: Answer<Vec<BlobId>>,
}

/// A mark that takes effect once all chunks before it are stored.
#[derive(Debug)]
struct Pending {
    after: u64,
    cuts: Vec<u64>,
    resume: Resume,
    stored_bytes: u64,
}

impl<'a> Sequence<'a> {
    /// Goes on from what the progress of the part says. Bytes are expected from the smallest cut of
    /// its groups on.
    pub(crate) fn resume(reading: &'a Reading, progress: &'a SharedProgress, part: usize) -> Self {
        let (cuts, position) = progress.with(|progress| {
            let part = &progress.parts[part];
            let cuts: Vec<u64> = part.groups.iter().map(|group| group.cut_at).collect();
            (cuts, part.cut_at())
        });
        let groups = reading.groups.iter().zip(cuts);
        Self {
            reading,
            progress,
            part,
            cutters: groups.map(|(group, cut)| Cutter::new(&group.tables, cut)).collect(),
            storing: FuturesOrdered::new(),
            started: 0,
            finished: 0,
            staged: VecDeque::new(),
            marks: VecDeque::new(),
            position,
        }
    }

    /// Takes the bytes that follow. Their permit goes along with the chunks that they complete.
    pub(crate) async fn feed(&mut self, bytes: Bytes, permit: Permit) -> Result<()> {
        self.reading.control.cancel_token().check()?;
        let position = self.position;
        self.position += bytes.len() as u64;
        let mut cutters = std::mem::take(&mut self.cutters);
        let (cutters, cuts) = self
            .reading
            .store
            .pool()
            .run(move |_| {
                let cuts: Vec<Cuts> =
                    cutters.iter_mut().map(|cutter| cutter.feed(position, &bytes)).collect();
                Ok((cutters, cuts))
            })
            .await?;
        self.cutters = cutters;
        self.store_all(cuts, permit).await
    }

    /// Notes that reading can go on from here.
    pub(crate) fn mark(&mut self, mark: Mark) {
        let cuts: Vec<u64> = self.cutters.iter().map(Cutter::cut_at).collect();
        let smallest = cuts.iter().copied().min().unwrap_or_default();
        let (resume, stored_bytes) = match mark {
            Mark::AtCut => (Resume::AtCut, smallest),
            Mark::Token(token) => {
                let longest = self.cutters.iter().min_by_key(|cutter| cutter.cut_at());
                let tail = longest.map(|cutter| cutter.open().clone().into_bytes());
                let tail = tail.unwrap_or_default();
                (Resume::BehindToken { token, tail }, self.position)
            }
        };
        // Of marks that wait for the same chunks, the last counts.
        self.marks.pop_back_if(|earlier| earlier.after == self.started);
        self.marks.push_back(Pending { after: self.started, cuts, resume, stored_bytes });
        self.apply_marks();
    }

    /// Waits until all finished chunks are stored.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        while let Some(stored) = self.storing.next().await {
            self.note(stored?);
        }
        Ok(())
    }

    /// Ends the sequence: what is left is the last chunk.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let cutters = std::mem::take(&mut self.cutters);
        let cuts = cutters
            .into_iter()
            .map(|cutter| Cuts { chunks: cutter.finish().into_iter().collect() })
            .collect();
        // The last chunk lies in the room that its reader reserved.
        self.store_all(cuts, Permit::none()).await?;
        self.settle().await?;
        let position = self.position;
        self.progress.with(|progress| {
            let part = &mut progress.parts[self.part];
            for (group, id) in self.staged.drain(..) {
                part.groups[group].content.push(id);
            }
            part.done = true;
            part.resume = Resume::AtCut;
            part.stored_bytes = position;
            for group in &mut part.groups {
                group.cut_at = position;
            }
        });
        Ok(())
    }

    async fn store_all(&mut self, cuts: Vec<Cuts>, permit: Permit) -> Result<()> {
        // With one group each chunk returns its share as soon as it is sealed. With several, the
        // memory is free only once the last of them is done.
        let shared = if cuts.len() == 1 { Err(permit) } else { Ok(Arc::new(permit)) };
        let (shared, mut single) = match shared {
            Ok(shared) => (Some(shared), Vec::new()),
            Err(permit) => (None, divide(permit, &cuts[0].chunks)),
        };
        single.reverse();
        for (group, cuts) in cuts.into_iter().enumerate() {
            for chunk in cuts.chunks {
                let held = (single.pop(), shared.clone());
                self.store_one(group, chunk, held).await?;
            }
        }
        Ok(())
    }

    async fn store_one(
        &mut self,
        group: usize,
        chunk: Chunk,
        held: (Option<Permit>, Option<Arc<Permit>>),
    ) -> Result<()> {
        // One more than there are threads, so that none waits for the order. Each holds its range.
        while self.storing.len() > self.reading.store.pool().threads() {
            match self.storing.next().await {
                Some(stored) => self.note(stored?),
                None => break,
            }
        }
        let lanes = Arc::clone(&self.reading.groups[group].lanes);
        self.started += 1;
        let store = &self.reading.store;
        let answer = store.start_put(BlobKind::Data, vec![chunk], lanes, held);
        self.storing.push_back(Storing { group, answer });
        Ok(())
    }

    fn note(&mut self, stored: (usize, BlobId)) {
        self.finished += 1;
        self.staged.push_back(stored);
        self.apply_marks();
    }

    fn apply_marks(&mut self) {
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.after <= self.finished) {
            let behind = usize::try_from(self.finished - mark.after).unwrap_or_default();
            let count = self.staged.len().saturating_sub(behind);
            self.progress.with(|progress| {
                let part = &mut progress.parts[self.part];
                for (group, id) in self.staged.drain(..count) {
                    part.groups[group].content.push(id);
                }
                for (group, cut) in part.groups.iter_mut().zip(mark.cuts) {
                    group.cut_at = cut;
                }
                part.resume = mark.resume;
                part.stored_bytes = mark.stored_bytes;
            });
        }
    }
}

impl Future for Storing {
    type Output = Result<(usize, BlobId)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let group = self.group;
        Pin::new(&mut self.answer).poll(cx).map(|answer| {
            let id = answer?.into_iter().next();
            let id = id.ok_or_else(|| {
                Error::new(ErrorKind::Internal, "a chunk was stored without an id")
            })?;
            Ok((group, id))
        })
    }
}
