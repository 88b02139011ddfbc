//! Keeps restores away from repositories.

use super::Place;
use crate::adapters::s3::settings::S3Settings;
use crate::error::{Error, ErrorKind, Result};

/// Refuses a target that lies in a repository, or around one, of these prefixes of its bucket.
pub(super) fn refuse_known(settings: &S3Settings, repositories: &[String]) -> Result<()> {
    let target = &settings.prefix;
    let meets = |repository: &&String| {
        let (inner, outer) = (format!("{target}/"), format!("{repository}/"));
        target.is_empty()
            || repository.is_empty()
            || inner.starts_with(&outer)
            || outer.starts_with(&inner)
    };
    match repositories.iter().find(meets) {
        None => Ok(()),
        Some(repository) => {
            let place = if repository.is_empty() { "the whole bucket" } else { repository };
            Err(holds_repository(settings, &format!("a repository lies there ({place})")))
        }
    }
}

/// Refuses a target in which, or above which, there is a repository that nobody has named.
pub(super) async fn refuse_unknown(place: &Place) -> Result<()> {
    let prefix = &place.settings.prefix;
    let ends = prefix.match_indices('/').map(|(slash, _)| slash + 1);
    let mut roots: Vec<String> = ends.map(|end| prefix[..end].to_owned()).collect();
    roots.push(String::new());
    if !prefix.is_empty() {
        roots.push(place.settings.root());
    }
    for root in roots {
        match is_repository(place, &root).await {
            Ok(false) => {}
            Ok(true) => {
                let at = if root.is_empty() { "the bucket itself" } else { root.as_str() };
                let why = format!("{at} looks like a repository, with a config and keys");
                return Err(holds_repository(&place.settings, &why));
            }
            // Who may not see it will hardly be able to write there.
            Err(error) if error.is(ErrorKind::PermissionDenied) => {}
            Err(error) => return Err(error.while_doing("look for repositories in the target")),
        }
    }
    Ok(())
}

async fn is_repository(place: &Place, root: &str) -> Result<bool> {
    let has = async |name: &str| {
        let page = place.bucket.list_page(&format!("{root}{name}"), None, Some(1)).await?;
        Ok::<_, Error>(!page.keys.is_empty())
    };
    // Any key that begins with the word would do for the first; only that one is the config.
    Ok(has("keys/").await?
        && has("config").await?
        && place.bucket.look(&format!("{root}config")).await?.is_some())
}

fn holds_repository(settings: &S3Settings, why: &str) -> Error {
    let message = format!("cannot restore into {}: {why}", settings.location());
    Error::new(ErrorKind::InvalidConfig, message)
        .with_code("target-holds-repository")
        .with_hint("restore into another bucket, or into a prefix apart from it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_neither_around_a_target_nor_in_it() {
        let refused = |target: &str, repository: &str| {
            let settings = S3Settings::new("b").with_prefix(target);
            refuse_known(&settings, &[repository.to_owned()]).is_err()
        };
        for (target, repository) in
            [("", ""), ("", "a"), ("a", ""), ("a", "a"), ("a/b", "a"), ("a", "a/b")]
        {
            assert!(refused(target, repository), "{target} {repository}");
        }
        for (target, repository) in [("a", "b"), ("ab", "a"), ("a", "ab"), ("a/b", "a/c")] {
            assert!(!refused(target, repository), "{target} {repository}");
        }
    }
}
