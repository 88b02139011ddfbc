//! `key`: the key of the secrets in the state.

use backupkit_core::Result;
use backupkit_core::secret::MasterKey;
use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::app::App;
use crate::exit::Exit;
use crate::output::format;

#[derive(Serialize)]
struct RotationRecord {
    key_id: String,
    rewrapped: u64,
}

#[derive(Serialize)]
struct KeyRecord<'a> {
    key_id: String,
    key: &'a str,
}

pub(super) async fn rotate(app: &App<'_>) -> Result<Exit> {
    let rotation = app.workspace().await?.rotate_master_key().await?;
    let records = format::counted(rotation.rewrapped, "record", "records");
    let key = rotation.key;
    app.output
        .summary_line(format_args!("all secrets need master key {key} now ({records} changed)"));
    if rotation.is_kept_elsewhere {
        app.output.summary_line(
            "Take the former keys away from where they are kept, and start workers anew.",
        );
    } else {
        app.output.summary_line(
            "Copy the new key file to where you keep the former one: that opens only copies of the \
             former state.",
        );
    }
    let record = RotationRecord { key_id: key.to_string(), rewrapped: rotation.rewrapped };
    app.output.document("key_rotation", &record);
    Ok(Exit::Success)
}

pub(super) fn generate(app: &App<'_>) -> Result<Exit> {
    let key = MasterKey::generate(&app.env)?;
    let text = key.to_text();
    app.output.line(text.expose_secret());
    let record = KeyRecord { key_id: key.id().to_string(), key: text.expose_secret() };
    app.output.document("key", &record);
    Ok(Exit::Success)
}
