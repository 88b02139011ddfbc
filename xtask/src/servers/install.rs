//! Programs of others, fetched once for each version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::run;
use crate::{Outcome, cache};

/// Where a program comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// Built by Go, from its registry of modules.
    Go { module: &'static str, version: &'static str, program: &'static str },
    /// A package of Python, in an environment of its own.
    Python { package: &'static str, program: &'static str },
}

impl Origin {
    /// The program, from the cache if it has this version.
    ///
    /// # Errors
    /// Why this machine cannot have it.
    pub(super) fn find(self) -> Outcome<PathBuf> {
        let (Self::Go { program, .. } | Self::Python { program, .. }) = self;
        let folder = cache::folder("servers")?.join(self.key());
        let found = folder.join("bin").join(program);
        // Written last, so that what an interrupted attempt left does not count.
        let finished = folder.join("finished");
        if finished.is_file() && found.is_file() {
            return Ok(found);
        }
        cache::remove(&folder)?;
        cache::create(&folder)?;
        self.install(&folder)?;
        if !found.is_file() {
            return Err(format!("{} has no {program}", self.key()));
        }
        fs::write(&finished, "")
            .map_err(|error| format!("write {}: {error}", finished.display()))?;
        Ok(found)
    }

    fn install(self, folder: &Path) -> Outcome {
        match self {
            Self::Go { module, version, .. } => {
                let mut go = Command::new("go");
                go.arg("install").arg(format!("{module}@{version}"));
                run(go.env("CGO_ENABLED", "0").env("GOBIN", folder.join("bin")).current_dir(folder))
            }
            Self::Python { package, .. } => {
                run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
                let mut pip = Command::new(folder.join("bin/pip"));
                pip.args(["install", "--quiet", "--disable-pip-version-check", package]);
                run(&mut pip)
            }
        }
    }

    /// A name for this version that can be a file's.
    fn key(self) -> String {
        let named = match self {
            Self::Go { version, program, .. } => format!("{program}-{version}"),
            Self::Python { package, .. } => package.to_owned(),
        };
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
        named.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect()
    }
}
