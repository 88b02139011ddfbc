//! Small files that settings name: keys, tokens, certificates.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// Such files are smaller.
const MOST_BYTES: u64 = 4 << 20;

/// Reads a small file. Blocks the thread.
///
/// # Errors
/// `InvalidConfig` for what is no file or too large: a pipe might keep a thread forever. Those of the
/// file system.
pub(super) fn read_small_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |error| Error::io(format!("read {}", path.display()), error);
    let refused = |why: &str| {
        let message = format!("cannot read {}: {why}", path.display());
        Error::new(ErrorKind::InvalidConfig, message).with_code("s3-file")
    };
    // Looked at by its name first: to open a pipe may wait for who writes into it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(refused("it is no file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refused("it is larger than 4 MiB"));
    }
    Ok(bytes)
}

/// Reads a small file of text. Blocks the thread.
///
/// # Errors
/// As [`read_small_file`]; `InvalidConfig` for what is no text.
pub(super) fn read_small_text(path: &Path) -> Result<Zeroizing<String>> {
    let bytes = read_small_file(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        let message = format!("cannot read {}: it is no text in UTF-8", path.display());
        Error::new(ErrorKind::InvalidConfig, message).with_code("s3-file")
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, text) = (folder.path().join("large"), folder.path().join("text"));
        std::fs::write(&text, "k").unwrap();
        assert_eq!(**read_small_text(&text).unwrap(), *"k");
        // With room for nothing, but as long as is said.
        File::create(&file).unwrap().set_len(MOST_BYTES + 1).unwrap();
        std::fs::write(folder.path().join("bytes"), [0xff]).unwrap();
        for path in [folder.path(), &file, &folder.path().join("bytes")] {
            let error = read_small_text(path).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidConfig, "s3-file"));
        }
        File::options().write(true).open(&file).unwrap().set_len(MOST_BYTES).unwrap();
        assert_eq!(read_small_file(&file).unwrap().len() as u64, MOST_BYTES);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(read_small_file(&pipe).unwrap_err().code(), "s3-file");
    }
}
