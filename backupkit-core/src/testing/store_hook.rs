//! A state store that asks a test before and after each call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::error::Result;
use crate::model::{PackId, RunInput, Wanted};
use crate::secret::MasterKeyId;
use crate::state::{
    Actor, Catalogue, Change, Checkpoints, Claim, Draft, Lease, LeaseRef, Leases, LogFilter,
    LogLine, Logs, NewLogLine, NewRun, Record, RecordId, RecordKind, RecordRef, Renewal, Report,
    Run, RunFilter, RunId, Runs, Scope, SealedOutput, Settings, StateStore, WorkerId,
};

/// What happens around the calls of a [`HookedStore`]. Calls go by the names of their methods.
#[async_trait]
pub trait StoreHook: fmt::Debug + Send + Sync + 'static {
    /// Before a call does anything. An error is what the call returns.
    async fn before(&self, call: &'static str) -> Result<()> {
        let _ = call;
        Ok(())
    }

    /// After a call has succeeded. An error is what the caller gets instead: a lost reply.
    async fn after(&self, call: &'static str) -> Result<()> {
        let _ = call;
        Ok(())
    }
}

/// A state store that fails, waits or dies where its hook does.
#[derive(Debug, Clone)]
pub struct HookedStore {
    store: Arc<dyn StateStore>,
    hook: Arc<dyn StoreHook>,
}

impl HookedStore {
    /// Returns a store that does what `store` does, and asks the hook before and after.
    pub fn new(store: Arc<dyn StateStore>, hook: Arc<dyn StoreHook>) -> Self {
        Self { store, hook }
    }

    async fn around<T: Send>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.hook.before(call).await?;
        let done = work.await?;
        self.hook.after(call).await?;
        Ok(done)
    }
}

#[async_trait]
impl Catalogue for HookedStore {
    async fn create(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        draft: Draft,
    ) -> Result<Record> {
        self.around("create", self.store.create(scope, actor, itself, draft)).await
    }

    async fn update(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
        draft: Draft,
    ) -> Result<Record> {
        self.around("update", self.store.update(scope, actor, itself, revision, draft)).await
    }

    async fn delete(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
    ) -> Result<()> {
        self.around("delete", self.store.delete(scope, actor, itself, revision)).await
    }

    async fn get(&self, scope: &Scope, itself: RecordRef) -> Result<Option<Record>> {
        self.around("get", self.store.get(scope, itself)).await
    }

    async fn find(&self, scope: &Scope, kind: RecordKind, name: &str) -> Result<Option<Record>> {
        self.around("find", self.store.find(scope, kind, name)).await
    }

    async fn list(
        &self,
        scope: &Scope,
        kind: RecordKind,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<Record>> {
        self.around("list", self.store.list(scope, kind, after, most)).await
    }

    async fn users(&self, scope: &Scope, itself: RecordRef) -> Result<Vec<Record>> {
        self.around("users", self.store.users(scope, itself)).await
    }

    async fn changes(&self, scope: &Scope, after: u64, most: usize) -> Result<Vec<Change>> {
        self.around("changes", self.store.changes(scope, after, most)).await
    }

    async fn sealing_key(&self) -> Result<Option<MasterKeyId>> {
        self.around("sealing_key", self.store.sealing_key()).await
    }

    async fn swap_sealing_key(
        &self,
        expected: Option<MasterKeyId>,
        key: MasterKeyId,
    ) -> Result<bool> {
        self.around("swap_sealing_key", self.store.swap_sealing_key(expected, key)).await
    }

    async fn sealed(&self, after: Option<RecordId>, most: usize) -> Result<Vec<(Scope, Record)>> {
        self.around("sealed", self.store.sealed(after, most)).await
    }
}

#[async_trait]
impl Runs for HookedStore {
    async fn create_run(&self, scope: &Scope, actor: &Actor, run: NewRun) -> Result<Run> {
        self.around("create_run", self.store.create_run(scope, actor, run)).await
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        self.around("run", self.store.run(scope, id)).await
    }

    async fn runs(
        &self,
        scope: &Scope,
        filter: &RunFilter,
        before: Option<u64>,
        most: usize,
    ) -> Result<Vec<Run>> {
        self.around("runs", self.store.runs(scope, filter, before, most)).await
    }

    async fn ask(&self, scope: &Scope, actor: &Actor, id: RunId, wanted: Wanted) -> Result<Run> {
        self.around("ask", self.store.ask(scope, actor, id, wanted)).await
    }

