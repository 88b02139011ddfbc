//! What the tests of this module share.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use crate::env::Env;
use crate::model::ExtendedAttribute;
use crate::source::OpenContext;
use crate::store::InMemoryAdapterStore;
use crate::token::CancelToken;

use super::xattr::{self, Holder};

/// The system's environment in a zone that is not UTC.
pub(super) fn env() -> Env {
    let offset = jiff::tz::Offset::from_seconds(5 * 3600 + 30 * 60).unwrap();
    Env::system().with_time_zone(jiff::tz::TimeZone::fixed(offset))
}

pub(super) fn open_context() -> OpenContext {
    OpenContext {
        resume: None,
        parent: None,
        store: Arc::new(InMemoryAdapterStore::default()),
        cancel: CancelToken::new(),
    }
}

/// Whether this user may do anything, so that permissions prove nothing.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Sets an extended attribute; `false` if the file system has none.
pub(super) fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let attribute = ExtendedAttribute { name: name.to_owned(), value: value.to_owned() };
    match xattr::set(Holder::Path(path.as_os_str().as_bytes()), &attribute) {
        Ok(()) => true,
        Err(error) if xattr::is_unsupported(error) => false,
        Err(error) => panic!("cannot set an attribute: {error}"),
    }
}

/// A little of everything that needs no special rights. Every time is in the past.
pub(super) fn make_tree(root: &Path) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;

    fs::create_dir_all(root.join("a/deep/er")).unwrap();
    fs::create_dir(root.join("a-b")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a/x"), b"x of a").unwrap();
    fs::write(root.join("a-b/x"), b"x of a-b").unwrap();
    fs::write(root.join("a/deep/er/large"), vec![7; 1_500_000]).unwrap();
    let mut sparse = vec![0; 700_000];
    sparse[300_000] = 1;
    fs::write(root.join("sparse"), sparse).unwrap();
    fs::write(root.join("nothing"), b"").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not\xffutf\n8")), b"odd").unwrap();
    fs::hard_link(root.join("a/x"), root.join("z-link-of-x")).unwrap();
    symlink("a/x", root.join("link")).unwrap();
    symlink(OsStr::from_bytes(b"/no\xff/where"), root.join("dangling")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    fs::set_permissions(root.join("a-b"), fs::Permissions::from_mode(0o1750)).unwrap();
    fs::set_permissions(root.join("nothing"), fs::Permissions::from_mode(0o4751)).unwrap();
    set_attribute(&root.join("a/x"), "user.colour", b"blue\0green");
    set_attribute(&root.join("a-b"), "user.kind", b"folder");
}
