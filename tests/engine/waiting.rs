//! Any source, made to wait at one of its bodies: a place to pause at that no scheduling can miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use backupkit::model::{Entry, Origin};
use backupkit::source::{
    Body, ListError, Listed, OpenContext, Outcome, Segment, Source, SourceCapabilities,
    SourceNotes, SourceView,
};
use backupkit::testing::PausePoint;
use backupkit::{ListToken, Probe, Result, ViewToken};
use futures::stream::BoxStream;

/// Waits before it opens its `n`-th body, counted from 1. Clones are the same source.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    source: Arc<dyn Source>,
    place: Place,
}

#[derive(Debug, Clone)]
struct Place {
    at: u64,
    opened: Arc<AtomicU64>,
    point: PausePoint,
}

impl Waiting {
    pub(crate) fn at_body(source: &(impl Source + Clone), n: u64, point: &PausePoint) -> Self {
        let place = Place { at: n, opened: Arc::default(), point: point.clone() };
        Self { source: Arc::new(source.clone()), place }
    }
}

#[async_trait]
impl Source for Waiting {
    fn capabilities(&self) -> SourceCapabilities {
        self.source.capabilities()
    }

    fn origin(&self) -> Origin {
        self.source.origin()
    }

    async fn check(&self) -> Result<Probe> {
        self.source.check().await
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        let view = self.source.open(cx).await?;
        Ok(Arc::new(WaitingView { view, place: self.place.clone() }))
    }
}

#[derive(Debug)]
struct WaitingView {
    view: Arc<dyn SourceView>,
    place: Place,
}

#[async_trait]
impl SourceView for WaitingView {
    fn token(&self) -> ViewToken {
        self.view.token()
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        self.view.list(after)
    }

    async fn segments(&self, entry: &Entry) -> Result<Vec<Segment>> {
        self.view.segments(entry).await
    }

    async fn body(&self, entry: &Entry, segment: Option<&Segment>) -> Result<Body> {
        if self.place.opened.fetch_add(1, Ordering::SeqCst) + 1 == self.place.at {
            self.place.point.pass().await;
        }
        self.view.body(entry, segment).await
    }

    fn late(&self) -> BoxStream<'static, Result<Listed, ListError>> {
        self.view.late()
    }

    async fn close(&self, outcome: Outcome) -> Result<SourceNotes> {
        self.view.close(outcome).await
    }
}
