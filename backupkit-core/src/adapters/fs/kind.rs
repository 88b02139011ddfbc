//! Connections to local folders.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{FsDestination, FsSource, FsTarget};
use crate::destination::Destination;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::FieldErrors;
use crate::registry::{ConnectionSecrets, SourceContext, SystemKind, TargetContext};
use crate::source::Source;
use crate::target::RestoreTarget;

/// Local folders: settings are `{"path": "/an/absolute/path"}`.
#[derive(Debug, Clone, Copy)]
pub struct FolderKind;

impl FolderKind {
    /// Its name.
    pub const NAME: &'static str = "folder";
}

impl SystemKind for FolderKind {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn check_settings(&self, settings: &RawValue) -> FieldErrors {
        read(settings).err().unwrap_or_default()
    }

    fn is_same_endpoint(&self, settings: &RawValue, other: &RawValue) -> bool {
        read(settings).is_ok_and(|path| Ok(path) == read(other))
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
        _secrets: &ConnectionSecrets,
        path: &str,
        env: &Env,
    ) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(FsDestination::new(below(parse(settings)?, path)?, env.clone())))
    }

    fn target(
        &self,
        settings: &RawValue,
        context: &TargetContext<'_>,
    ) -> Result<Arc<dyn RestoreTarget>> {
        Ok(Arc::new(FsTarget::new(parse(settings)?, context.env.clone())))
    }
}

fn parse(settings: &RawValue) -> Result<PathBuf> {
    read(settings).or_else(|errors| {
        errors.into_result("the settings of a folder")?;
        Err(Error::new(ErrorKind::Internal, "settings are refused without a reason"))
    })
}

/// The path, or all that is wrong.
fn read(settings: &RawValue) -> Result<PathBuf, FieldErrors> {
    let Ok(Value::Object(fields)) = serde_json::from_str(settings.get()) else {
        return Err(FieldErrors::default().with("", "a folder has the one setting `path`"));
    };
    let mut errors = FieldErrors::default();
    let path = match fields.get("path") {
        None => Err("is missing: give the whole path of a folder".to_owned()),
        Some(Value::String(path)) if path.contains('\0') => Err("holds a NUL character".to_owned()),
        Some(Value::String(path)) if Path::new(path).is_absolute() => Ok(PathBuf::from(path)),
        Some(Value::String(path)) => {
            Err(format!("{path:?} is not absolute: write the whole path, from / on"))
        }
        Some(_) => Err("is not text".to_owned()),
    };
    let path = path.map_err(|why| errors.add("path", why));
    for field in fields.keys().filter(|field| *field != "path") {
        errors.add(field, "is not known: a folder has the one setting `path`");
    }
    match path {
        Ok(path) if errors.is_empty() => Ok(path),
        _ => Err(errors),
    }
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
    fn every_wrong_field_is_told_at_once() {
        let check = |json| FolderKind.check_settings(&settings(json));
        assert!(check(r#"{"path":"/srv"}"#).is_empty());
        for (json, fields) in [
            (r#"{"path":"srv"}"#, vec!["path"]),
            (r#"{"path":"/srv","pth":1}"#, vec!["pth"]),
            (r#"{"pth":1,"more":2}"#, vec!["path", "more", "pth"]),
            (r#"{"path":3}"#, vec!["path"]),
            (r#"{"path":"/a\u0000b"}"#, vec!["path"]),
            ("{}", vec!["path"]),
            ("3", vec![""]),
        ] {
            let errors = check(json);
            let found: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(found, fields, "{json}: {errors}");
            let error = FolderKind.location(&settings(json)).unwrap_err();
            assert!(error.is(ErrorKind::InvalidInput), "{json}");
            assert_eq!(FieldErrors::of(&error), Some(&errors));
        }
    }

    #[test]
    fn only_another_folder_is_another_place() {
        let is_same = |a, b| FolderKind.is_same_endpoint(&settings(a), &settings(b));
        assert!(is_same(r#"{"path":"/srv"}"#, r#"{ "path": "/srv" }"#));
        assert!(!is_same(r#"{"path":"/srv"}"#, r#"{"path":"/srv2"}"#));
        assert!(!is_same("{}", "{}"));
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
