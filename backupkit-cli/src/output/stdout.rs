//! Standard output that survives its reader.

use std::io::{BufWriter, ErrorKind, Write as _};

use backupkit_core::Error;

/// Standard output. After a failure everything is dropped; the first failure is kept.
pub(super) struct Stdout {
    writer: BufWriter<std::io::Stdout>,
    closed: bool,
    failure: Option<std::io::Error>,
}

impl Stdout {
    pub(super) fn new() -> Self {
        let writer = BufWriter::with_capacity(64 << 10, std::io::stdout());
        Self { writer, closed: false, failure: None }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if !self.closed {
            let result = self.writer.write_all(bytes);
            self.note(result);
        }
    }

    pub(super) fn flush(&mut self) {
        if !self.closed {
            let result = self.writer.flush();
            self.note(result);
        }
    }

    /// Writes out what is left, and says whether all of it was taken.
    pub(super) fn deliver(&mut self) -> Result<(), Error> {
        self.flush();
        match self.failure.take() {
            Some(error) => Err(Error::io("write to standard output", error)),
            None if self.closed => Err(Error::io(
                "write to standard output",
                std::io::Error::from(ErrorKind::BrokenPipe),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn finish(&mut self) -> Option<Error> {
        self.flush();
        self.failure.take().map(|error| Error::io("write to standard output", error))
    }

    fn note(&mut self, result: std::io::Result<()>) {
        if let Err(error) = result {
            self.closed = true;
            // A reader that has seen enough, such as `head`, is no failure.
            if error.kind() != ErrorKind::BrokenPipe {
                self.failure = Some(error);
            }
        }
    }
}
