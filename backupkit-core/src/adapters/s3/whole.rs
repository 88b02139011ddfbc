//! Whether a document came whole. The client reads one that is cut off as far as it goes, and says
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use crate::error::{Error, ErrorKind, Result};

/// Looks at the document of one reply.
#[derive(Debug, Clone, Default)]
pub(super) struct Whole(Arc<AtomicBool>);

impl Whole {
    /// # Errors
    /// `Unavailable` if the document of the reply is cut off.
    pub(super) fn require(&self, doing: &str) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = format!("cannot {doing}: the reply is cut off");
        Err(Error::new(ErrorKind::Unavailable, message).with_code("s3-cut-reply"))
    }
}

impl Intercept for Whole {
    fn name(&self) -> &'static str {
        "Whole"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_whole = context.response().body().bytes().is_some_and(is_whole);
        self.0.store(is_whole, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether a document ends with the end of its first element.
pub(super) fn is_whole(document: &[u8]) -> bool {
    let document = document.trim_ascii_end();
    let is_start = |pair: &[u8]| pair[0] == b'<' && pair[1].is_ascii_alphabetic();
    let Some(start) = document.windows(2).position(is_start) else { return false };
    let root = &document[start + 1..];
    let is_name = |byte: &u8| !byte.is_ascii_whitespace() && !b"/>".contains(byte);
    let name = &root[..root.iter().take_while(|byte| is_name(byte)).count()];
    if !root.contains(&b'<') {
        return root.ends_with(b"/>");
    }
    let end = root.strip_suffix(b">").map(<[u8]>::trim_ascii_end);
    end.and_then(|end| end.strip_suffix(name)).is_some_and(|end| end.ends_with(b"</"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_whole_only_to_its_last_byte() {
        for text in [
            "<?xml version=\"1.0\"?>\n<A xmlns=\"x\"><B>1</B><C/></A>\n",
            "<A/>",
            "<A xmlns='x'/>",
            "<a:A><B></B></a:A >",
        ] {
            assert!(is_whole(text.as_bytes()), "{text}");
            for end in 0..text.trim_end().len() {
                assert!(!is_whole(&text.as_bytes()[..end]), "{}", &text[..end]);
            }
        }
        assert!(!is_whole(b"<A><B></B>"));
        assert!(!is_whole(b"<A><B/>"));
    }
}
