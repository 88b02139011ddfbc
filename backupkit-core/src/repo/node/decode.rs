//! Reads nodes, borrowing from the text what it can.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    BlobId, Device, EntryKind, EntryPath, ExtendedAttribute, FileMode, FileTime, Metadata,
};
use crate::repo::quote::unquote_name;

use super::Node;

/// A node as it stands in the text. Absent and `null` are the same, as they are for Go; fields of
/// other programs are ignored.
#[derive(Deserialize)]
pub(in crate::repo) struct NodeJson<'t> {
    #[serde(borrow, default)]
    name: Text<'t>,
    #[serde(borrow, default, rename = "type")]
    kind: Text<'t>,
    #[serde(default)]
    mode: Option<u32>,
    #[serde(borrow, default)]
    mtime: Text<'t>,
    #[serde(borrow, default)]
    atime: Text<'t>,
    #[serde(borrow, default)]
    ctime: Text<'t>,
    #[serde(default)]
    uid: Option<u32>,
    #[serde(default)]
    gid: Option<u32>,
    #[serde(borrow, default)]
    user: Text<'t>,
    #[serde(borrow, default)]
    group: Text<'t>,
    #[serde(default)]
    inode: Option<u64>,
    #[serde(default)]
    device_id: Option<u64>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    links: Option<u64>,
    #[serde(borrow, default)]
    linktarget: Text<'t>,
    #[serde(borrow, default)]
    linktarget_raw: Text<'t>,
    #[serde(borrow, default)]
    extended_attributes: Option<Vec<ExtendedAttributeJson<'t>>>,
    #[serde(default)]
    generic_attributes: Option<BTreeMap<String, Box<RawValue>>>,
    #[serde(default)]
    device: Option<u64>,
    #[serde(default)]
    content: Option<Vec<BlobId>>,
    #[serde(default)]
    subtree: Option<BlobId>,
    #[serde(borrow, default)]
    error: Text<'t>,
}

#[derive(Deserialize)]
struct ExtendedAttributeJson<'t> {
    #[serde(borrow, default)]
    name: Text<'t>,
    #[serde(borrow, default)]
    value: Text<'t>,
}

/// A string, borrowed unless it has escapes. serde borrows neither an optional `Cow` nor one that may
/// be `null`.
#[derive(Default)]
struct Text<'t>(Cow<'t, str>);

impl<'de: 't, 't> Deserialize<'de> for Text<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Names of owners, shared between nodes: the nodes of a tree rarely have more than one.
#[derive(Debug)]
pub(in crate::repo) struct Owners {
    user: Arc<str>,
    group: Arc<str>,
}

impl Default for Owners {
    fn default() -> Self {
        Self { user: Arc::from(""), group: Arc::from("") }
    }
}

fn share(last: &mut Arc<str>, name: &str) -> Arc<str> {
    if **last != *name {
        *last = Arc::from(name);
    }
    Arc::clone(last)
}

impl NodeJson<'_> {
    /// Returns the node, or says what in it cannot be understood.
    pub(in crate::repo) fn into_node(self, owners: &mut Owners) -> Result<Node> {
        let name = unquote_name(&self.name.0)?;
        self.into_named_node(name, owners)
    }

    fn into_named_node(self, name: Vec<u8>, owners: &mut Owners) -> Result<Node> {
        let broken = |field: &str| {
            let node = EntryPath::from_names([&name]);
            Error::corrupt(
                format_args!("node {node} of a tree"),
                format_args!("its {field} cannot be read"),
            )
        };
        let kind = match &*self.kind.0 {
            "file" => EntryKind::File,
            "dir" => EntryKind::Directory,
            "symlink" => EntryKind::Symlink {
                target: match &*self.linktarget_raw.0 {
                    "" => self.linktarget.0.into_owned().into_bytes(),
                    raw => STANDARD.decode(raw).map_err(|_| broken("link target"))?,
                },
            },
            "dev" => EntryKind::BlockDevice(Device(self.device.unwrap_or_default())),
            "chardev" => EntryKind::CharacterDevice(Device(self.device.unwrap_or_default())),
            "fifo" => EntryKind::Fifo,
            "socket" => EntryKind::Socket,
            unknown => return Err(unknown_type(&name, unknown)),
        };
        let time = |text: &Text<'_>, missing| match &*text.0 {
            "" => Ok(missing),
            text => parse_time(text).ok_or_else(|| broken("time")),
        };
        let mtime = time(&self.mtime, FileTime::EPOCH)?;
        let extended_attributes = self
            .extended_attributes
            .unwrap_or_default()
            .into_iter()
            .map(|attribute| {
                let value = STANDARD.decode(&*attribute.value.0);
                Ok(ExtendedAttribute {
                    name: attribute.name.0.into_owned(),
                    value: value.map_err(|_| broken("extended attributes"))?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let metadata = Metadata {
            mode: FileMode::from_raw(self.mode.unwrap_or_default()),
            mtime,
            atime: time(&self.atime, mtime)?,
            ctime: time(&self.ctime, mtime)?,
            uid: self.uid.unwrap_or_default(),
            gid: self.gid.unwrap_or_default(),
            user: share(&mut owners.user, &self.user.0),
            group: share(&mut owners.group, &self.group.0),
            inode: self.inode.unwrap_or_default(),
            device_id: self.device_id.unwrap_or_default(),
            links: self.links.unwrap_or_default(),
            extended_attributes: Some(extended_attributes),
            attributes: self.generic_attributes.unwrap_or_default(),
        };
        Ok(Node {
            name,
            kind,
            metadata,
            size_bytes: self.size.unwrap_or_default(),
            content: self.content.map(Arc::from),
            subtree: self.subtree,
            error: self.error.0.into_owned(),
        })
    }
}

fn unknown_type(name: &[u8], unknown: &str) -> Error {
    let node = EntryPath::from_names([name]);
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "cannot read node {node} of a tree: its type \"{}\" is unknown",
            unknown.escape_debug()
        ),
    )
    .with_code("unknown-node-type")
    .with_hint("a newer program may have written it; update this one")
}

/// Reads a time. The format has a few hours at the end of the year 9999 that our calendar lacks: a time
/// that is off by a day is better than a directory that nobody can read.
fn parse_time(text: &str) -> Option<FileTime> {
    let last = FileTime::from_unix(i64::MAX, 0);
    match text.parse::<FileTime>() {
        Ok(time) if time.unix_seconds() <= last.unix_seconds() => Some(time),
        Err(_) if !text.starts_with("9999-12-3") => None,
        _ => Some(last),
    }
}
