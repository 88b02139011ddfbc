//! Messages that wait for a thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::compress::MAX_LANES;
use super::hash_all;

/// The messages of all who hash. Clones share them. Whoever adds some bounds how many there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Place, Vec<Bytes>)>,
    /// Threads that hash, or will as soon as they can.
    threads: usize,
}

/// Where the digest of a message belongs.
#[derive(Debug)]
struct Place {
    request: Arc<Mutex<Request>>,
    number: usize,
}

/// Messages whose digests are wanted together.
#[derive(Debug)]
struct Request {
    digests: Vec<[u8; 32]>,
    missing: usize,
    reply: Option<oneshot::Sender<Vec<[u8; 32]>>>,
}

impl Queue {
    /// Adds messages; each is the bytes of its parts in order. The digests come in the same order.
    /// `start` is called if one more thread should run [`Self::work`].
    pub(crate) fn add(
        &self,
        messages: Vec<Vec<Bytes>>,
        start: impl FnOnce(),
    ) -> oneshot::Receiver<Vec<[u8; 32]>> {
        let (reply, digests) = oneshot::channel();
        let count = messages.len();
        if count == 0 {
            drop(reply.send(Vec::new()));
            return digests;
        }
        let request = Request { digests: vec![[0; 32]; count], missing: count, reply: Some(reply) };
        let request = Arc::new(Mutex::new(request));
        let mut state = self.state();
        for (number, parts) in messages.into_iter().enumerate() {
            state.waiting.push_back((Place { request: Arc::clone(&request), number }, parts));
        }
        // Threads that share too few messages would each be slow.
        let needs_thread = state.threads == 0 || state.waiting.len() > state.threads * MAX_LANES;
        state.threads += usize::from(needs_thread);
        drop(state);
        if needs_thread {
            start();
        }
        digests
    }

    /// Hashes until nothing waits.
    pub(crate) fn work(&self) {
        let thread = Thread(self);
        loop {
            hash_all(|| self.state().waiting.pop_front(), Place::put);
            let mut state = self.state();
            if state.waiting.is_empty() {
                // Under the same lock: whoever adds from now on starts another thread.
                state.threads -= 1;
                std::mem::forget(thread);
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn put(self, digest: [u8; 32]) {
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        request.digests[self.number] = digest;
        request.missing -= 1;
        if request.missing == 0
            && let Some(reply) = request.reply.take()
        {
            // Whoever asked may be gone.
            drop(reply.send(std::mem::take(&mut request.digests)));
        }
    }
}

/// Dropped only by a panic: then those who wait for the thread must not wait forever.
struct Thread<'a>(&'a Queue);

impl Drop for Thread<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.threads -= 1;
        state.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashing::hash_alone;

    fn message(seed: u8, len_bytes: usize) -> Vec<Bytes> {
        let bytes: Bytes = (0..=255).cycle().skip(seed.into()).take(len_bytes).collect();
        vec![bytes.slice(..len_bytes / 2), bytes.slice(len_bytes / 2..)]
    }

    #[test]
    fn each_request_gets_the_digests_of_its_messages_in_order() {
        let queue = Queue::default();
        let mut expected = Vec::new();
        let mut answers = Vec::new();
        let mut starts = 0;
        for request in 0..4 {
            let messages: Vec<_> = (0..request * 2)
                .map(|number| message(request * 10 + number, usize::from(number) * 40_000))
                .collect();
            expected.push(messages.iter().map(|parts| hash_alone(parts)).collect::<Vec<_>>());
            answers.push(queue.add(messages, || starts += 1));
        }
        assert!((1..=4).contains(&starts));
        for _ in 0..starts {
            queue.work();
        }
        let found: Vec<_> = answers.iter_mut().map(|answer| answer.try_recv().unwrap()).collect();
        assert_eq!(found, expected);
        // Nobody is left, so the next one needs a thread again.
        let mut again = queue.add(vec![message(1, 100)], || starts = 0);
        assert_eq!(starts, 0);
        queue.work();
        assert_eq!(again.try_recv().unwrap(), [hash_alone(&message(1, 100))]);
    }

    #[test]
    fn messages_from_many_threads_are_all_hashed() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let queue = queue.clone();
                scope.spawn(move || {
                    for round in 0..200_u8 {
                        let parts = message(seed, usize::from(round) * 37);
                        let expected = hash_alone(&parts);
                        let mut is_mine = false;
                        let answer = queue.add(vec![parts], || is_mine = true);
                        if is_mine {
                            queue.work();
                        }
                        assert_eq!(answer.blocking_recv().unwrap(), [expected]);
                    }
                });
            }
        });
    }
}
