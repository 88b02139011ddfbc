//! Takes secrets from files and from the output of commands.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use backupkit_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use secrecy::zeroize::Zeroize as _;

use crate::exit::usage;

/// Far more than a password; against `/dev/zero`.
const MAX_BYTES: usize = 64 << 10;

pub(crate) const PASSWORD: SecretSource =
    SecretSource { noun: "password", failed: "password-command-failed", missing: "no-password" };
pub(crate) const MASTER_KEY: SecretSource = SecretSource {
    noun: "master key",
    failed: "master-key-command-failed",
    missing: "master-key-missing",
};
/// What a configuration refers to.
pub(crate) const REFERENCE: SecretSource =
    SecretSource { noun: "secret", failed: "secret-command-failed", missing: "no-secret" };

/// What messages call it, and their codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretSource {
    noun: &'static str,
    failed: &'static str,
    missing: &'static str,
}

impl SecretSource {
    /// What a file holds, without line ends behind it.
    pub(crate) fn read_file(self, path: &Path) -> Result<SecretString> {
        use std::io::Read as _;
        let place = format!("the {} file {}", self.noun, path.display());
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
        read.map_err(|error| Error::io(format!("read {place}"), error))?;
        self.found(bytes, &place)
    }

    /// What a shell command prints, without line ends behind it.
    pub(crate) fn run_command(self, command: &OsStr) -> Result<SecretString> {
        let place = format!("the {} command", self.noun);
        let failed = |why: String| {
            Error::new(ErrorKind::Unavailable, format!("{place} {why}")).with_code(self.failed)
        };
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg(command)
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| failed(format!("could not be started: {error}")))?;
        if !output.status.success() {
            let mut bytes = output.stdout;
            bytes.zeroize();
            return Err(failed(format!("failed with {}", output.status)));
        }
        self.found(output.stdout, &place)
    }

    /// Without a byte order mark and without line ends behind it.
    fn found(self, bytes: Vec<u8>, place: &str) -> Result<SecretString> {
        let refused = |why: String| Err(usage(why).with_code(self.missing));
        let mut text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                error.into_bytes().zeroize();
                return refused(format!("what {place} gives is not UTF-8"));
            }
        };
        let secret = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        let result = if text.len() > MAX_BYTES {
            refused(format!("{place} gives more than 64 KiB"))
        } else if secret.is_empty() {
            refused(format!("{place} gives an empty {}", self.noun))
        } else {
            Ok(SecretString::from(secret))
        };
        text.zeroize();
        result
    }
}
