//! Trees: the list of nodes of one directory, as canonical JSON.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, EntryPath};

use super::node::{Node, NodeJson, Owners, encode_node};

/// The largest tree that is written: programs hold a whole tree in memory, and 4 GiB make them fail.
pub const MAX_TREE_BYTES: usize = 1 << 30;

const START: &[u8] = b"{\"nodes\":[";
const END: &[u8] = b"]}\n";

/// Joins nodes to the text of a tree.
///
/// Nodes come in strictly ascending order of their raw names; programs that rewrite trees depend on
/// it.
#[derive(Debug, Clone)]
pub struct TreeEncoder {
    json: Vec<u8>,
    last_name: Vec<u8>,
    nodes: u64,
}

impl Default for TreeEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeEncoder {
    /// Returns an encoder of an empty tree.
    pub fn new() -> Self {
        Self { json: START.to_vec(), last_name: Vec::new(), nodes: 0 }
    }

    /// Adds a node.
    ///
    /// # Errors
    /// As [`Self::push_encoded`].
    pub fn push(&mut self, node: &Node) -> Result<()> {
        self.begin_node(&node.name)?;
        encode_node(node, &mut self.json);
        self.end_node(&node.name)
    }

    /// Adds a node with the name `name` that [`encode_node`] has encoded to `json`.
    ///
    /// # Errors
    /// `Internal` if the name is empty or not greater than that of the node before; `InvalidInput` if
    /// the tree would become larger than [`MAX_TREE_BYTES`]. After an error the encoder is of no use.
    pub fn push_encoded(&mut self, name: &[u8], json: &[u8]) -> Result<()> {
        self.begin_node(name)?;
        self.json.extend_from_slice(json);
        self.end_node(name)
    }

    /// The number of nodes so far.
    pub fn len(&self) -> u64 {
        self.nodes
    }

    /// Whether there is no node yet.
    pub fn is_empty(&self) -> bool {
        self.nodes == 0
    }

    /// The number of bytes so far, of which [`Self::finish`] adds three.
    pub fn size_bytes(&self) -> usize {
        self.json.len()
    }

    /// Returns the text of the tree.
    pub fn finish(mut self) -> Vec<u8> {
        self.json.extend_from_slice(END);
        self.json
    }

    fn begin_node(&mut self, name: &[u8]) -> Result<()> {
        // The empty name is not greater than the "last name" of an empty tree either.
        if *name <= *self.last_name {
            return Err(Error::new(
                ErrorKind::Internal,
                "cannot write a tree: its nodes are not in ascending order of their names",
            )
            .with_context("name", EntryPath::from_names([name]))
            .with_context("after", EntryPath::from_names([&self.last_name])));
        }
        if self.nodes > 0 {
            self.json.push(b',');
        }
        Ok(())
    }

    fn end_node(&mut self, name: &[u8]) -> Result<()> {
        if self.json.len() > MAX_TREE_BYTES - END.len() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "cannot write a tree: the directory has too many entries for one tree of 1 GiB",
            )
            .with_code("tree-too-large")
            .with_hint("move entries into subdirectories"));
        }
        self.last_name.clear();
        self.last_name.extend_from_slice(name);
        self.nodes += 1;
        Ok(())
    }
}

/// Returns the nodes of a tree, in its order.
///
/// Order and names are not checked: see [`Node::is_safe_name`].
///
/// # Errors
/// `Corrupt` if the text is not a tree; `Unsupported` if a node has an unknown type.
pub fn decode_tree(json: &[u8]) -> Result<Vec<Node>> {
    TreeNodes::new(json)?.collect()
}

/// Reads the nodes of a tree one by one, in its order, so that a large tree needs no more memory than
/// its text.
///
/// A node whose content makes no sense, such as one of an unknown type, is an error in its place and
/// the next one follows. After an error of the text itself nothing follows.
#[derive(Debug)]
pub struct TreeNodes<'t> {
    text: Scanner<'t>,
    state: State,
    owners: Owners,
}

/// Where reading of a tree was left, so that whoever owns the text can go on later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreePosition {
    at: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FirstNode,
    NextNode,
    Done,
}

impl<'t> TreeNodes<'t> {
    /// Starts to read the text of a tree.
    ///
    /// # Errors
    /// `Corrupt` if the text does not begin as a tree.
    pub fn new(json: &'t [u8]) -> Result<Self> {
        let mut text = Scanner { json, at: 0 };
        text.expect(b'{')?;
        // Fields other than `nodes` may come in later versions of the format.
        while text.key()? != "nodes" {
            text.value::<IgnoredAny>()?;
            text.expect(b',')?;
        }
        let mut nodes = Self { text, state: State::FirstNode, owners: Owners::default() };
        if nodes.text.peek() == Some(b'n') {
            // Old programs wrote `null` for an empty directory.
            nodes.text.value::<()>()?;
            nodes.end()?;
        } else {
            nodes.text.expect(b'[')?;
        }
        Ok(nodes)
    }

    /// Where reading is.
    pub(crate) fn position(&self) -> TreePosition {
        TreePosition { at: self.text.at, state: self.state }
    }

    /// Goes on in the same text.
    pub(crate) fn resume(json: &'t [u8], position: TreePosition) -> Self {
        let TreePosition { at, state } = position;
        Self { text: Scanner { json, at }, state, owners: Owners::default() }
    }

    fn read(&mut self) -> Result<Option<NodeJson<'t>>> {
        match self.state {
            State::FirstNode if self.text.peek() != Some(b']') => {}
            State::NextNode if self.text.peek() == Some(b',') => self.text.at += 1,
            State::Done => return Ok(None),
            _ => {
                self.text.expect(b']')?;
                self.end()?;
                return Ok(None);
            }
        }
        self.state = State::NextNode;
        self.text.value().map(Some)
    }

    /// Reads what follows the nodes.
    fn end(&mut self) -> Result<()> {
        self.state = State::Done;
        while self.text.peek() == Some(b',') {
            self.text.at += 1;
            if self.text.key()? == "nodes" {
                return Err(self.text.damaged("it has two lists of nodes"));
            }
            self.text.value::<IgnoredAny>()?;
        }
        self.text.expect(b'}')?;
        match self.text.peek() {
            None => Ok(()),
            Some(_) => Err(self.text.damaged("something follows its end")),
        }
    }
}

impl Iterator for TreeNodes<'_> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(node) => node.map(|node| node.into_node(&mut self.owners)),
            Err(error) => {
                self.state = State::Done;
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for TreeNodes<'_> {}

/// Finds the borders of values; serde reads the values.
#[derive(Debug)]
struct Scanner<'t> {
    json: &'t [u8],
    at: usize,
}

impl<'t> Scanner<'t> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().take_while(space).count();
        self.json.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.damaged(format_args!("\"{}\" is missing", char::from(byte))))
    }

    fn key(&mut self) -> Result<String> {
        let key = self.value()?;
        self.expect(b':')?;
        Ok(key)
    }

    fn value<T: Deserialize<'t>>(&mut self) -> Result<T> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => Err(self.damaged(&error).with_source(error)),
            None => Err(self.damaged("it ends early")),
        }
    }

    fn damaged(&self, detail: impl std::fmt::Display) -> Error {
        Error::corrupt("a tree", detail).with_context("byte", self.at)
    }
}

/// Returns the id and text of a tree without nodes.
pub fn empty_tree() -> (BlobId, Vec<u8>) {
    let json = TreeEncoder::new().finish();
    (BlobId::of(&json), json)
}

#[cfg(test)]
mod tests;
