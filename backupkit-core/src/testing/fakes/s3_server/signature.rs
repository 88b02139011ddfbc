//! Checks who a request is from: the fourth version of AWS's signatures.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::reply::Reply;
use super::request::Request;

const BLOCK_BYTES: usize = 64;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who may ask.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

/// What is wrong with the signature of a request, or with the bytes that it was made for.
pub(super) fn check(request: &Request, keys: &Keys) -> Result<(), Reply> {
    let refused = |code: &str| Reply::error(403, code);
    let signed = request.header("authorization").ok_or_else(|| refused("AccessDenied"))?;
    let signed = signed.strip_prefix(ALGORITHM).ok_or_else(|| refused("AccessDenied"))?;
    let part = |name: &str| {
        let found = signed.split(',').find_map(|part| part.trim().strip_prefix(name));
        found.ok_or_else(|| refused("AuthorizationHeaderMalformed"))
    };
    let (credential, names) = (part("Credential=")?, part("SignedHeaders=")?);
    let signature = part("Signature=")?;
    let (id, scope) = credential.split_once('/').ok_or_else(|| refused("AccessDenied"))?;
    if id != keys.access_key_id {
        return Err(refused("InvalidAccessKeyId"));
    }
    if request.header("x-amz-security-token") != keys.session_token.as_deref() {
        return Err(refused("InvalidToken"));
    }
    // Services other than S3 do not ask for the hash.
    let of_body = hex_hash(&request.body);
    let payload_hash = request.header("x-amz-content-sha256").unwrap_or(&of_body);
    let canonical = canonical_request(request, names, payload_hash);
    let time = request.header("x-amz-date").unwrap_or_default();
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex_hash(canonical.as_bytes()));
    let mut key = format!("AWS4{}", keys.secret_access_key).into_bytes();
    for part in scope.split('/') {
        key = keyed_hash(&key, part.as_bytes()).to_vec();
    }
    if hex::encode(keyed_hash(&key, text.as_bytes())) != signature {
        return Err(refused("SignatureDoesNotMatch"));
    }
    let is_hash = payload_hash.len() == 64;
    if is_hash && payload_hash != hex_hash(&request.body) {
        return Err(Reply::error(400, "XAmzContentSHA256Mismatch"));
    }
    Ok(())
}

fn canonical_request(request: &Request, names: &str, payload_hash: &str) -> String {
    let mut text = format!("{}\n{}\n", request.method, request.raw_path);
    let mut pairs: Vec<String> = request
        .query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.sort();
    text.push_str(&pairs.join("&"));
    text.push('\n');
    for name in names.split(';') {
        let value = request.header(name).unwrap_or_default();
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        _ = writeln!(text, "{name}:{value}");
    }
    _ = write!(text, "\n{names}\n{payload_hash}");
    text
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn hex_hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// HMAC with SHA-256.
fn keyed_hash(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner =
        Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner);
    outer.finalize().into()
}
