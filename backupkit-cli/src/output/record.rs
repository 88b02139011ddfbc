//! The objects of `--json` and `--ndjson`.

use std::fmt::Display;

use backupkit_core::model::{EntryPath, Event, EventKind, Level};
use backupkit_core::{Env, Error};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::format;
use crate::exit::Exit;

/// An object of a stream: its type and time, then its own fields.
#[derive(Serialize)]
pub(super) struct Typed<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    ts: String,
    #[serde(flatten)]
    fields: &'a T,
}

impl<'a, T> Typed<'a, T> {
    pub(super) fn new(kind: &'static str, env: &Env, fields: &'a T) -> Self {
        Self { kind, ts: env.now().to_string(), fields }
    }
}

/// A sentence.
#[derive(Serialize)]
pub(super) struct Message {
    message: String,
}

impl Message {
    pub(super) fn new(text: impl Display) -> Self {
        Self { message: text.to_string() }
    }
}

/// Why the program, or a part of a run, failed.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorRecord {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    exit: u8,
}

impl ErrorRecord {
    pub(crate) fn new(error: &Error, exit: Exit) -> Self {
        Self {
            code: error.code(),
            message: message(error),
            hint: error.hint().map(str::to_owned),
            exit: exit.code(),
        }
    }
}

/// The sentence of an error, with where it happened but without its hint.
pub(super) fn message(error: &Error) -> String {
    let context = error.context().iter().map(|(key, value)| format!("{key}={value}"));
    std::iter::once(error.to_string()).chain(context).collect::<Vec<_>>().join(", ")
}

/// The sentence of an event, on one line.
pub(super) fn sentence(kind: &EventKind) -> String {
    match kind {
        EventKind::Resumed { entries, bytes } => format!(
            "continuing where it was interrupted: {} and {} are stored already",
            format::counted(*entries, "entry", "entries"),
            format::bytes(*bytes)
        ),
        kind => format::one_line(&kind.to_string()),
    }
}

/// An event of a run, with its sentence.
#[derive(Serialize)]
pub(crate) struct EventRecord<'a> {
    message: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> EventRecord<'a> {
    pub(crate) fn new(event: &'a Event) -> Self {
        Self { message: sentence(&event.kind), event }
    }
}

/// An event as an object of a stream.
#[derive(Serialize)]
pub(super) struct TypedEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    event: EventRecord<'a>,
}

impl<'a> TypedEvent<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        let kind = match event.level {
            Level::Info => "log",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        Self { kind, event: EventRecord::new(event) }
    }
}

/// A path: as text, and as bytes where it is not text.
#[derive(Debug, Serialize)]
pub(crate) struct PathFields {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
}

impl PathFields {
    pub(crate) fn new(path: &EntryPath) -> Self {
        let is_text = path.names().all(|name| std::str::from_utf8(name).is_ok());
        let joined = || path.names().collect::<Vec<_>>().join(&b'/');
        Self { path: path.to_string(), path_b64: (!is_text).then(|| STANDARD.encode(joined())) }
    }
}

/// Base64 of bytes that are not UTF-8.
pub(crate) fn base64_unless_text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_text_come_with_their_bytes() {
        let fields = |path| serde_json::to_value(PathFields::new(&path)).unwrap();
        let text = fields(EntryPath::from_names(["a", "ä"]));
        assert_eq!(text, serde_json::json!({ "path": "/a/ä" }));
        let bytes = fields(EntryPath::from_names([&b"a"[..], b"\xff"]));
        assert_eq!(bytes, serde_json::json!({ "path": "/a/\\xff", "path_b64": "YS//" }));
    }
}
