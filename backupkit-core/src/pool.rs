//! The pool of threads that chunk, hash, compress and seal.
//!
//! A fixed number of threads, so that CPU work neither blocks the I/O runtime nor grows with it. Each
//! thread keeps one compression and one decompression context for its life.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::repo::blobs::OpenMemory;
use crate::repo::compress::{Compressor, Decompressor};

/// A handle to the threads; clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    threads: Arc<rayon_core::ThreadPool>,
    compression_level: i32,
}

/// What a thread of the pool keeps.
pub(crate) struct Worker {
    pub(crate) compressor: Compressor,
    pub(crate) decompressor: Decompressor,
    /// Memory for what is needed for a moment.
    pub(crate) scratch: Vec<u8>,
    /// Memory to open blobs in.
    pub(crate) opening: OpenMemory,
}

thread_local! {
    static WORKER: RefCell<Option<(i32, Worker)>> = const { RefCell::new(None) };
}

impl Pool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// `Unavailable` if the system has no threads to give.
    pub(crate) fn new(threads: usize, compression_level: i32) -> Result<Self> {
        let threads = rayon_core::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("backupkit-cpu-{index}"))
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "cannot start the threads of the engine")
                    .with_source(error)
            })?;
        Ok(Self { threads: Arc::new(threads), compression_level })
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `work` on a thread of the pool. The callers hold parts of the budget, so the queue is
    /// bounded by it. Dropping the future does not stop the work.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, result) = oneshot::channel();
        let level = self.compression_level;
        self.threads.spawn(move || {
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| with_worker(level, work)));
            let outcome = outcome.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, "a thread of the engine panicked"))
            });
            // The asker may be gone: its run was cancelled.
            drop(reply.send(outcome));
        });
        result.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "a thread of the engine ended"))
        })
    }
}

fn with_worker<T>(level: i32, work: impl FnOnce(&mut Worker) -> Result<T>) -> Result<T> {
    WORKER.with(|slot| {
        // Taken out while it works: a panic leaves an empty slot instead of a broken context.
        let mut worker = match slot.borrow_mut().take() {
            Some((kept_level, worker)) if kept_level == level => worker,
            _ => Worker {
                compressor: Compressor::new(level)?,
                decompressor: Decompressor::new()?,
                scratch: Vec::new(),
                opening: OpenMemory::default(),
            },
        };
        let result = work(&mut worker);
        slot.borrow_mut().replace((level, worker));
        result
    })
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}
