//! Where passwords come from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use backupkit_core::{Error, Result};
use secrecy::{ExposeSecret as _, SecretString};

use crate::environment::Environment;
use crate::exit::usage;
use crate::secret_source::PASSWORD;

/// Finds one password: by options, then variables, then a prompt.
pub(crate) struct PasswordFinder<'a> {
    pub(crate) environment: &'a Environment,
    /// Whether somebody may be asked.
    pub(crate) may_prompt: bool,
    pub(crate) file: Option<PathBuf>,
    pub(crate) command: Option<OsString>,
    pub(crate) purpose: Purpose,
}

/// What the password is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Opens a repository.
    Open,
    /// Opens new repositories from now on: typed twice.
    Create,
    /// Added to a repository, or put in the place of another: typed twice.
    New,
}

impl PasswordFinder<'_> {
    /// # Errors
    /// If the named place gives no password, or none is named and nobody can be asked.
    pub(crate) fn find(&self) -> Result<SecretString> {
        if let Some(file) = &self.file {
            return PASSWORD.read_file(file);
        }
        if let Some(command) = &self.command {
            return PASSWORD.run_command(command);
        }
        let [plain, file, command] = self.purpose.variables();
        if let Some(password) = self.environment.variable(plain) {
            let text = password.to_str().ok_or_else(|| usage(format!("{plain} is not UTF-8")))?;
            return Ok(SecretString::from(text));
        }
        if let Some(file) = self.environment.variable(file) {
            return PASSWORD.read_file(Path::new(file));
        }
        if let Some(command) = self.environment.variable(command) {
            return PASSWORD.run_command(command);
        }
        if self.may_prompt {
            return self.prompt();
        }
        Err(usage(format!(
            "no {} was given, and there is no terminal to ask on",
            self.purpose.noun()
        ))
        .with_code("no-password")
        .with_hint(format!("set {plain}, {file} or {command}")))
    }

    fn prompt(&self) -> Result<SecretString> {
        let noun = self.purpose.noun();
        let first = ask(&format!("{noun}: "))?;
        if first.expose_secret().is_empty() {
            return Err(usage("the password is empty").with_code("no-password"));
        }
        if self.purpose != Purpose::Open {
            let second = ask(&format!("{noun} again: "))?;
            if first.expose_secret() != second.expose_secret() {
                return Err(usage("the two passwords differ").with_code("no-password"));
            }
        }
        Ok(first)
    }
}

impl Purpose {
    fn variables(self) -> [&'static str; 3] {
        match self {
            Self::Open | Self::Create => {
                ["BACKUPKIT_PASSWORD", "BACKUPKIT_PASSWORD_FILE", "BACKUPKIT_PASSWORD_COMMAND"]
            }
            Self::New => [
                "BACKUPKIT_NEW_PASSWORD",
                "BACKUPKIT_NEW_PASSWORD_FILE",
                "BACKUPKIT_NEW_PASSWORD_COMMAND",
            ],
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Open => "password",
            Self::Create | Self::New => "new password",
        }
    }
}

fn ask(prompt: &str) -> Result<SecretString> {
    rpassword::prompt_password(prompt)
        .map(SecretString::from)
        .map_err(|error| Error::io("ask for the password", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(environment: &Environment) -> Result<String> {
        let purpose = Purpose::Open;
        let finder =
            PasswordFinder { environment, may_prompt: false, file: None, command: None, purpose };
        finder.find().map(|password| password.expose_secret().to_owned())
    }

    #[test]
    fn variables_are_asked_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "from file\r\n\n").unwrap();
        let environment =
            Environment::default().with("BACKUPKIT_PASSWORD_COMMAND", "printf 'from %s\n' command");
        assert_eq!(find(&environment).unwrap(), "from command");
        let environment = environment.with("BACKUPKIT_PASSWORD_FILE", &file);
        assert_eq!(find(&environment).unwrap(), "from file");
        let environment = environment.with("BACKUPKIT_PASSWORD", " plain ");
        assert_eq!(find(&environment).unwrap(), " plain ");
    }

    #[test]
    fn without_a_password_the_error_names_the_variables() {
        let error = find(&Environment::default()).unwrap_err();
        let report = error.report();
        for name in Purpose::Open.variables() {
            assert!(report.contains(name), "{report}");
        }
    }

    #[test]
    fn a_failing_command_is_an_error_whatever_it_printed() {
        let environment =
            Environment::default().with("BACKUPKIT_PASSWORD_COMMAND", "echo secret; exit 3");
        let error = find(&environment).unwrap_err();
        assert_eq!(error.code(), "password-command-failed");
        let report = error.report();
        assert!(report.contains('3') && !report.contains("secret"), "{report}");
    }

    #[test]
    fn empty_and_endless_passwords_are_refused() {
        for command in
            ["true", "printf '\\n'", "head -c 70000 /dev/zero | tr '\\0' x", "printf '\\377'"]
        {
            let environment = Environment::default().with("BACKUPKIT_PASSWORD_COMMAND", command);
            assert_eq!(find(&environment).unwrap_err().code(), "no-password", "{command}");
        }
    }
}
