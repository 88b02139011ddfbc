//! The one door through which time, time zone and randomness enter.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, ErrorKind, Result};
use crate::scratch::{Scratch, Tuning};

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the wall-clock time.
    fn now(&self) -> Timestamp;
    /// Returns the time since boot, sleep included, for measuring how long something took.
    fn elapsed_since_boot(&self) -> Duration;
    /// Returns what tells this boot from all others, so that times since boot of one are not compared
    /// with those of another. Empty if nothing does.
    fn boot_id(&self) -> Arc<str> {
        "".into()
    }
    /// Waits. Cancel safe.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Gives random bytes fit for keys.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// `Unavailable` if the system has no randomness to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

/// Where temporary files are large, and not in memory.
const TEMPORARY_FOLDER: &str = "/var/tmp";

/// Clock, randomness, time zone and temporary files of an engine.
#[derive(Debug, Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    time_zone: TimeZone,
    temporary_folder: Arc<Path>,
}

impl Env {
    /// Returns the environment of the operating system.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            time_zone: system_time_zone(),
            temporary_folder: Path::new(TEMPORARY_FOLDER).into(),
        }
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the source of randomness.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Replaces the time zone in which times are written.
    #[must_use]
    pub fn with_time_zone(mut self, time_zone: TimeZone) -> Self {
        self.time_zone = time_zone;
        self
    }

    /// Replaces the folder for [`Self::temporary_file`]; `/var/tmp` without this. It is made if it is
    /// missing.
    #[must_use]
    pub fn with_temporary_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.temporary_folder = folder.as_ref().into();
        self
    }

    /// Creates a file without a name, which only this user can read, for what does not fit into memory.
    /// It goes when it is closed, also by a crash. Blocks.
    ///
    /// # Errors
    /// The system's, with the folder and what to do.
    pub fn temporary_file(&self) -> Result<Arc<File>> {
        let scratch = Scratch::new(&self.temporary_folder, self, Tuning::default())?;
        Ok(Arc::clone(scratch.create()?.file()))
    }

    /// The wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The time zone in which times are written.
    pub fn time_zone(&self) -> &TimeZone {
        &self.time_zone
    }

    /// Returns `N` random bytes.
    pub fn random<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }
}

impl Default for Env {
    fn default() -> Self {
        Self::system()
    }
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed_since_boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        )
    }

    fn boot_id(&self) -> Arc<str> {
        static BOOT_ID: LazyLock<Arc<str>> = LazyLock::new(|| {
            let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            read.unwrap_or_default().trim().into()
        });
        Arc::clone(&BOOT_ID)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[derive(Debug)]
struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "cannot get random bytes from the system")
                .with_source(error)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn system_time_zone() -> TimeZone {
    TimeZone::system()
}
/// Waits for an answer, but not for longer than `limit`.
///
/// # Errors
/// `Timeout` if none came; else those of `call`.
pub(crate) async fn within<T>(
    clock: &Arc<dyn Clock>,
    limit: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        answer = call => answer,
        () = clock.sleep(limit) => Err(Error::new(
            ErrorKind::Timeout,
            format!("no answer within {} s", limit.as_secs()),
        )),
    }
}
