//! The pool of threads that chunk, hash, compress and seal.
//!
//! A fixed number of threads, so that CPU work neither blocks the I/O runtime nor grows with it. Each
//! thread keeps one compression and one decompression context for its life.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::hashing;
use crate::repo::blobs::OpenMemory;
use crate::repo::compress::{Compressor, Decompressor};

/// A handle to the threads; clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    threads: Arc<rayon_core::ThreadPool>,
    compression_level: i32,
    hashing: hashing::Queue,
}

/// What a thread of the pool keeps.
pub(crate) struct Worker {
    pub(crate) compressor: Compressor,
    pub(crate) decompressor: Decompressor,
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
        let (threads, hashing) = (Arc::new(threads), hashing::Queue::default());
        Ok(Self { threads, compression_level, hashing })
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
        result.await.unwrap_or_else(|_| Err(thread_ended()))
    }

    /// SHA-256 of each message, in order; a message is the bytes of its parts. Messages of several
    /// callers are hashed side by side, which is faster than one after the other. The callers hold
    /// the bytes, so the queue is bounded by what they may hold. Dropping the future does not stop the
    /// work.
    ///
    /// # Errors
    /// `Internal` if a thread panicked.
    pub(crate) async fn hash(&self, messages: Vec<Vec<Bytes>>) -> Result<Vec<[u8; 32]>> {
        let queue = self.hashing.clone();
        let digests = self.hashing.add(messages, || {
            self.threads.spawn(move || {
                // A panic drops the senders, so whoever waits hears of it.
                let work = std::panic::AssertUnwindSafe(|| queue.work());
                drop(std::panic::catch_unwind(work));
            });
        });
        digests.await.map_err(|_| thread_ended())
    }

    /// As [`Self::hash`], for one message.
    ///
    /// # Errors
    /// As for [`Self::hash`].
    pub(crate) async fn hash_one(&self, parts: Vec<Bytes>) -> Result<[u8; 32]> {
        self.hash(vec![parts]).await?.pop().ok_or_else(thread_ended)
    }
}

fn thread_ended() -> Error {
    Error::new(ErrorKind::Internal, "a thread of the engine ended")
}

fn with_worker<T>(level: i32, work: impl FnOnce(&mut Worker) -> Result<T>) -> Result<T> {
    WORKER.with(|slot| {
        // Taken out while it works: a panic leaves an empty slot instead of a broken context.
        let mut worker = match slot.borrow_mut().take() {
            Some((kept_level, worker)) if kept_level == level => worker,
            _ => Worker {
                compressor: Compressor::new(level)?,
                decompressor: Decompressor::new()?,
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
