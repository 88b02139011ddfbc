//! Who asks.
//!
//! Keys that are lent for a time come by requests of our own. `aws-config` would bring 42 000 lines
//! (half of them a client of STS) for these few, reads the environment by default, and knows nothing
//! of our clocks, proxies and errors.

mod instance;
mod lent;
mod provider;
mod sts;
pub(super) mod web;

use std::path::PathBuf;

use secrecy::SecretString;

pub(super) use self::instance::wrong_container;
pub(super) use self::provider::Provider;
use super::settings::S3Settings;
use crate::env::Env;

/// Who asks. It is always said; nothing is looked for in the surroundings, and what was said is never
/// replaced by something else.
///
/// Keys that are lent for a time are asked for again before that is over, and when they are refused.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum S3Credentials {
    /// A key.
    Keys {
        /// The public part.
        access_key_id: String,
        /// The secret part.
        secret_access_key: SecretString,
        /// What goes with a key that is lent for a time.
        session_token: Option<SecretString>,
    },
    /// A profile in a shared file of credentials. The file is read again every five minutes, and when
    /// its key is refused.
    Profile {
        /// The file.
        file: PathBuf,
        /// The profile in it.
        profile: String,
    },
    /// A role that somebody else takes on: STS `AssumeRole`.
    AssumedRole {
        /// Who takes it on. Neither nobody nor another role.
        base: Box<Self>,
        /// The role.
        role: S3Role,
    },
    /// A role for who holds a token of an identity provider: STS `AssumeRoleWithWebIdentity`. The file
    /// is read anew each time.
    WebIdentity {
        /// The file with the token.
        token_file: PathBuf,
        /// The role.
        role: S3Role,
    },
    /// The role of the machine, as version 2 of the metadata service of EC2 tells it.
    Instance {
        /// The address of the service; without one `http://169.254.169.254`. It is never asked through
        /// a proxy.
        endpoint: Option<String>,
    },
    /// The role of the container, as ECS and EKS tell it.
    Container {
        /// Where to ask. It is never asked through a proxy.
        endpoint: String,
        /// A file with what goes along as `Authorization`.
        token_file: Option<PathBuf>,
    },
    /// Nobody: requests are not signed.
    Anonymous,
}

/// A role to take on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct S3Role {
    /// Its name, such as `arn:aws:iam::123456789012:role/backup`.
    pub arn: String,
    /// What logs of the account call the session.
    pub session_name: String,
    /// What the account wants to hear from outsiders.
    pub external_id: Option<String>,
    /// The address of STS. Without one that of the region at AWS; for other servers the server itself.
    pub sts_endpoint: Option<String>,
}

impl S3Role {
    /// The name of sessions that are given none.
    pub const DEFAULT_SESSION_NAME: &'static str = "backupkit";

    /// Returns a role.
    pub fn new(arn: impl Into<String>) -> Self {
        Self {
            arn: arn.into(),
            session_name: Self::DEFAULT_SESSION_NAME.to_owned(),
            external_id: None,
            sts_endpoint: None,
        }
    }

    /// Names the session.
    #[must_use]
    pub fn with_session_name(mut self, name: impl Into<String>) -> Self {
        self.session_name = name.into();
        self
    }

    /// Says what the account wants to hear from outsiders.
    #[must_use]
    pub fn with_external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// Names the address of STS.
    #[must_use]
    pub fn with_sts_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.sts_endpoint = Some(endpoint.into());
        self
    }
}

impl S3Credentials {
    /// Returns a key without a session.
    pub fn keys(
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<SecretString>,
    ) -> Self {
        Self::Keys {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
        }
    }

    /// What gives them to the client; nothing for nobody. Nothing is read or sent yet.
    pub(super) fn provider(&self, settings: &S3Settings, env: &Env) -> Option<Provider> {
        match self {
            Self::Anonymous => None,
            given => Some(Provider::new(given.clone(), settings, env)),
        }
    }
}
