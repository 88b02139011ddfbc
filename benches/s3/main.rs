//! What `cargo xtask bench s3` needs beside the programs it compares: a client that does nothing but
//! move bytes, a server that makes up its bucket, and a line that is slow.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

mod client;
mod delay;
mod server;

use std::collections::BTreeMap;
use std::process::ExitCode;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "\
For `cargo xtask bench s3`, which calls it:

  seed      --endpoint URL --bucket B --prefix P --count N --bytes N   put objects
  write     --folder DIR --count N --bytes N                           the same as files
  download  --endpoint URL --bucket B --prefix P --at-once N           get all of them
  list      --endpoint URL --bucket B --prefix P                       list them
  serve     --count N --bytes N              a server whose bucket `bucket` has so many objects
  delay     --to HOST:PORT --milliseconds N  a proxy each of whose replies comes so much later

The last two print where they listen, and end with their input.
The key is in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.";

/// `--name value` pairs.
struct Options(BTreeMap<String, String>);

impl Options {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut options = BTreeMap::new();
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err("each option has a value".into()) };
            let name = name.strip_prefix("--").ok_or("options begin with --")?;
            options.insert(name.to_owned(), value.clone());
        }
        Ok(Self(options))
    }

    fn text(&self, name: &str) -> Outcome<&str> {
        Ok(self.0.get(name).ok_or_else(|| format!("--{name} is missing"))?)
    }

    fn number(&self, name: &str) -> Outcome<usize> {
        Ok(self.text(name)?.parse()?)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome {
    // `cargo bench` gives options of its own, and no task.
    let Some((task, rest)) = arguments.split_first().filter(|(task, _)| !task.starts_with('-'))
    else {
        println!("{HELP}");
        return Ok(());
    };
    let options = Options::parse(rest)?;
    let runtime = tokio::runtime::Runtime::new()?;
    match task.as_str() {
        "seed" => runtime.block_on(client::seed(&options)),
        "write" => client::write(&options),
        "download" => runtime.block_on(client::download(&options)),
        "list" => runtime.block_on(client::list(&options)),
        "serve" => server::serve(&options),
        "delay" => runtime.block_on(delay::delay(&options)),
        other => Err(format!("unknown task `{other}`\n\n{HELP}").into()),
    }
}

/// Waits until whoever started this ends its input.
fn wait_for_the_end() {
    drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
}
