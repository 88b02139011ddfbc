//! Files that restic 0.19 and rustic 0.11 wrote, read here. The password is `fixture`.

use super::compress::Decompressor;
use super::config::Config;
use super::index::IndexBuilder;
use super::index_file;
use super::key_file::{KdfParams, KeyFile};
use super::pack_header::BlobKind;
use crate::model::FileTime;

const RESTIC_KEY: &str = r#"{"created":"2026-11-22T17:28:46.079662491+05:30","username":"user","hostname":"host","kdf":"scrypt","N":32768,"r":8,"p":9,"salt":"b28oe9fAoS4YdzY+L9Tg9319dLDgDWQdpcyLltmdJeQxVVrjNk/0SJ8iEvrDovnaIb4QrhzsgLvhH4IciFASTA==","data":"o5v5GR1jqfB4K3sNzkEHHdfQZd7sUu++WHbeQ9xpQXOrAHAWOu18l2VFfYO71oMp07lWuE7Cu+hg+laxOdHeHQbPjsC/dzDBf31v5hcEQ86MNdVifOiuh83D8WKw+bys0eZvZbhs5v2gND/CxpqVtLjMZlE2qef+R33vnyqJcS7cI5v4XLXOAgbexLavWW1ID/sbhl0ly5PbZTew2babCA=="}"#;
const RESTIC_CONFIG: &str = "9dc51ee5f2ea73f8045145213e0098728f1fed99b5219bcb635d2cda24a9f4460b21d964a4394d41e1e10b7d02\
     8c84c577b484e662e8ee29b6c8b9e1514434c37bc8ba5c8466c0ef96902464ba63243385fa9171f944b806d57e\
     0e0c6c7ecaaf14c5670e41cd753a9be5b0f3816ce0b62aaa107ea86859f9b3c036a67ebf133d44191dfa1b00f7\
     c62cbbf417b85c1baaf59dc1646a8ad303adbe39";
const RESTIC_INDEX: &str = "eb6502b6929e72273660ec0a1a1f34a6eca548f6da3eb8a29fbfd7cb2d2e0441f4aad3062de59ad821bd980fa7\
     a6f391a63117be20643c620dc5db0b80ea3bd552368355ddd8c12bb265304b1531219c19387bbf438b587c586c\
     46d718143aa06f11a3c429a0c9a1d79aa7df76601ac2d2846b93be632ca0aa5f3171e408eb02ced624e5f77a3a\
     b9997bf2389622c1c4840eb394b33f219ab6b1c1dd434d990df3c5dbc2a44ee9f84874c9bd05aeb593dfc54d12\
     48bdc36808c977940358c94353a675f9aff63c63b4c1e5643923e7f606ce424cbdf5202d944e2ec6f883532acc\
     29357115a49fd888621e84884ceb1054722b93ac0f4038710712b262009802d99e8ea4d0ed1125a24fcc7d8ae2\
     93699ec01cb84a2dcfd1f042d2922a3ec62be45d35ab1ce8b849d6307be756699321eab30266985cf014196cee\
     495b7a918d714bdd0d3ec984fa10ff5608a2e9368fe7f66b63cf42db9c341960a14998df1eba7a2d9a6402817d\
     6cb5c13d8670";
const RUSTIC_KEY: &str = r#"{"kdf":"scrypt","N":131072,"r":8,"p":1,"data":"ati7/U3NyvMsWngv5xTEqL+hWU+iLNzP360QpY2rIA0L5SWlzTtUXqFEdrJd0+S2GLoP4WJ3qpWOghbHwQwfVtzz+gQ4tUTLQRK0G75IP8XAVf75TDtd8EPOFu9uyWj8JRiWhCG2Z3yz+4tqNIHNzbDgVLI6xSrhWHzIfF9gMWjMkuJ4ruSpoeWjsmQidWV3Tknogt1laBlcr+VQDtVc/g==","salt":"tJLiIaKydZP5OfN4ZrEjL1vz7Pd43VKBfjIHo+6wHSB3mHb6/i6BwM/uzwEu/LMFRazMba6ICeFNyDyLtpTlgA=="}"#;
const RUSTIC_CONFIG: &str = "030f4603ed97c53b77fa02e7e456640ab909048dddf19c1dd883f9077d07f59d2be8447430e8218b068681a479\
     b718ea0b8eefb2e173e3d172298624fec5f969c2ecc4fb0bb941432223cafc7cf62285587ebefcf7a8d8d6587d\
     4d8dd2e3e990ba1c828b5e1bcc655e9d6b237c1dc12c7bb019ca9087ec74259fa3bffbb4e86d29f5953e8e47b4\
     b91db159520de16a74a1a263dd25c19f65b989a0";

#[test]
fn a_repository_of_restic_opens() {
    let file = KeyFile::decode(RESTIC_KEY.as_bytes()).unwrap();
    assert_eq!(
        file.created.map(|time: FileTime| time.to_string()).as_deref(),
        Some("2026-11-22T17:28:46.079662491+05:30")
    );
    assert_eq!((file.username.as_str(), file.hostname.as_str()), ("user", "host"));
    assert_eq!(file.encode().unwrap(), RESTIC_KEY.as_bytes());

    let key = file.unlock(&"fixture".into()).unwrap();
    let plaintext = key.open(&hex::decode(RESTIC_CONFIG).unwrap()).unwrap();
    let config = Config::decode(&plaintext).unwrap();
    assert_eq!(config.chunker_polynomial.to_string(), "367a75f828ef5d");
    assert_eq!(config.encode().unwrap(), plaintext);

    let plaintext = key.open(&hex::decode(RESTIC_INDEX).unwrap()).unwrap();
    let (version, compressed) = plaintext.split_first().unwrap();
    assert_eq!(*version, 2);
    let json = Decompressor::new().unwrap().decompress_unknown(compressed, 1 << 20).unwrap();
    let mut builder = IndexBuilder::new();
    let mut packs = Vec::new();
    index_file::decode(&json, |pack| {
        builder.push(&pack)?;
        packs.push(pack);
        Ok(())
    })
    .unwrap();
    let index = builder.build();
    assert_eq!((index.count(BlobKind::Data), index.count(BlobKind::Tree)), (1, 2));
    assert_eq!(index.packs().len(), packs.len());
    for pack in packs {
        for blob in pack.blobs {
            let found = index.get(blob.kind, &blob.id).unwrap();
            assert_eq!((found.pack, found.offset), (pack.id, blob.offset));
        }
    }
}

#[test]
fn a_repository_of_rustic_opens() {
    let file = KeyFile::decode(RUSTIC_KEY.as_bytes()).unwrap();
    assert_eq!((file.created, file.username.as_str()), (None, ""));
    let expected = KdfParams { n: 1 << 17, r: 8, p: 1 };
    assert_eq!(file.params(), expected);
    let key = file.unlock(&"fixture".into()).unwrap();
    let plaintext = key.open(&hex::decode(RUSTIC_CONFIG).unwrap()).unwrap();
    let config = Config::decode(&plaintext).unwrap();
    assert_eq!(config.chunker_polynomial.to_string(), "24088aad964241");
}
