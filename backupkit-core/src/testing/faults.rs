//! A destination that fails as planned.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;

use super::{PausePoint, lock};
use crate::destination::{
    Destination, DestinationCapabilities, Extension, Leftovers, ObjectKey, ObjectMeta, Payload,
    Undeleted, note_deleted,
};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::probe::Probe;

/// The kinds of calls that a destination gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the methods of the trait")]
pub enum Operation {
    Check,
    Create,
    Get,
    Stat,
    List,
    Delete,
    Swap,
    Time,
    ExtendRetention,
    RemoveAbandoned,
}

/// One call that a destination got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which method.
    pub operation: Operation,
    /// The key or prefix, where the method has one.
    pub key: Option<ObjectKey>,
}

/// Something that goes wrong: which calls, and how.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Option<Operation>,
    prefix: Option<String>,
    first: u64,
    count: u64,
    effect: Effect,
}

#[derive(Debug, Clone)]
enum Effect {
    Fail(ErrorKind, Option<Retry>),
    LoseReply(ErrorKind, Option<Retry>),
    Pause(PausePoint),
    PauseReply(PausePoint),
    FlipBit,
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self { operation: None, prefix: None, first: 1, count: 1, effect }
    }

    /// The call fails and does nothing.
    pub fn fail(kind: ErrorKind) -> Self {
        Self::new(Effect::Fail(kind, None))
    }

    /// The call does its work and then fails. A listing gives its objects and then fails.
    pub fn lose_reply(kind: ErrorKind) -> Self {
        Self::new(Effect::LoseReply(kind, None))
    }

    /// The call waits at this point before it does anything.
    pub fn pause(point: &PausePoint) -> Self {
        Self::new(Effect::Pause(point.clone()))
    }

    /// The call does its work and waits at this point before it returns.
    pub fn pause_reply(point: &PausePoint) -> Self {
        Self::new(Effect::PauseReply(point.clone()))
    }

    /// The call never returns.
    pub fn hang() -> Self {
        Self::pause(&PausePoint::new())
    }

    /// A `get` returns one bit other than what is stored. Does nothing to other calls.
    pub fn flip_bit() -> Self {
        Self::new(Effect::FlipBit)
    }

    /// Only calls of this kind.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only calls whose key starts with this text, such as `data/`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// From the `k`-th matching call on, counted from 1 when the fault is added. The first by default.
    #[must_use]
    pub fn at_call(mut self, k: u64) -> Self {
        self.first = k.max(1);
        self
    }

    /// This many matching calls in a row. One by default.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// All matching calls.
    #[must_use]
    pub fn forever(self) -> Self {
        self.times(u64::MAX)
    }

    /// The error advises this.
    #[must_use]
    pub fn with_retry(mut self, advice: Retry) -> Self {
        if let Effect::Fail(_, retry) | Effect::LoseReply(_, retry) = &mut self.effect {
            *retry = Some(advice);
        }
        self
    }

    fn matches(&self, call: &Call) -> bool {
        let key = call.key.as_ref().map_or("", ObjectKey::as_str);
        self.operation.is_none_or(|only| only == call.operation)
            && self.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_str()))
    }
}

/// What goes wrong when. Clones are the same plan, so a test keeps one and gives the other away.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    faults: Vec<(Fault, u64)>,
    counts: BTreeMap<Operation, u64>,
    calls: u64,
    /// The last call that still does its work, and whether its reply arrives.
    last_call: Option<(u64, bool)>,
    log: Option<Vec<Call>>,
    is_slowed_down: bool,
}

impl FaultPlan {
    /// Returns a plan in which nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault. Of several that concern a call, the first one added counts.
    pub fn add(&self, fault: Fault) {
        lock(&self.0).faults.push((fault, 0));
    }

    /// Removes all faults and the plan to die, and lets the dead live again.
    pub fn clear(&self) {
        let mut state = lock(&self.0);
        state.faults.clear();
        state.last_call = None;
    }

    /// After `k` calls in all, every further call fails, as if the process had died. With a `k` that
    /// is over: at once.
    pub fn die_after(&self, k: u64) {
        lock(&self.0).last_call = Some((k, true));
    }

