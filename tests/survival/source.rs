//! A folder whose reads are logged, and one file of which can only be read in order.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backupkit::adapters::fs::{FsDestination, FsSource, FsTarget};
use backupkit::destination::Destination;
use backupkit::model::{Entry, EntryPath, Origin};
use backupkit::registry::{ConnectionSecrets, SourceContext, SystemKind, TargetContext};
use backupkit::source::{
    Body, BodyContent, BodyEnd, ListError, Listed, OpenContext, Outcome, Piece, RangedBody,
    Segment, Source, SourceCapabilities, SourceNotes, SourceView, StreamBody,
};
use backupkit::target::RestoreTarget;
use backupkit::{
    Env, Error, ErrorKind, FieldErrors, ListToken, Probe, ReadToken, Result, ViewToken,
};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use serde_json::value::RawValue;

use crate::places::WatchedDestination;
use crate::witness::Witness;

/// The name of a file that is given in order only.
pub(crate) const STREAM: &[u8] = b"stream";
const PIECE_BYTES: u64 = 256 << 10;

/// Folders, watched: settings are the path as a JSON string.
#[derive(Debug)]
pub(crate) struct WatchedKind(pub(crate) Witness);

impl WatchedKind {
    pub(crate) const NAME: &'static str = "watched";
}

fn parse(settings: &RawValue) -> Result<std::path::PathBuf> {
    serde_json::from_str(settings.get())
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "no path").with_source(error))
}

impl SystemKind for WatchedKind {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn check_settings(&self, settings: &RawValue) -> FieldErrors {
        let mut errors = FieldErrors::default();
        if let Err(error) = parse(settings) {
            errors.add("path", error.report());
        }
        errors
    }

    fn location(&self, settings: &RawValue) -> Result<String> {
        Ok(parse(settings)?.display().to_string())
    }

    fn source(&self, settings: &RawValue, context: &SourceContext<'_>) -> Result<Arc<dyn Source>> {
        let folder = FsSource::new(vec![parse(settings)?], context.env.clone(), context.host)?;
        Ok(Arc::new(WatchedSource { folder, witness: self.0.clone() }))
    }

    fn destination(
        &self,
        settings: &RawValue,
        _secrets: &ConnectionSecrets,
        path: &str,
        env: &Env,
    ) -> Result<Arc<dyn Destination>> {
        let place = Arc::new(FsDestination::new(parse(settings)?.join(path), env.clone()));
        Ok(Arc::new(WatchedDestination { place, witness: self.0.clone() }))
    }

    fn target(
        &self,
        settings: &RawValue,
        context: &TargetContext<'_>,
    ) -> Result<Arc<dyn RestoreTarget>> {
        Ok(Arc::new(FsTarget::new(parse(settings)?, context.env.clone())))
    }
}

#[derive(Debug)]
struct WatchedSource {
    folder: FsSource,
    witness: Witness,
}

#[async_trait]
impl Source for WatchedSource {
    fn capabilities(&self) -> SourceCapabilities {
        self.folder.capabilities()
    }

    fn origin(&self) -> Origin {
        self.folder.origin()
    }

    async fn check(&self) -> Result<Probe> {
        self.folder.check().await
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        let view = self.folder.open(cx).await?;
        Ok(Arc::new(WatchedView { view, witness: self.witness.clone() }))
    }
}

#[derive(Debug)]
struct WatchedView {
    view: Arc<dyn SourceView>,
    witness: Witness,
}

impl WatchedView {
    fn watched(&self, path: &EntryPath, mut body: Body) -> Body {
        let BodyContent::Ranged(ranged) = body.content else { return body };
        self.witness.opened();
        let watched =
            WatchedBody { body: ranged, entry: number(path), witness: self.witness.clone() };
        let is_stream = path.names().last() == Some(STREAM);
        body.content = if is_stream {
            BodyContent::Stream(Arc::new(InOrder(Arc::new(watched))))
        } else {
            BodyContent::Ranged(Arc::new(watched))
        };
        body
    }
}

/// Tells entries from each other.
fn number(path: &EntryPath) -> u64 {
    let id = backupkit::model::BlobId::of(path.to_string().as_bytes());
    u64::from_le_bytes(id.as_bytes()[..8].try_into().unwrap())
}

#[async_trait]
impl SourceView for WatchedView {
    fn token(&self) -> ViewToken {
        self.view.token()
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let witness = self.witness.clone();
        let end = stream::poll_fn(move |_| {
            witness.listed();
            std::task::Poll::Ready(None)
        });
        self.view.list(after).chain(end).boxed()
    }

    async fn body(&self, entry: &Entry, segment: Option<&Segment>) -> Result<Body> {
        let body = self.view.body(entry, segment).await?;
        Ok(self.watched(&entry.path, body))
    }

    async fn bodies(&self, entries: &[Entry]) -> Option<Vec<Result<Body>>> {
        let bodies = self.view.bodies(entries).await?;
        let watched = bodies.into_iter().zip(entries);
        Some(watched.map(|(body, entry)| Ok(self.watched(&entry.path, body?))).collect())
    }

    fn untold_warnings(&self) -> u64 {
        self.view.untold_warnings()
    }

    async fn close(&self, outcome: Outcome) -> Result<SourceNotes> {
        self.view.close(outcome).await
    }
}

#[derive(Debug)]
struct WatchedBody {
    body: Arc<dyn RangedBody>,
    entry: u64,
    witness: Witness,
}

#[async_trait]
impl RangedBody for WatchedBody {
    fn len_bytes(&self) -> u64 {
        self.body.len_bytes()
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        self.witness.let_read().await;
        let bytes = self.body.read_at(range.clone()).await?;
        self.witness.read(self.entry, range.start, range.start + bytes.len() as u64);
        Ok(bytes)
    }

    async fn finish(&self) -> Result<BodyEnd> {
        self.body.finish().await
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.witness.closed();
    }
}

#[derive(Debug)]
struct InOrder(Arc<WatchedBody>);

impl StreamBody for InOrder {
    fn pieces(&self, from: Option<&ReadToken>) -> BoxStream<'static, Result<Piece>> {
        let start = from.map_or(0, |token| {
            u64::from_le_bytes(token.as_bytes().try_into().expect("a token of ours"))
        });
        let pieces = stream::try_unfold((Arc::clone(&self.0), start), |(body, at)| async move {
            if at >= body.len_bytes() {
                return Ok(None);
            }
            let bytes = body.read_at(at..(at + PIECE_BYTES).min(body.len_bytes())).await?;
            let next = at + bytes.len() as u64;
            let token = Some(ReadToken::new(next.to_le_bytes()));
            Ok(Some((Piece { bytes, token }, (body, next))))
        });
        pieces.boxed()
    }
}
