//! What a server answers.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::{Response, StatusCode};

/// How much of a body goes out at a time.
const FRAME_BYTES: usize = 64 << 10;

/// A connection that ends where nobody expects it.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here")]
pub(super) struct Broken;

/// A reply as a handler makes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// The connection ends after so many bytes of the body.
    pub(super) cut: Option<usize>,
    /// Nothing says how long the body is.
    pub(super) is_unsized: bool,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A document with this root and content.
    pub(super) fn xml(root: &str, content: &str) -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{content}</{root}>"
        );
        Self::new(200).with("content-type", "application/xml").with_body(text)
    }

    /// A refusal.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let mut reply = Self::error_document(code);
        reply.status = status;
        reply
    }

    /// The document of a refusal, with status 200.
    pub(super) fn error_document(code: &str) -> Self {
        Self::refusal(200, code, &format!("The fake says {code}."))
    }

    /// A refusal in these words.
    pub(super) fn refusal(status: u16, code: &str, message: &str) -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Self::new(status).with("content-type", "application/xml").with_body(text)
    }

    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub(super) fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Where the body begins in the object, if it is a part of it.
    pub(super) fn range_start(&self) -> Option<u64> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == "content-range")?;
        value.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
    }

    /// As the connection sends it; to HEAD only the headers go out.
    pub(super) fn into_response(self, is_head: bool) -> Result<Response<ReplyBody>, Broken> {
        let len_bytes = self.body.len();
        let mut response = Response::builder()
            .status(StatusCode::from_u16(self.status).map_err(|_| Broken)?)
            .header("x-amz-request-id", "FAKE");
        if !self.is_unsized {
            response = response.header("content-length", len_bytes);
        }
        for (name, value) in &self.headers {
            response = response.header(name, value.as_bytes());
        }
        let shown = if is_head { Bytes::new() } else { self.body };
        let end = self.cut.unwrap_or(shown.len()).min(shown.len());
        let mut frames = VecDeque::new();
        let mut at = 0;
        while at < end {
            let next = end.min(at + FRAME_BYTES);
            frames.push_back(Some(shown.slice(at..next)));
            at = next;
        }
        if self.cut.is_some() {
            frames.push_back(None);
        }
        response.body(ReplyBody { frames, pauses: PAUSES }).map_err(|_| Broken)
    }
}

/// The frames of a body; the connection ends at `None`.
#[derive(Debug)]
pub(super) struct ReplyBody {
    frames: VecDeque<Option<Bytes>>,
    pauses: u8,
}

/// A connection that breaks off first sends what it has: it does so when it waits for more.
const PAUSES: u8 = 3;

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.frames.front() == Some(&None) && self.pauses > 0 {
            self.pauses -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front().map(|frame| frame.map(Frame::data).ok_or(Broken)))
    }
}

/// Text with what XML would take for its own escaped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Percent encoding as S3 does it in listings: all but letters, digits and `-_.*/`, a space as `+`.
pub(super) fn encode_key(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            other => _ = write!(encoded, "%{other:02X}"),
        }
    }
    encoded
}

/// The contents of all elements of this name, unescaped.
pub(super) fn elements(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&open) {
        let Some((content, after)) = after.split_once(&close) else { break };
        let content = content.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        found.push(content.replace("&apos;", "'").replace("&amp;", "&"));
        rest = after;
    }
    found
}
