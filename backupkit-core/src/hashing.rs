//! SHA-256 of many messages, several at a time on each thread.
//!
//! Whoever hashes puts its messages into one queue; a thread takes as many side by side as pay. So
//! chunks of different entries, and packs, share the time that each alone would leave unused.

mod compress;
mod message;
mod queue;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use self::compress::MAX_LANES;
use self::message::Message;
pub(crate) use self::queue::Queue;

/// What a thread does before it looks for more messages.
const TURN_BYTES: usize = 128 << 10;

/// Hashes all messages that `next` has, several at a time, and hands out each digest with the label of
/// its message as soon as it is known. It is asked again whenever there is room for one more.
fn hash_all<L>(
    mut next: impl FnMut() -> Option<(L, Vec<Bytes>)>,
    mut done: impl FnMut(L, [u8; 32]),
) {
    if !compress::is_supported() {
        while let Some((label, parts)) = next() {
            done(label, hash_alone(&parts));
        }
        return;
    }
    let mut lanes: Vec<(L, Message)> = Vec::with_capacity(MAX_LANES);
    loop {
        while lanes.len() < MAX_LANES
            && let Some((label, parts)) = next()
        {
            let mut message = Message::new(parts);
            message.prepare();
            lanes.push((label, message));
        }
        let mut blocks: Vec<_> =
            lanes.iter_mut().map(|(_, message)| message.next_blocks()).collect();
        let Some(shortest) = blocks.iter().map(|(_, blocks)| blocks.len()).min() else {
            return;
        };
        let turn = shortest.min(TURN_BYTES);
        for (_, blocks) in &mut blocks {
            *blocks = &blocks[..turn];
        }
        compress::compress(&mut blocks);
        drop(blocks);
        let mut lane = 0;
        while let Some((_, message)) = lanes.get_mut(lane) {
            if message.advance(turn) {
                let (label, message) = lanes.swap_remove(lane);
                done(label, message.digest());
            } else {
                lane += 1;
            }
        }
    }
}

/// One message by itself, on any processor.
fn hash_alone(parts: &[Bytes]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// SHA-256 of each message, in order; a message is the bytes of its parts. Several are hashed at a time
/// on this thread, as the engine does.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn hash_side_by_side(messages: Vec<Vec<Bytes>>) -> Vec<[u8; 32]> {
    let mut digests = vec![[0; 32]; messages.len()];
    let mut messages = messages.into_iter().enumerate();
    hash_all(|| messages.next(), |number: usize, digest| digests[number] = digest);
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 examples and the vectors of NIST for short messages.
    #[test]
    fn published_vectors_hold() {
        let vectors: [(&[u8], &str); 5] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopq\
                  klmnopqrlmnopqrsmnopqrstnopqrstu",
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
            ),
            (b"\xd3", "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"),
        ];
        for count in 1..=vectors.len() {
            let messages = vectors[..count].iter().map(|(text, _)| vec![Bytes::from_static(text)]);
            let found: Vec<_> =
                hash_side_by_side(messages.collect()).iter().map(hex::encode).collect();
            let expected: Vec<_> = vectors[..count].iter().map(|(_, digest)| *digest).collect();
            assert_eq!(found, expected);
        }
        let million_a = vec![Bytes::from(vec![b'a'; 999]); 1001];
        let million_a = [million_a, vec![Bytes::from_static(b"a")]].concat();
        let digest = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(hex::encode(hash_side_by_side(vec![million_a]).remove(0)), digest);
    }

    #[test]
    fn every_length_around_a_block_is_hashed_as_by_the_plain_form() {
        let bytes: Bytes = (0..=250).cycle().take(400).collect();
        let messages: Vec<_> = (0..300)
            .flat_map(|length| {
                let whole = vec![bytes.slice(..length)];
                let (head, tail) = (bytes.slice(..length / 3), bytes.slice(length / 3..length));
                [whole, vec![head, Bytes::new(), tail]]
            })
            .collect();
        let expected: Vec<_> = messages.iter().map(|parts| hash_alone(parts)).collect();
        assert_eq!(hash_side_by_side(messages), expected);
    }
}
