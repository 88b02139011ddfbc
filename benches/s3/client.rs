//! The SDK and nothing else: what moving the bytes costs.

use std::collections::VecDeque;
use std::env;
use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::{Builder, Connector};
use backupkit::testing::random_bytes;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::{Options, Outcome};

/// Objects that are put at the same time.
const PUTS: usize = 32;

/// A bucket, and which keys of it.
struct Place<'a> {
    client: Client,
    bucket: &'a str,
    prefix: &'a str,
}

impl<'a> Place<'a> {
    fn of(options: &'a Options) -> Outcome<Self> {
        let key = |name| env::var(name).map_err(|_| format!("{name} is not set"));
        let (id, secret) = (key("AWS_ACCESS_KEY_ID")?, key("AWS_SECRET_ACCESS_KEY")?);
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(options.text("endpoint")?)
            .force_path_style(true)
            .credentials_provider(Credentials::new(id, secret, None, None, "benchmark"))
            .http_client(http_client())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: options.text("bucket")?,
            prefix: options.text("prefix")?,
        })
    }

    async fn keys(&self) -> Outcome<VecDeque<String>> {
        let mut keys = VecDeque::new();
        let request = self.client.list_objects_v2().bucket(self.bucket).prefix(self.prefix);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            keys.extend(page?.contents.unwrap_or_default().into_iter().filter_map(|one| one.key));
        }
        Ok(keys)
    }
}

fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, _| {
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        connector.pool_max_idle_per_host(64).build_http()
    })
}

/// Puts `--count` objects of `--bytes` random bytes, a thousand in a folder.
pub(crate) async fn seed(options: &Options) -> Outcome {
    let place = Place::of(options)?;
    let (count, len_bytes) = (options.number("count")?, options.number("bytes")?);
    let (client, bucket, prefix) = (&place.client, place.bucket, place.prefix);
    let puts = (0..count).map(|number| async move {
        let key = format!("{prefix}{}", name(number));
        let body = ByteStream::from(content(number, len_bytes));
        client.put_object().bucket(bucket).key(key).body(body).send().await?;
        Outcome::Ok(())
    });
    stream::iter(puts).buffer_unordered(PUTS.min(count.max(1))).try_collect::<()>().await
}

/// Writes the same as files of a folder.
pub(crate) fn write(options: &Options) -> Outcome {
    let folder = Path::new(options.text("folder")?);
    let (count, len_bytes) = (options.number("count")?, options.number("bytes")?);
    for number in 0..count {
        let path = folder.join(name(number));
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, content(number, len_bytes))?;
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("{:04}/{:04}", number / 1_000, number % 1_000)
}

/// Not the beginning of a longer object.
fn content(number: usize, len_bytes: usize) -> Bytes {
    random_bytes(((len_bytes as u64) << 32) | number as u64, len_bytes)
}

/// Gets all objects, `--at-once` at the same time, and drops their bytes.
pub(crate) async fn download(options: &Options) -> Outcome {
    let place = Place::of(options)?;
    let keys = place.keys().await?;
    let (client, bucket) = (&place.client, place.bucket);
    let gets = keys.into_iter().map(|key| async move {
        let mut body = client.get_object().bucket(bucket).key(key).send().await?.body;
        let mut len_bytes = 0;
        while let Some(bytes) = body.next().await {
            len_bytes += bytes?.len();
        }
        Outcome::Ok(len_bytes)
    });
    let lens = stream::iter(gets).buffer_unordered(options.number("at-once")?);
    let (count, len_bytes) = lens
        .try_fold((0_u64, 0), |(count, sum), len| async move { Ok((count + 1, sum + len)) })
        .await?;
    println!("{count} objects, {len_bytes} bytes");
    Ok(())
}

/// Lists, and drops what is listed.
pub(crate) async fn list(options: &Options) -> Outcome {
    println!("{} objects", Place::of(options)?.keys().await?.len());
    Ok(())
}