    /// The `k`-th call does its work, but its caller never learns of it; every further call fails.
    pub fn die_during(&self, k: u64) {
        lock(&self.0).last_call = Some((k, false));
    }

    /// Whether the destination asks for fewer requests from now on. It only says so.
    pub fn set_slowed_down(&self, is_slowed_down: bool) {
        lock(&self.0).is_slowed_down = is_slowed_down;
    }

    /// Whether the planned death has come.
    pub fn is_dead(&self) -> bool {
        let state = lock(&self.0);
        state
            .last_call
            .is_some_and(|(last, replies)| state.calls > last || (state.calls == last && !replies))
    }

    /// How many calls there were, also those that failed.
    pub fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    /// How many calls of one kind there were.
    pub fn calls_of(&self, operation: Operation) -> u64 {
        let state = lock(&self.0);
        state.counts.get(&operation).copied().unwrap_or_default()
    }

    /// Starts to keep every call in order, for [`Self::log`].
    pub fn record(&self) {
        lock(&self.0).log = Some(Vec::new());
    }

    /// The calls since [`Self::record`], those that failed included.
    pub fn log(&self) -> Vec<Call> {
        lock(&self.0).log.clone().unwrap_or_default()
    }

    fn begin(&self, operation: Operation, key: Option<&ObjectKey>) -> Option<Effect> {
        let call = Call { operation, key: key.cloned() };
        let mut state = lock(&self.0);
        state.calls += 1;
        *state.counts.entry(operation).or_default() += 1;
        let mut effect = None;
        for (fault, seen) in &mut state.faults {
            if fault.matches(&call) {
                *seen += 1;
                let active = fault.first..fault.first.saturating_add(fault.count);
                if effect.is_none() && active.contains(seen) {
                    effect = Some(fault.effect.clone());
                }
            }
        }
        if let Some((last, replies)) = state.last_call {
            if state.calls > last {
                effect = Some(Effect::Fail(ErrorKind::Unavailable, Some(Retry::Never)));
            } else if state.calls == last && !replies {
                effect = Some(Effect::LoseReply(ErrorKind::Unavailable, Some(Retry::Never)));
            }
        }
        if let Some(log) = &mut state.log {
            log.push(call);
        }
        effect
    }
}

/// Makes a [`Destination`] fail as its [`FaultPlan`] says.
#[derive(Debug, Clone)]
pub struct FaultDestination {
    inner: Arc<dyn Destination>,
    plan: FaultPlan,
}

impl FaultDestination {
    /// Wraps a destination.
    pub fn new(inner: Arc<dyn Destination>, plan: &FaultPlan) -> Self {
        Self { inner, plan: plan.clone() }
    }

    /// Makes a call and whatever goes wrong with it. Nothing happens before the first poll.
    async fn call<T>(
        &self,
        operation: Operation,
        key: Option<&ObjectKey>,
        work: impl Future<Output = Result<T>>,
        corrupt: impl FnOnce(T) -> T,
    ) -> Result<T> {
        suffer(self.plan.begin(operation, key), work, corrupt).await
    }
}

/// Does some work, and what goes wrong with it.
async fn suffer<T>(
    effect: Option<Effect>,
    work: impl Future<Output = Result<T>>,
    corrupt: impl FnOnce(T) -> T,
) -> Result<T> {
    match effect {
        None => work.await,
        Some(Effect::Fail(kind, retry)) => Err(planned(kind, retry)),
        Some(Effect::LoseReply(kind, retry)) => {
            work.await?;
            Err(planned(kind, retry))
        }
        Some(Effect::Pause(point)) => {
            point.pass().await;
            work.await
        }
        Some(Effect::PauseReply(point)) => {
            let reply = work.await;
            point.pass().await;
            reply
        }
        Some(Effect::FlipBit) => work.await.map(corrupt),
    }
}

fn planned(kind: ErrorKind, retry: Option<Retry>) -> Error {
    let error = Error::new(kind, "planned fault").with_code("planned-fault");
    match retry {
        Some(retry) => error.with_retry(retry),
        None => error,
    }
}

