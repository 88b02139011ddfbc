//! What a configuration refers to: variables, files, commands.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::References;
use crate::error::{Error, ErrorKind, Result};

/// Where a secret is found.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SecretReference {
    Variable(String),
    File(PathBuf),
    Command(String),
}

impl SecretReference {
    /// Reads `${NAME}`, `file:/path` or `cmd:command`, or says what will not do. That repeats nothing: it
    /// may be the secret itself.
    pub(super) fn parse(text: &str, references: &dyn References) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            let refers_wrong =
                "behind file: stands a variable that is not set, or `${` without a name";
            let path = expand(path, references).map_err(|_| refers_wrong.to_owned())?;
            let path = PathBuf::from(path);
            if path.is_absolute() {
                return Ok(Self::File(path));
            }
            return Err("write file: with a whole path, from / on".to_owned());
        }
        if let Some(command) = text.strip_prefix("cmd:") {
            let command = command.trim();
            if command.is_empty() {
                return Err("write the command behind cmd:".to_owned());
            }
            return Ok(Self::Command(command.to_owned()));
        }
        let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        match name.filter(|name| is_variable(name)) {
            Some(name) => Ok(Self::Variable(name.to_owned())),
            None => Err(
                "a secret does not stand in the file: write \"${VARIABLE}\", \"file:/path\" or \
                 \"cmd:command\""
                    .to_owned(),
            ),
        }
    }

    pub(super) async fn resolve(&self, references: &dyn References) -> Result<SecretString> {
        let found = match self {
            Self::Variable(name) => references.variable(name)?.ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, format!("variable {name} is not set"))
                    .with_hint("set it, or leave the line out to keep what was kept so far")
            })?,
            Self::File(path) => references.file(path).await?,
            Self::Command(command) => references.command(command).await?,
        };
        if found.expose_secret().is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{self} gives nothing")));
        }
        Ok(found)
    }
}

/// A command line may hold a secret.
impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Command(_) => f.write_str("the command"),
        }
    }
}

impl fmt::Debug for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretReference({self})")
    }
}

/// Puts the values of variables in the place of `${NAME}`.
pub(super) fn expand(text: &str, references: &dyn References) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &after[2..];
            continue;
        }
        expanded.push_str(before);
        let (name, behind) = after[2..].split_once('}').ok_or("`${` has no `}`")?;
        if !is_variable(name) {
            return Err(format!("{name:?} is no name of a variable; write $${{ for ${{ itself"));
        }
        let value = references.variable(name).map_err(|error| error.report())?;
        let value = value.ok_or_else(|| format!("variable {name} is not set"))?;
        expanded.push_str(value.expose_secret());
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The opposite of [`expand`].
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

/// The variable that is to hold a secret, such as a password, of what is called so, as shells can name it.
pub(super) fn variable_for(owner: &str, secret: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = owner.chars().map(plain).collect();
    let prefix = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    format!("{prefix}{name}_{}", secret.to_ascii_uppercase())
}

fn is_variable(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_plain) && name.starts_with(|c: char| !c.is_ascii_digit())
}
