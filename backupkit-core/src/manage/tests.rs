mod edit;
mod probe;
mod remove;
mod rotate;
mod secrets;
mod set_up;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{NewRepository, Workspace};
use crate::destination::{Destination, MemoryDestination};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::FieldErrors;
use crate::manage::ConnectionBody;
use crate::registry::{ConnectionSecrets, Registry, SourceContext, SystemKind, TargetContext};
use crate::repo::KeyOwner;
use crate::secret::{MasterKey, MasterKeyId, MasterKeys};
use crate::source::Source;
use crate::state::{Actor, InMemoryStore, Record, RecordKind};
use crate::target::RestoreTarget;

/// Places in memory by name: settings are `{"at": NAME, "label": TEXT}`, and only `at` says where.
/// `who` may say who asks.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryKind {
    places: Arc<Mutex<BTreeMap<String, Arc<MemoryDestination>>>>,
    /// Where tokens were sent.
    sent: Arc<Mutex<Vec<(String, String)>>>,
}

/// Keys in memory that can be replaced.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryKeys(Arc<Mutex<Vec<MasterKey>>>);

/// What outlives a process: store, keys, places.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) env: Env,
    pub(super) store: Arc<InMemoryStore>,
    pub(super) keys: MemoryKeys,
    pub(super) kind: MemoryKind,
}

impl MemoryKind {
    /// Where tokens were sent since the last call.
    pub(super) fn take_sent(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn place(&self, name: &str) -> Arc<MemoryDestination> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(name.to_owned()).or_default())
    }
}

fn field(settings: &RawValue, name: &str) -> Option<String> {
    let settings: Value = serde_json::from_str(settings.get()).ok()?;
    Some(settings.get(name)?.as_str()?.to_owned())
}

impl SystemKind for MemoryKind {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn check_settings(&self, settings: &RawValue) -> FieldErrors {
        let mut errors = FieldErrors::default();
        for name in ["at", "label"] {
            if field(settings, name).is_none() {
                errors.add(name, "is missing");
            }
        }
        errors
    }

    fn is_same_endpoint(&self, settings: &RawValue, other: &RawValue) -> bool {
        field(settings, "at") == field(other, "at")
    }

    fn secret_names(&self) -> &'static [&'static str] {
        &["token", "session"]
    }

    fn used_secrets(&self, settings: &RawValue) -> &'static [&'static str] {
        if field(settings, "who").as_deref() == Some("nobody") { &[] } else { self.secret_names() }
    }

    fn secrets_with(&self, name: &str) -> &'static [&'static str] {
        if name == "token" { &["session"] } else { &[] }
    }

    fn with_identity_of(&self, settings: &RawValue, other: &RawValue) -> Result<Box<RawValue>> {
        let mut settings: Value = serde_json::from_str(settings.get()).unwrap();
        settings["who"] = field(other, "who").into();
        Ok(serde_json::value::to_raw_value(&settings).unwrap())
    }

    fn location(&self, settings: &RawValue) -> Result<String> {
        Ok(field(settings, "at").unwrap_or_default())
    }

    fn source(&self, _: &RawValue, _: &SourceContext<'_>) -> Result<Arc<dyn Source>> {
        Err(Error::new(ErrorKind::Unsupported, "memory is no source"))
    }

    fn destination(
        &self,
        settings: &RawValue,
        secrets: &ConnectionSecrets,
        path: &str,
        _: &Env,
    ) -> Result<Arc<dyn Destination>> {
        let at = field(settings, "at").unwrap_or_default();
        if let Some(token) = secrets.get("token") {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let mut words = vec![token.expose_secret().to_owned()];
            words.extend(secrets.get("session").map(|session| session.expose_secret().to_owned()));
            words.extend(field(settings, "who").map(|who| format!("of {who}")));
            sent.push((at.clone(), words.join(" ")));
        }
        Ok(self.place(&format!("{at}/{path}")))
    }

    fn target(&self, _: &RawValue, _: &TargetContext<'_>) -> Result<Arc<dyn RestoreTarget>> {
        Err(Error::new(ErrorKind::Unsupported, "memory is no target"))
    }
}

#[async_trait]
impl MasterKeys for MemoryKeys {
    async fn load(&self) -> Result<Vec<MasterKey>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn how_to_replace(&self) -> Option<String> {
        None
    }

    async fn replace(&self, expected: &[MasterKeyId], keys: &[MasterKey]) -> Result<()> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(kept.iter().map(MasterKey::id).collect::<Vec<_>>(), expected);
        *kept = keys.to_vec();
        Ok(())
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        let env = Env::system();
        let store = Arc::new(InMemoryStore::new(&env));
        let key = MasterKey::generate(&env).unwrap();
        let keys = MemoryKeys(Arc::new(Mutex::new(vec![key])));
        Self { env, store, keys, kind: MemoryKind::default() }
    }

    /// As a new process opens it.
    pub(super) async fn open(&self) -> Result<Workspace> {
        self.open_with(Arc::new(self.keys.clone())).await
    }

    pub(super) async fn open_with(&self, keys: Arc<dyn MasterKeys>) -> Result<Workspace> {
        let registry = Registry::default().with(self.kind.clone());
        let actor = Actor::new("test").unwrap();
        let store = Arc::clone(&self.store);
        Workspace::open(store, keys, registry, &self.env, actor).await
    }
}

pub(super) fn settings(at: &str, label: &str) -> Arc<RawValue> {
    let json = serde_json::json!({ "at": at, "label": label }).to_string();
    RawValue::from_string(json).unwrap().into()
}

/// Settings that say who asks.
pub(super) fn settings_of(at: &str, who: &str) -> Arc<RawValue> {
    let json = serde_json::json!({ "at": at, "label": "", "who": who }).to_string();
    RawValue::from_string(json).unwrap().into()
}

pub(super) async fn add_connection(workspace: &Workspace, name: &str) -> Record {
    workspace
        .add_connection(name, &ConnectionBody::new("memory", settings(name, "")))
        .await
        .unwrap()
}

pub(super) async fn add_repository(workspace: &Workspace, name: &str, at: &str) -> Record {
    let password = Some(SecretString::from(format!("password of {name}")));
    let owner = KeyOwner::default();
    let new = NewRepository { name, connection: at, path: name, password, owner };
    workspace.add_repository(new).await.unwrap().record
}

/// Web servers run each request as a task of its own.
#[tokio::test]
async fn what_a_workspace_does_can_be_done_in_a_task() {
    fn is_send<T: Send>(_: T) {}
    let workspace = Scene::new().open().await.unwrap();
    is_send(workspace.update_connection("", None, super::ConnectionChange::default()));
    is_send(workspace.update_repository("", None, super::RepositoryChange::default()));
    is_send(workspace.update_plan("", None, super::PlanChange::default()));
    is_send(workspace.remove(RecordKind::Plan, ""));
    is_send(workspace.test_repository(""));
    is_send(workspace.rotate_master_key());
    is_send(workspace.export_config());
}
