//! A line on which all that comes back takes longer, and nothing else is slower.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Options, Outcome, wait_for_the_end};

const PIECE_BYTES: usize = 256 << 10;
/// What may be under way on a connection: enough that it is the delay that is felt, not this.
const PIECES: usize = 1_024;

/// Passes on what comes for `--to`, and what comes back `--milliseconds` later, until its input ends.
pub(crate) async fn delay(options: &Options) -> Outcome {
    let to = options.text("to")?.to_owned();
    let delay = Duration::from_millis(options.number("milliseconds")? as u64);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let accept = async {
        let mut connections = JoinSet::new();
        loop {
            let Ok((near, _)) = listener.accept().await else { continue };
            while connections.try_join_next().is_some() {}
            let to = to.clone();
            connections.spawn(async move {
                // A connection that breaks is for its two ends to see.
                if let Ok(far) = TcpStream::connect(to).await {
                    drop(pass(near, far, delay).await);
                }
            });
        }
    };
    tokio::select! {
        () = accept => {}
        ended = tokio::task::spawn_blocking(wait_for_the_end) => ended?,
    }
    // Or the thread that waits for the input would be waited for.
    Ok(())
}

async fn pass(near: TcpStream, far: TcpStream, delay: Duration) -> Outcome {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut from_near, to_near) = near.into_split();
    let (from_far, mut to_far) = far.into_split();
    let there = async move {
        tokio::io::copy(&mut from_near, &mut to_far).await?;
        to_far.shutdown().await?;
        Outcome::Ok(())
    };
    tokio::try_join!(there, pass_back(from_far, to_near, delay)).map(drop)
}

async fn pass_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) -> Outcome {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Bytes)>(PIECES);
    let read = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            if from.read_buf(&mut piece).await? == 0 {
                return Outcome::Ok(());
            }
            // The other side is gone: so is this connection.
            sender.send((Instant::now() + delay, piece.freeze())).await?;
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await?;
        Outcome::Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}
