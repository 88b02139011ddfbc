//! The repositories of a backup: opened, or made if asked for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use backupkit_core::destination::Destination;
use backupkit_core::repo::{InitOptions, Repository};
use backupkit_core::{Error, ErrorKind, Result};
use secrecy::SecretString;

use crate::app::{App, no_repository};
use crate::cli::BackupArguments;
use crate::exit::usage;
use crate::output::format;
use crate::password::Purpose;
use crate::uri;

/// Where a repository is or will be.
pub(super) struct Place {
    /// The folder that it is in; nothing for one elsewhere.
    pub(super) folder: Option<PathBuf>,
    destination: Arc<dyn Destination>,
}

/// What came of opening one.
pub(super) struct Opened {
    /// An address that works from every folder.
    pub(super) address: OsString,
    pub(super) location: String,
    pub(super) result: Result<Repository>,
}

/// # Errors
/// For an address that is wrong, or named twice.
pub(super) fn places(app: &App<'_>, addresses: &[OsString]) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    for address in addresses {
        let folder = match uri::place(address)? {
            uri::Place::Folder(folder) => Some(folder),
            #[cfg(feature = "s3")]
            uri::Place::Bucket(_) => None,
        };
        let destination = app.destination(address)?;
        let is_same = |place: &Place| match (&place.folder, &folder) {
            (Some(one), Some(other)) => one == other,
            (None, None) => place.destination.location() == destination.location(),
            _ => false,
        };
        if places.iter().any(is_same) {
            return Err(usage(format!("{} is named twice", destination.location())));
        }
        places.push(Place { folder, destination });
    }
    Ok(places)
}

/// Opens or makes each repository. One that fails does not keep the others from being used.
///
/// # Errors
/// The first failure, if not one can be used. A password that does not open what is there makes
/// nothing new: it may be mistyped.
pub(super) async fn open(
    app: &App<'_>,
    arguments: &BackupArguments,
    places: &[Place],
) -> Result<Vec<Opened>> {
    // Nobody is asked for a password if there is nothing to open.
    let mut exist = Vec::with_capacity(places.len());
    for place in places {
        exist.push(match Repository::exists(&*place.destination).await {
            Ok(false) if !arguments.init => Err(no_repository(&*place.destination)),
            result => result,
        });
    }
    if exist.iter().all(Result::is_err) {
        return Err(exist.into_iter().find_map(Result::err).unwrap_or_else(Error::cancelled));
    }
    let is_new = |exists: &Result<bool>| matches!(exists, Ok(false));
    let makes = exist.iter().any(is_new);
    let password = app.password(if makes { Purpose::Create } else { Purpose::Open })?;
    let mut results: Vec<Option<Result<Repository>>> = Vec::with_capacity(places.len());
    for (place, exists) in places.iter().zip(exist) {
        results.push(match exists {
            Ok(true) => {
                let destination = Arc::clone(&place.destination);
                match Repository::open(destination, &password, &app.env).await {
                    Err(error) if makes && error.is(ErrorKind::WrongPassword) => return Err(error),
                    opened => Some(opened),
                }
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        });
    }
    let mut first = results.iter().flatten().find_map(|result| result.as_ref().ok()).cloned();
    let mut opened = Vec::with_capacity(places.len());
    for (place, result) in places.iter().zip(results) {
        let result = if let Some(result) = result {
            result
        } else {
            let shared = first.clone().filter(|_| !arguments.own_polynomial);
            make(app, place, &password, shared).await
        };
        if first.is_none() {
            first = result.as_ref().ok().cloned();
        }
        let location = place.destination.location();
        let address = match &place.folder {
            Some(folder) => folder.clone().into_os_string(),
            None => location.clone().into(),
        };
        opened.push(Opened { address, location, result });
    }
    if first.is_none() {
        let failed = opened.into_iter().find_map(|opened| opened.result.err());
        return Err(failed.unwrap_or_else(Error::cancelled));
    }
    Ok(opened)
}

async fn make(
    app: &App<'_>,
    place: &Place,
    password: &SecretString,
    polynomial_of: Option<Repository>,
) -> Result<Repository> {
    let options = InitOptions { polynomial_of, owner: app.key_owner() };
    let destination = Arc::clone(&place.destination);
    let repository = Repository::init(destination, password, options, &app.env).await?;
    let location = format::one_line(&repository.location());
    app.output.note(format!("made a repository at {location}; keep its password"));
    Ok(repository)
}
