//! A server whose bucket is made up.

use backupkit::testing::fakes::S3Server;
use backupkit::testing::random_bytes;

use crate::{Options, Outcome, wait_for_the_end};

/// Serves `--count` objects of `--bytes` each, a thousand in a folder, until its input ends.
pub(crate) fn serve(options: &Options) -> Outcome {
    let (count, len_bytes) = (options.number("count")?, options.number("bytes")?);
    let server = S3Server::start("bucket");
    server.take_everybody();
    for number in 0..count {
        let key = format!("{:05}/{:04}", number / 1_000, number % 1_000);
        server.put("bucket", &key, random_bytes(number as u64, len_bytes));
    }
    println!("{}", server.endpoint());
    wait_for_the_end();
    Ok(())
}
