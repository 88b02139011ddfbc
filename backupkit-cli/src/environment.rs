//! What the program takes from its surroundings. Everything is read once, at the start.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use backupkit_core::Identity;

/// The variables that mean something to us.
const VARIABLES: [&str; 31] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "BACKUPKIT_CACHE_DIR",
    "BACKUPKIT_MACHINE_ID",
    "BACKUPKIT_MASTER_KEY",
    "BACKUPKIT_MASTER_KEY_COMMAND",
    "BACKUPKIT_NEW_PASSWORD",
    "BACKUPKIT_NEW_PASSWORD_COMMAND",
    "BACKUPKIT_NEW_PASSWORD_FILE",
    "BACKUPKIT_PASSWORD",
    "BACKUPKIT_PASSWORD_COMMAND",
    "BACKUPKIT_PASSWORD_FILE",
    "BACKUPKIT_S3_ACCESS_KEY_ID",
    "BACKUPKIT_S3_PROXY_PASSWORD",
    "BACKUPKIT_S3_SECRET_ACCESS_KEY",
    "BACKUPKIT_S3_SESSION_TOKEN",
    "BACKUPKIT_STATE",
    "HOME",
    "NO_COLOR",
    "TERM",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];

/// The surroundings of the program. Holds secrets, so it is never printed.
#[derive(Default)]
pub(crate) struct Environment {
    /// The command line, the program's own name first.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) stdin_is_terminal: bool,
    pub(crate) stderr_is_terminal: bool,
    variables: BTreeMap<&'static str, OsString>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let read = |name: &'static str| std::env::var_os(name).map(|value| (name, value));
        Self {
            arguments: std::env::args_os().collect(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            variables: VARIABLES.into_iter().filter_map(read).collect(),
        }
    }

    /// The value of a variable; an empty one counts as not set.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        debug_assert!(VARIABLES.contains(&name), "{name} is never read");
        self.variables.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The program as it was called, so that commands in messages can be run as they stand.
    pub(crate) fn program(&self) -> &OsStr {
        self.arguments.first().map_or(OsStr::new("backupkit"), OsString::as_os_str)
    }

    /// Whether people see colours and redrawn lines.
    pub(crate) fn takes_colour(&self) -> bool {
        self.stderr_is_terminal
            && self.variable("NO_COLOR").is_none()
            && self.variable("TERM") != Some(OsStr::new("dumb"))
    }

    /// The folder for what can be made again: the user's cache folder. `None` without a home.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        if let Some(folder) = self.variable("BACKUPKIT_CACHE_DIR") {
            return Some(PathBuf::from(folder));
        }
        Some(self.user_folder("XDG_CACHE_HOME", ".cache")?.join("backupkit"))
    }

    /// The file with connections, plans and runs: in the user's data folder. `None` without a home.
    pub(crate) fn state_file(&self) -> Option<PathBuf> {
        if let Some(file) = self.variable("BACKUPKIT_STATE") {
            return Some(PathBuf::from(file));
        }
        let data = self.user_folder("XDG_DATA_HOME", ".local/share")?;
        Some(data.join("backupkit").join("state.db"))
    }

    fn user_folder(&self, variable: &'static str, below_home: &str) -> Option<PathBuf> {
        let absolute = |name| self.variable(name).map(Path::new).filter(|path| path.is_absolute());
        match absolute(variable) {
            Some(folder) => Some(folder.to_owned()),
            None => Some(absolute("HOME")?.join(below_home)),
        }
    }

    /// Who runs the program, and where.
    pub(crate) fn identity(&self) -> Identity {
        let uid = rustix::process::getuid().as_raw();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = self.variable("USER").map(|name| name.to_string_lossy().into_owned());
        Identity {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            username: user_name(&users, uid).or(named).unwrap_or_else(|| uid.to_string()),
            uid,
            gid: rustix::process::getgid().as_raw(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name, value.into());
        self
    }
}

/// The name of a user in the text of `/etc/passwd`.
fn user_name(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_follows_the_desktop_convention() {
        let home = Environment::default().with("HOME", "/home/a");
        assert_eq!(home.cache_folder(), Some("/home/a/.cache/backupkit".into()));
        let caches = home.with("XDG_CACHE_HOME", "/caches");
        assert_eq!(caches.cache_folder(), Some("/caches/backupkit".into()));
        let own = caches.with("BACKUPKIT_CACHE_DIR", "/own");
        assert_eq!(own.cache_folder(), Some("/own".into()));
        assert_eq!(Environment::default().cache_folder(), None);
    }

    #[test]
    fn a_relative_cache_folder_is_not_taken() {
        let relative = Environment::default().with("HOME", "/h").with("XDG_CACHE_HOME", "caches");
        assert_eq!(relative.cache_folder(), Some("/h/.cache/backupkit".into()));
    }

    #[test]
    fn users_are_found_by_number() {
        let users =
            "root:x:0:0::/root:/bin/sh\nbroken\n::5:\nada:x:1000:1000:Ada:/home/ada:/bin/sh";
        assert_eq!(user_name(users, 1000).as_deref(), Some("ada"));
        assert_eq!(user_name(users, 0).as_deref(), Some("root"));
        assert_eq!(user_name(users, 5), None);
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let environment = Environment::default().with("NO_COLOR", "");
        assert_eq!(environment.variable("NO_COLOR"), None);
    }
}
