//! Targets and fakes. An adapter gets one macro call.

use async_trait::async_trait;
use backupkit::model::{EntryKind, EntryPath, FileTime};
use backupkit::target::TargetCapabilities;
use backupkit::target_conformance;
use backupkit::testing::conformance::{Found, TargetFixture, TargetProbe};
use backupkit::testing::{MemoryNode, MemoryTarget};
use bytes::Bytes;

#[derive(Debug)]
struct MemoryProbe(MemoryTarget);

#[async_trait]
impl TargetProbe for MemoryProbe {
    async fn read(&self, path: &EntryPath) -> Option<Found> {
        let node = self.0.nodes().remove(path)?;
        Some(match node.kind {
            EntryKind::File => Found::File(node.bytes),
            EntryKind::Directory => Found::Directory,
            EntryKind::Symlink { target } => Found::Symlink(target),
            _ => Found::Other,
        })
    }

    async fn put(&self, path: &EntryPath, bytes: Bytes, mtime: FileTime) {
        self.0.put(path, MemoryNode::file(bytes, mtime));
    }

    async fn files(&self) -> Vec<EntryPath> {
        let nodes = self.0.nodes().into_iter();
        let files = nodes.filter(|(_, node)| node.kind == EntryKind::File);
        files.map(|(path, _)| path).collect()
    }
}

target_conformance!(memory_target, async || {
    let target = MemoryTarget::new();
    TargetFixture::new(target.clone(), MemoryProbe(target))
});

target_conformance!(memory_target_in_order, async || {
    let target = MemoryTarget::new().with_capabilities(TargetCapabilities::new(1));
    TargetFixture::new(target.clone(), MemoryProbe(target))
});

// Adapters: add one macro call each.
// fs: target_conformance!(fs_target, async || { temporary folder, `.keeping(folder)` });
