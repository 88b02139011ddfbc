//! Connections to local folders.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{FsDestination, FsSource, FsTarget};
use crate::destination::Destination;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{SourceContext, SystemKind};
use crate::source::Source;
use crate::target::RestoreTarget;

/// Local folders: settings are `{"path": "/an/absolute/path"}`.
#[derive(Debug, Clone, Copy)]
pub struct FolderKind;

impl FolderKind {
    /// Its name.
    pub const NAME: &'static str = "folder";
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FolderSettings {
    path: PathBuf,
}

impl SystemKind for FolderKind {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn check_settings(&self, settings: &RawValue) -> Result<()> {
        parse(settings).map(drop)
    }

    fn location(&self, settings: &RawValue) -> Result<String> {
        Ok(parse(settings)?.display().to_string())
    }

    fn source(&self, settings: &RawValue, context: &SourceContext<'_>) -> Result<Arc<dyn Source>> {
        let path = parse(settings)?;
        let ours = context.repositories.iter().filter(|place| place.kind == Self::NAME);
        let excluded = ours.map(|place| below(parse(place.settings)?, place.path));
        let excluded = excluded.collect::<Result<Vec<_>>>()?;
        let source = FsSource::new(vec![path], context.env.clone(), context.host)?;
        Ok(Arc::new(source.with_excluded_paths(excluded)))
    }

    fn destination(
        &self,
        settings: &RawValue,
        path: &str,
        env: &Env,
    ) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(FsDestination::new(below(parse(settings)?, path)?, env.clone())))
    }

    fn target(&self, settings: &RawValue, env: &Env) -> Result<Arc<dyn RestoreTarget>> {
        Ok(Arc::new(FsTarget::new(parse(settings)?, env.clone())))
    }
}

fn parse(settings: &RawValue) -> Result<PathBuf> {
    let settings: FolderSettings = serde_json::from_str(settings.get()).map_err(|error| {
        let message = format!("the settings of a folder are wrong: {error}");
        Error::new(ErrorKind::InvalidInput, message)
            .with_hint("a folder has the one setting `path`, an absolute path")
    })?;
    if !settings.path.is_absolute() {
        let message = format!("path: {} is not absolute", settings.path.display());
        return Err(Error::new(ErrorKind::InvalidInput, message)
            .with_hint("write the whole path, from / on"));
    }
    Ok(settings.path)
}

/// A place below a folder. Nothing leads out of it.
fn below(folder: PathBuf, path: &str) -> Result<PathBuf> {
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    if Path::new(path).components().all(is_name) {
        return Ok(if path.is_empty() { folder } else { folder.join(path) });
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("path: {path:?} leads out of the connection"))
        .with_hint("write it relative to the connection, without . and .."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn only_absolute_paths_and_known_fields_are_taken() {
        assert!(FolderKind.check_settings(&settings(r#"{"path":"/srv"}"#)).is_ok());
        for (json, why) in [
            (r#"{"path":"srv"}"#, "absolute"),
            (r#"{"path":"/srv","pth":1}"#, "pth"),
            ("{}", "path"),
            ("3", "folder"),
        ] {
            let error = FolderKind.check_settings(&settings(json)).unwrap_err();
            assert!(error.is(ErrorKind::InvalidInput), "{json}");
            assert!(error.report().contains(why), "{json}: {}", error.report());
        }
    }

    #[test]
    fn a_repository_lies_below_its_connection() {
        let place = |path| below(PathBuf::from("/srv"), path);
        assert_eq!(place("").unwrap(), PathBuf::from("/srv"));
        assert_eq!(place("a/b").unwrap(), PathBuf::from("/srv/a/b"));
        for path in ["..", "a/../..", "/etc", "./a"] {
            assert!(place(path).is_err(), "{path}");
        }
    }
}