fn flip_middle_bit(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

fn same<T>(value: T) -> T {
    value
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for FaultDestination {
    fn capabilities(&self) -> DestinationCapabilities {
        self.inner.capabilities()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_slowed_down(&self) -> bool {
        lock(&self.plan.0).is_slowed_down || self.inner.is_slowed_down()
    }

    async fn check(&self) -> Result<Probe> {
        self.call(Operation::Check, None, self.inner.check(), same).await
    }

    async fn create(&self, key: &ObjectKey, payload: Payload) -> Result<()> {
        let work = self.inner.create(key, payload);
        self.call(Operation::Create, Some(key), work, same).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        let work = self.inner.get(key, range);
        let corrupt = |bytes| flip_middle_bit(&bytes);
        self.call(Operation::Get, Some(key), work, corrupt).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.call(Operation::Stat, Some(key), self.inner.stat(key), same).await
    }

    fn list(&self, prefix: &ObjectKey) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.clone());
        // The call begins when its reader does.
        stream::once(async move {
            let objects = this.inner.list(&prefix);
            let plan = this.plan.clone();
            // A process that dies in the middle of a listing sees no more of it.
            let objects = objects.map(move |object| {
                if plan.is_dead() {
                    Err(planned(ErrorKind::Unavailable, Some(Retry::Never)))
                } else {
                    object
                }
            });
            match this.plan.begin(Operation::List, Some(&prefix)) {
                None | Some(Effect::FlipBit) => objects.boxed(),
                Some(Effect::Fail(kind, retry)) => failed(kind, retry),
                Some(Effect::LoseReply(kind, retry)) => objects.chain(failed(kind, retry)).boxed(),
                Some(Effect::Pause(point)) => {
                    point.pass().await;
                    objects.boxed()
                }
                Some(Effect::PauseReply(point)) => {
                    let end = stream::once(async move {
                        point.pass().await;
                        stream::empty()
                    });
                    objects.chain(end.flatten()).boxed()
                }
            }
        })
        .flatten()
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.call(Operation::Delete, Some(key), self.inner.delete(key), same).await
    }

    /// Each object is a call: those before one that fails are gone, as where each is deleted by itself.
    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<Vec<Undeleted>> {
        let (mut fine, mut undeleted) = (Vec::new(), Vec::new());
        for key in keys {
            let Some(effect) = self.plan.begin(Operation::Delete, Some(key)) else {
                fine.push(key.clone());
                continue;
            };
            undeleted.extend(self.inner.delete_many(&std::mem::take(&mut fine)).await?);
            let deleted = suffer(Some(effect), self.inner.delete(key), same).await;
            note_deleted(key.clone(), deleted, &mut undeleted)?;
        }
        undeleted.extend(self.inner.delete_many(&fine).await?);
        Ok(undeleted)
    }

    fn as_of(&self, time: Timestamp) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(Self { inner: self.inner.as_of(time)?, plan: self.plan.clone() }))
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        self.call(Operation::Time, None, self.inner.time(), same).await
    }

    async fn extend_retention(&self, key: &ObjectKey, dry_run: bool) -> Result<Extension> {
        let work = self.inner.extend_retention(key, dry_run);
        self.call(Operation::ExtendRetention, Some(key), work, same).await
    }

    async fn remove_abandoned(
        &self,
        prefix: &ObjectKey,
        unchanged_for: Duration,
        dry_run: bool,
    ) -> Result<Leftovers> {
        let work = self.inner.remove_abandoned(prefix, unchanged_for, dry_run);
        self.call(Operation::RemoveAbandoned, Some(prefix), work, same).await
    }

    async fn swap(&self, key: &ObjectKey, expected: Option<Bytes>, bytes: Bytes) -> Result<()> {
        let work = self.inner.swap(key, expected, bytes);
        self.call(Operation::Swap, Some(key), work, same).await
    }
}

fn failed(kind: ErrorKind, retry: Option<Retry>) -> BoxStream<'static, Result<ObjectMeta>> {
    stream::once(async move { Err(planned(kind, retry)) }).boxed()
}
