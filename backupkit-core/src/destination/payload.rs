//! What is stored under a key.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};

/// The bytes of a new object. Cheap to clone, so that a failed call can be repeated.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Bytes in memory, in one or more parts that follow each other.
    Bytes(Arc<[Bytes]>),
    /// An open file on local disk, which stays unchanged until the call returns.
    File(PayloadFile),
}

/// An open file on local disk, with or without a name. Clones read the same file, each from where it
/// likes.
#[derive(Debug, Clone)]
pub struct PayloadFile {
    file: Arc<File>,
    len_bytes: u64,
    /// For messages.
    name: Arc<str>,
}

impl Payload {
    /// Returns a payload of parts that follow each other.
    pub fn from_parts(parts: Vec<Bytes>) -> Self {
        Self::Bytes(parts.into())
    }

    /// The bytes in one stretch of memory, for destinations without a way to take parts or files.
    ///
    /// # Errors
    /// The system's if the file cannot be read; `InvalidInput` if it is shorter than announced.
    pub async fn to_bytes(&self) -> Result<Bytes> {
        match self {
            Self::Bytes(parts) => Ok(match &**parts {
                [only] => only.clone(),
                parts => parts.concat().into(),
            }),
            Self::File(file) => {
                let file = file.clone();
                blocking(move || {
                    let failed = |error| Error::io(format!("read {}", file.name), error);
                    let length = usize::try_from(file.len_bytes).map_err(|_| {
                        Error::new(
                            ErrorKind::Unsupported,
                            format!("{} does not fit into memory", file.name),
                        )
                    })?;
                    // It may have been announced with any length, so no memory before the bytes.
                    let mut bytes = Vec::new();
                    file.reader().read_to_end(&mut bytes).map_err(failed)?;
                    if bytes.len() == length { Ok(bytes.into()) } else { Err(failed(too_short())) }
                })
                .await
            }
        }
    }

    /// The number of bytes.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Bytes(parts) => parts.iter().map(|part| part.len() as u64).sum(),
            Self::File(file) => file.len_bytes,
        }
    }
}

impl PayloadFile {
    /// Opens a file of which all bytes are meant. Blocks.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let failed = |error| Error::io(format!("open {name}"), error);
        let file = File::open(path).map_err(failed)?;
        let len_bytes = file.metadata().map_err(failed)?.len();
        Ok(Self::new(file, len_bytes, name))
    }

    /// Takes the first `len_bytes` bytes of a file that is open for reading. `name` is how messages
    /// call it.
    pub fn new(file: impl Into<Arc<File>>, len_bytes: u64, name: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), len_bytes, name: name.into() }
    }

    /// The number of bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// How messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fills `buffer` with the bytes from `offset` on. Blocks.
    ///
    /// # Errors
    /// `UnexpectedEof` if there are fewer; the system's.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, offset)
    }

    /// Reads all bytes from the start. Several readers do not disturb each other. Each call blocks;
    /// it is `InvalidInput` if the file is shorter than announced.
    pub fn reader(&self) -> impl Read + Send + use<> {
        Reader { payload: self.clone(), at: 0 }
    }
}

struct Reader {
    payload: PayloadFile,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.payload.len_bytes - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        if length == 0 {
            return Ok(0);
        }
        let read = self.payload.file.read_at(&mut buffer[..length], self.at)?;
        if read == 0 {
            return Err(too_short());
        }
        self.at += read as u64;
        Ok(read)
    }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it has fewer bytes than were announced")
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes([bytes].into())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<PayloadFile> for Payload {
    fn from(file: PayloadFile) -> Self {
        Self::File(file)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_file_without_a_name_can_be_read_again_and_again() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello world").unwrap();
        let payload = PayloadFile::new(file, 5, "a pack");
        let (mut one, mut other) = (payload.reader(), payload.reader());
        let mut letter = [0];
        for expected in b"hello" {
            one.read_exact(&mut letter).unwrap();
            assert_eq!(letter[0], *expected);
            other.read_exact(&mut letter).unwrap();
            assert_eq!(letter[0], *expected);
        }
        assert_eq!(one.read(&mut letter).unwrap(), 0);
        assert!(payload.read_exact_at(&mut letter, 4).is_ok());
        assert!(payload.read_exact_at(&mut letter, 5).is_err());
        let payload = Payload::from(payload);
        assert_eq!(payload.len_bytes(), 5);
        for _ in 0..2 {
            assert_eq!(payload.to_bytes().await.unwrap(), "hello");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_announced_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        let payload = Payload::from(PayloadFile::new(file, u64::MAX / 2, "a pack"));
        let error = payload.to_bytes().await.unwrap_err();
        assert!(error.is(ErrorKind::InvalidInput), "{error}");
    }
}
