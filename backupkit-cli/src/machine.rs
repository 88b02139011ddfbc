//! Which machine this is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use backupkit_core::manage::MachineId;

/// Where systems keep their identity, the first that is there.
const FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
/// Such a file has 33; against `/dev/zero`.
const MAX_BYTES: u64 = 256;

/// The identity that a person gave, or that of the system, or else the name of the host.
pub(crate) fn identity(given: Option<&OsStr>, host: &str) -> MachineId {
    if let Some(given) = given {
        return MachineId::new(given.as_bytes(), host);
    }
    let found = FILES.iter().find_map(|file| read(Path::new(file)));
    let identity = found.unwrap_or_else(|| format!("host {host}"));
    MachineId::new(identity.as_bytes(), host)
}

/// Nothing where there is none, or an image that is not set up yet.
fn read(file: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let text = text.trim();
    (!text.is_empty() && text != "uninitialized").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_or_not_set_up_is_no_identity() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("machine-id");
        assert_eq!(read(&file), None);
        for (text, identity) in [("", None), ("uninitialized\n", None), ("abc\n", Some("abc"))] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file).as_deref(), identity);
        }
    }

    #[test]
    fn what_a_person_gives_counts() {
        let given = |text: &str| identity(Some(OsStr::new(text)), "host");
        assert_eq!(given("a"), given("a"));
        assert_ne!(given("a"), given("b"));
    }
}