    async fn mend(&self, scope: &Scope, id: RunId) -> Result<Run> {
        self.around("mend", self.store.mend(scope, id)).await
    }

    async fn remove_ended(
        &self,
        scope: &Scope,
        before: Timestamp,
        most: usize,
    ) -> Result<Vec<RunId>> {
        self.around("remove_ended", self.store.remove_ended(scope, before, most)).await
    }

    async fn version(&self) -> Result<u64> {
        self.around("version", self.store.version()).await
    }
}

#[async_trait]
impl Leases for HookedStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Lease>> {
        self.around("claim", self.store.claim(claim)).await
    }

    async fn renew(
        &self,
        lease: &LeaseRef,
        time: Duration,
        progress: Option<Arc<RawValue>>,
    ) -> Result<Renewal> {
        self.around("renew", self.store.renew(lease, time, progress)).await
    }

    async fn renewal(&self, lease: &LeaseRef) -> Result<Renewal> {
        self.around("renewal", self.store.renewal(lease)).await
    }

    async fn report(&self, lease: &LeaseRef, input: RunInput, report: Report) -> Result<Run> {
        self.around("report", self.store.report(lease, input, report)).await
    }

    async fn holders(&self) -> Result<Vec<WorkerId>> {
        self.around("holders", self.store.holders()).await
    }

    async fn sweep(&self, dead: &[WorkerId], most: usize) -> Result<usize> {
        self.around("sweep", self.store.sweep(dead, most)).await
    }
}

#[async_trait]
impl Checkpoints for HookedStore {
    async fn save_checkpoint(
        &self,
        lease: &LeaseRef,
        part: u32,
        checkpoint: Bytes,
        reach: u64,
    ) -> Result<()> {
        self.around("save_checkpoint", self.store.save_checkpoint(lease, part, checkpoint, reach))
            .await
    }

    async fn load_checkpoint(&self, lease: &LeaseRef, part: u32) -> Result<Option<Bytes>> {
        self.around("load_checkpoint", self.store.load_checkpoint(lease, part)).await
    }

    async fn record_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
        packs: &[PackId],
    ) -> Result<()> {
        self.around("record_packs", self.store.record_packs(lease, part, repository_id, packs))
            .await
    }

    async fn recorded_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
    ) -> Result<Vec<PackId>> {
        self.around("recorded_packs", self.store.recorded_packs(lease, part, repository_id)).await
    }

    async fn record_outputs(
        &self,
        lease: &LeaseRef,
        part: u32,
        outputs: &[SealedOutput],
    ) -> Result<()> {
        self.around("record_outputs", self.store.record_outputs(lease, part, outputs)).await
    }

    async fn recorded_outputs(&self, lease: &LeaseRef, part: u32) -> Result<Vec<SealedOutput>> {
        self.around("recorded_outputs", self.store.recorded_outputs(lease, part)).await
    }

    async fn set_adapter_value(
        &self,
        lease: &LeaseRef,
        part: u32,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<()> {
        let call = self.store.set_adapter_value(lease, part, key, value);
        self.around("set_adapter_value", call).await
    }

    async fn adapter_values(
        &self,
        lease: &LeaseRef,
        part: u32,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        let call = self.store.adapter_values(lease, part, prefix, after, most);
        self.around("adapter_values", call).await
    }
}

#[async_trait]
impl Logs for HookedStore {
    async fn append_logs(&self, lease: &LeaseRef, lines: &[NewLogLine]) -> Result<u64> {
        self.around("append_logs", self.store.append_logs(lease, lines)).await
    }

    async fn logs(
        &self,
        scope: &Scope,
        run: RunId,
        filter: &LogFilter,
        after: u64,
        most: usize,
    ) -> Result<Vec<LogLine>> {
        self.around("logs", self.store.logs(scope, run, filter, after, most)).await
    }

    async fn remove_logs(&self, scope: &Scope, ended_before: Timestamp) -> Result<u64> {
        self.around("remove_logs", self.store.remove_logs(scope, ended_before)).await
    }
}

#[async_trait]
impl Settings for HookedStore {
    async fn setting(&self, name: &str) -> Result<Option<String>> {
        self.around("setting", self.store.setting(name)).await
    }

    async fn swap_setting(
        &self,
        name: &str,
        expected: Option<&str>,
        value: Option<&str>,
    ) -> Result<bool> {
        self.around("swap_setting", self.store.swap_setting(name, expected, value)).await
    }
}
