//! One node of a tree, and its canonical text.

mod decode;

use std::sync::Arc;

use crate::model::{BlobId, EntryKind, ExtendedAttribute, Metadata};

use super::json::{
    ObjectWriter, push_base64, push_id, push_list, push_raw, push_string, push_string_lossy,
    push_time,
};
use super::quote::{is_plain, quote_name};

pub(super) use decode::{NodeJson, Owners};

/// A file, directory or other item as a tree holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The name in its directory: any bytes. Programs can write names that no file may have; see
    /// [`Self::is_safe_name`].
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// What is known of it. Extended attributes that were not read (`None`) are stored like none at
    /// all; decoded nodes always have `Some`.
    pub metadata: Metadata,
    /// The number of bytes of a file.
    pub size_bytes: u64,
    /// The blobs of a file, in order: empty for an empty file, `None` for all but files.
    pub content: Option<Arc<[BlobId]>>,
    /// The tree of a directory.
    pub subtree: Option<BlobId>,
    /// What went wrong when it was read, or empty.
    pub error: String,
}

impl Node {
    /// Returns a file.
    pub fn file(
        name: Vec<u8>,
        metadata: Metadata,
        size_bytes: u64,
        content: impl Into<Arc<[BlobId]>>,
    ) -> Self {
        Self {
            size_bytes,
            content: Some(content.into()),
            ..Self::other(name, EntryKind::File, metadata)
        }
    }

    /// Returns a directory.
    pub fn directory(name: Vec<u8>, metadata: Metadata, subtree: BlobId) -> Self {
        Self { subtree: Some(subtree), ..Self::other(name, EntryKind::Directory, metadata) }
    }

    /// Returns a node without bytes, such as a symbolic link.
    pub fn other(name: Vec<u8>, kind: EntryKind, metadata: Metadata) -> Self {
        Self {
            name,
            kind,
            metadata,
            size_bytes: 0,
            content: None,
            subtree: None,
            error: String::new(),
        }
    }

    /// Whether the name can be one component of a path: not empty, `.` or `..`, and without `/` and
    /// NUL. Whatever writes to a file system must ask; a tree can hold anything.
    pub fn is_safe_name(&self) -> bool {
        !matches!(&self.name[..], b"" | b"." | b"..")
            && !self.name.iter().any(|byte| matches!(byte, b'/' | 0))
    }
}

/// Appends the canonical text of a node, which has no line break.
///
/// Two equal nodes always have the same text, and it is the text that restic writes for them.
pub fn encode_node(node: &Node, out: &mut Vec<u8>) {
    let metadata = &node.metadata;
    let mut object = ObjectWriter::new(out);
    push_name(object.field("name"), &node.name);
    object.string("type", type_name(&node.kind));
    object.number_if_any("mode", metadata.mode.raw());
    push_times(&mut object, metadata);
    object.number("uid", metadata.uid);
    object.number("gid", metadata.gid);
    object.string_if_any("user", &metadata.user);
    object.string_if_any("group", &metadata.group);
    object.number_if_any("inode", metadata.inode);
    object.number_if_any("device_id", metadata.device_id);
    object.number_if_any("size", node.size_bytes);
    object.number_if_any("links", metadata.links);
    if let EntryKind::Symlink { target } = &node.kind
        && !target.is_empty()
    {
        push_string_lossy(object.field("linktarget"), target);
        if std::str::from_utf8(target).is_err() {
            push_base64(object.field("linktarget_raw"), target);
        }
    }
    if let Some(attributes) = &metadata.extended_attributes
        && !attributes.is_empty()
    {
        push_list(object.field("extended_attributes"), attributes, push_extended_attribute);
    }
    if !metadata.attributes.is_empty() {
        push_attributes(object.field("generic_attributes"), metadata);
    }
    if let EntryKind::BlockDevice(device) | EntryKind::CharacterDevice(device) = &node.kind {
        object.number_if_any("device", device.0);
    }
    let content = object.field("content");
    match &node.content {
        Some(blobs) => push_list(content, blobs, |out, blob| push_id(out, blob.as_bytes())),
        None => content.extend_from_slice(b"null"),
    }
    if let Some(subtree) = &node.subtree {
        object.id("subtree", subtree.as_bytes());
    }
    object.string_if_any("error", &node.error);
    object.finish();
}

fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    if is_plain(name) {
        out.push(b'"');
        out.extend_from_slice(name);
        out.push(b'"');
    } else {
        push_string(out, &quote_name(name));
    }
}

fn type_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "dir",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::BlockDevice(_) => "dev",
        EntryKind::CharacterDevice(_) => "chardev",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

/// Formatting a time is the dearest part of a node, and most nodes repeat one.
fn push_times(object: &mut ObjectWriter<'_>, metadata: &Metadata) {
    let out = object.field("mtime");
    let start = out.len();
    push_time(out, &metadata.mtime);
    let mtime = start..out.len();
    for (key, time) in [("atime", &metadata.atime), ("ctime", &metadata.ctime)] {
        let out = object.field(key);
        if *time == metadata.mtime {
            out.extend_from_within(mtime.clone());
        } else {
            push_time(out, time);
        }
    }
}

fn push_extended_attribute(out: &mut Vec<u8>, attribute: &ExtendedAttribute) {
    let mut object = ObjectWriter::new(out);
    object.string("name", &attribute.name);
    push_base64(object.field("value"), &attribute.value);
    object.finish();
}

/// Keys come in byte order, as the map keeps them and Go sorts them.
fn push_attributes(out: &mut Vec<u8>, metadata: &Metadata) {
    out.push(b'{');
    for (index, (name, value)) in metadata.attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_raw(out, value);
    }
    out.push(b'}');
}
