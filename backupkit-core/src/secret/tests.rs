use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};

use super::{MAX_SECRET_BYTES, MasterKey, SealedSecret, SecretPlace, Vault};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

const CANARY: &str = "canary-7f3b-do-not-show";

const PLACE: SecretPlace<'_> = SecretPlace {
    scope: "default",
    owner_kind: "connection",
    owner_id: "c-1",
    field: "secret_access_key",
};

fn key(number: u8) -> MasterKey {
    MasterKey::from_bytes(&[number; 32])
}

fn vault(primary: u8, older: &[u8]) -> Vault {
    Vault::new(&Env::system(), key(primary), older.iter().map(|number| key(*number)))
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn parse_key(text: impl Into<String>) -> Result<MasterKey> {
    MasterKey::parse(&SecretString::from(text.into()))
}

fn opens(vault: &Vault, sealed: &SealedSecret, text: &str) -> bool {
    vault.open(&PLACE, sealed).is_ok_and(|opened| opened.expose_secret() == text)
}

/// All that an error can say.
fn all_of(error: &Error) -> String {
    format!("{error} {error:?} {}", error.report())
}

/// `SplitMix64`.
fn random_bytes(state: &mut u64, length: usize) -> Vec<u8> {
    let next = |state: &mut u64| {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()[0]
    };
    (0..length).map(|_| next(state)).collect()
}

#[test]
fn what_was_sealed_opens_in_its_place() {
    let vault = vault(1, &[]);
    let longest = "x".repeat(MAX_SECRET_BYTES);
    for text in ["", "a", CANARY, "pässwörd\nwith lines\0", &longest] {
        let sealed = vault.seal(&PLACE, &secret(text)).unwrap();
        assert_eq!(sealed.key_id(), vault.primary_id());
        let stored = sealed.to_bytes();
        assert_eq!(stored.len(), 124 + text.len());
        let read = SealedSecret::from_bytes(&stored).unwrap();
        assert_eq!(read, sealed);
        assert!(opens(&vault, &read, text));
    }
}

#[test]
fn secrets_that_are_too_long_are_refused() {
    let long = "x".repeat(MAX_SECRET_BYTES + 1);
    let error = vault(1, &[]).seal(&PLACE, &secret(&long)).unwrap_err();
    assert!(error.is(ErrorKind::InvalidInput));
    let mut stored = vault(1, &[]).seal(&PLACE, &secret(&long[1..])).unwrap().to_bytes();
    stored.push(0);
    assert!(SealedSecret::from_bytes(&stored).unwrap_err().is(ErrorKind::Corrupt));
}

#[test]
fn the_same_secret_is_never_sealed_the_same() {
    let vault = vault(1, &[]);
    let sealed: Vec<_> =
        (0..20).map(|_| vault.seal(&PLACE, &secret(CANARY)).unwrap().to_bytes()).collect();
    // Nonce and wrapped key, nonce, and ciphertext: each is new.
    for part in [12..36, 36..84, 84..108, 108..sealed[0].len()] {
        let distinct: BTreeSet<_> = sealed.iter().map(|bytes| &bytes[part.clone()]).collect();
        assert_eq!(distinct.len(), sealed.len(), "{part:?}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let vault = vault(1, &[2]);
    let stored = vault.seal(&PLACE, &secret(CANARY)).unwrap().to_bytes();
    for at in 0..stored.len() {
        for bit in 0..8 {
            let mut changed = stored.clone();
            changed[at] ^= 1 << bit;
            let error = SealedSecret::from_bytes(&changed)
                .and_then(|sealed| vault.open(&PLACE, &sealed))
                .unwrap_err();
            let expected = match at {
                3 => ErrorKind::Unsupported,
                4..12 => ErrorKind::InvalidConfig,
                _ => ErrorKind::Corrupt,
            };
            assert_eq!(error.kind(), expected, "byte {at}, bit {bit}");
            assert!(!all_of(&error).contains(CANARY));
        }
    }
}

#[test]
fn what_was_cut_off_or_lengthened_is_refused() {
    let vault = vault(1, &[]);
    let stored = vault.seal(&PLACE, &secret(CANARY)).unwrap().to_bytes();
    let open = |bytes: &[u8]| vault.open(&PLACE, &SealedSecret::from_bytes(bytes)?);
    for length in 0..stored.len() {
        assert!(open(&stored[..length]).unwrap_err().is(ErrorKind::Corrupt), "{length} bytes");
    }
    assert!(open(&[&stored[..], b"\0"].concat()).unwrap_err().is(ErrorKind::Corrupt));
}

#[test]
fn a_secret_opens_in_no_other_place() {
    let vault = vault(1, &[2]);
    let others = [
        SecretPlace { scope: "other", ..PLACE },
        SecretPlace { owner_kind: "repository", ..PLACE },
        SecretPlace { owner_id: "c-2", ..PLACE },
        SecretPlace { field: "password", ..PLACE },
        SecretPlace { scope: "", ..PLACE },
        // Only cut elsewhere.
        SecretPlace { scope: "defaultc", owner_kind: "onnection", ..PLACE },
        SecretPlace { owner_kind: "connectionc", owner_id: "-1", ..PLACE },
        SecretPlace { owner_id: "c-1s", field: "ecret_access_key", ..PLACE },
        SecretPlace { owner_id: "", field: "c-1secret_access_key", ..PLACE },
    ];
    let new = vault.seal(&PLACE, &secret(CANARY)).unwrap();
    let old = self::vault(2, &[]).seal(&PLACE, &secret(CANARY)).unwrap();
    for place in others {
        for sealed in [&new, &old] {
            let error = vault.open(&place, sealed).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "secret-damaged"));
        }
        assert!(vault.rewrap(&place, &old).unwrap_err().is(ErrorKind::Corrupt), "{place}");
    }
}

#[test]
fn parts_of_two_sealed_secrets_do_not_fit_together() {
    let vault = vault(1, &[]);
    let one = vault.seal(&PLACE, &secret("one")).unwrap();
    let two = vault.seal(&PLACE, &secret("two")).unwrap();
    let mixed = SealedSecret { nonce: two.nonce, ciphertext: two.ciphertext, ..one };
    assert!(vault.open(&PLACE, &mixed).unwrap_err().is(ErrorKind::Corrupt));
}

#[test]
fn a_rewrapped_secret_needs_the_new_key_alone() {
    let sealed = vault(1, &[]).seal(&PLACE, &secret(CANARY)).unwrap();
    let both = vault(2, &[1]);
    assert!(opens(&both, &sealed, CANARY));

    let rewrapped = both.rewrap(&PLACE, &sealed).unwrap().expect("it is under the old key");
    assert_eq!(rewrapped.key_id(), both.primary_id());
    assert_eq!(rewrapped.ciphertext, sealed.ciphertext, "the secret itself is left alone");
    assert_eq!(both.rewrap(&PLACE, &rewrapped).unwrap(), None);

    assert!(opens(&both, &rewrapped, CANARY));
    assert!(opens(&vault(2, &[]), &rewrapped, CANARY));
    let error = vault(1, &[]).open(&PLACE, &rewrapped).unwrap_err();
    assert_eq!(error.code(), "master-key-unknown");
    let error = vault(2, &[]).rewrap(&PLACE, &sealed).unwrap_err();
    assert_eq!(error.code(), "master-key-unknown");
}

#[test]
fn a_master_key_that_was_not_given_is_named() {
    let sealed = vault(1, &[]).seal(&PLACE, &secret(CANARY)).unwrap();
    let error = vault(2, &[3]).open(&PLACE, &sealed).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidConfig, "master-key-unknown"));
    let report = error.report();
    for id in [1, 2, 3].map(|number| key(number).id().to_string()) {
        assert!(report.contains(&id), "{report}");
    }
    assert!(report.contains("secret_access_key of connection c-1"), "{report}");
    assert!(report.contains("give master key"), "{report}");
}

#[test]
fn a_key_with_the_right_id_and_other_bytes_opens_nothing() {
    let sealed = vault(1, &[]).seal(&PLACE, &secret(CANARY)).unwrap();
    let forged = SealedSecret { key_id: key(2).id(), ..sealed };
    assert!(vault(2, &[]).open(&PLACE, &forged).unwrap_err().is(ErrorKind::Corrupt));
}

#[test]
fn a_proof_tells_the_right_key_from_a_wrong_one() {
    let proof = vault(1, &[]).proof();
    assert_eq!(vault(1, &[]).verify_proof(&proof).unwrap(), key(1).id());
    assert_eq!(vault(2, &[1]).verify_proof(&proof).unwrap(), key(1).id());
    let error = vault(2, &[]).verify_proof(&proof).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidConfig, "master-key-unknown"));
    let report = error.report();
    assert!(report.contains(&key(1).id().to_string()), "{report}");
    assert!(report.contains(&key(2).id().to_string()), "{report}");
    let text = key(1).to_text();
    let digits = text.expose_secret().rsplit(':').next().unwrap();
    assert!(!proof.contains(digits));
}

#[test]
fn a_damaged_proof_is_refused() {
    let vault = vault(1, &[]);
    let proof = vault.proof();
    for at in 0..proof.len() {
        let changed = replaced(&proof, at);
        assert!(vault.verify_proof(&changed).is_err(), "{changed}");
        assert!(vault.verify_proof(&proof[..at]).is_err(), "{at} characters");
    }
    assert!(vault.verify_proof(&format!("{proof}00")).unwrap_err().is(ErrorKind::Corrupt));
    let later = proof.replace("-proof-1:", "-proof-2:");
    assert!(vault.verify_proof(&later).unwrap_err().is(ErrorKind::Unsupported));
}

#[test]
fn a_key_is_written_as_one_line_and_read_again() {
    let generated = MasterKey::generate(&Env::system()).unwrap();
    assert_ne!(generated.id(), MasterKey::generate(&Env::system()).unwrap().id());
    for key in [generated, key(0), key(255)] {
        let text = key.to_text();
        let text = text.expose_secret();
        assert!(text.starts_with(&format!("backupkit-key-1:{}:", key.id())), "{text}");
        let upper = text.to_uppercase().replace("BACKUPKIT-KEY-1", "backupkit-key-1");
        for form in [text.to_owned(), format!("  {text}\r\n"), upper] {
            let read = parse_key(form).unwrap();
            assert_eq!(read.id(), key.id());
            assert_eq!(read.expose(), key.expose());
        }
    }
}

#[test]
fn a_mistyped_or_truncated_key_is_told_from_a_wrong_one() {
    let text = key(7).to_text();
    let text = text.expose_secret();
    for at in 0..text.len() {
        let error = parse_key(replaced(text, at)).unwrap_err();
        assert_ne!(error.code(), "master-key-unknown", "character {at}");
        let error = parse_key(&text[..at]).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidConfig, "master-key-invalid"));
    }
    let digits = text.rsplit(':').next().unwrap();
    let swapped = text.replace(&format!(":{digits}"), &format!(":70{}", &digits[2..]));
    let umlaut = format!("{}ä", &text[..text.len() - 1]);
    for other in [digits, "", " \n", "hunter2", &swapped, &umlaut, &format!("{text}0")] {
        let error = parse_key(other).unwrap_err();
        assert_eq!(error.code(), "master-key-invalid");
        assert!(!all_of(&error).contains("0707"), "{error}");
    }
    let later = text.replace("-key-1:", "-key-2:");
    assert!(parse_key(later).unwrap_err().is(ErrorKind::Unsupported));
}

#[test]
fn no_secret_shows() {
    let master = key(0xab);
    let text = master.to_text();
    let digits = hex::encode([0xab; 32]);
    let sealing = Vault::new(&Env::system(), key(0xab), [key(0xcd)]);
    let sealed = sealing.seal(&PLACE, &secret(CANARY)).unwrap();
    let other = SecretPlace { field: "password", ..PLACE };
    let mut damaged = sealed.clone();
    damaged.ciphertext[0] ^= 1;
    let mut shown = vec![
        format!("{master:?} {text:?} {:?} {}", master.id(), master.id()),
        format!("{sealing:?} {sealed:?} {PLACE:?} {PLACE}"),
        format!("{:?}", sealing.open(&PLACE, &sealed).unwrap()),
        sealing.proof(),
        String::from_utf8_lossy(&sealed.to_bytes()).into_owned(),
        all_of(&sealing.open(&other, &sealed).unwrap_err()),
        all_of(&sealing.open(&PLACE, &damaged).unwrap_err()),
        all_of(&vault(1, &[]).open(&PLACE, &sealed).unwrap_err()),
        all_of(&vault(1, &[]).verify_proof(&sealing.proof()).unwrap_err()),
        all_of(&SealedSecret::from_bytes(CANARY.as_bytes()).unwrap_err()),
    ];
    let too_long = CANARY.repeat(MAX_SECRET_BYTES);
    shown.push(all_of(&sealing.seal(&PLACE, &secret(&too_long)).unwrap_err()));
    for wrong in [CANARY.to_owned(), format!("{}0", text.expose_secret()), digits.clone()] {
        shown.push(all_of(&parse_key(wrong).unwrap_err()));
    }
    for line in shown {
        assert!(!line.contains("canary"), "{line}");
        assert!(!line.contains("abababab"), "{line}");
    }
}

/// Made with another implementation: what is stored must open for ever.
#[test]
fn the_stored_forms_stay_as_they_are() {
    let text = "backupkit-key-1:69aa9e051c6ba9f9:\
        000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let proof = "backupkit-key-proof-1:69aa9e051c6ba9f9:\
        788a5410242ae0284064d33e4f3590e80134adccf5ca373e300aee6fdf8137e5";
    let sealed = "424b530169aa9e051c6ba9f9404142434445464748494a4b4c4d4e4f5051525354555657\
        f4182753f4c55f31a7ddad9583b14bbda28b9ff7276c65ad5208c77e35391daf\
        4cfb3fd6ed4b15ff145d3dfaf12353fc\
        606162636465666768696a6b6c6d6e6f7071727374757677\
        98e4e455f606f4b3ce756e28f0666319e92ded694f6a023a79";
    let vault = Vault::new(&Env::system(), parse_key(text).unwrap(), []);
    assert_eq!(parse_key(text).unwrap().to_text().expose_secret(), text);
    assert_eq!(vault.proof(), proof);
    let place = SecretPlace {
        scope: "default",
        owner_kind: "repository",
        owner_id: "r-1",
        field: "password",
    };
    let stored = hex::decode(sealed).unwrap();
    let sealed = SealedSecret::from_bytes(&stored).unwrap();
    assert_eq!(vault.open(&place, &sealed).unwrap().expose_secret(), "pässword");
    assert_eq!(sealed.to_bytes(), stored);
}

#[test]
fn random_bytes_are_refused_without_a_panic() {
    let vault = vault(1, &[2]);
    let valid = vault.seal(&PLACE, &secret(CANARY)).unwrap().to_bytes();
    for seed in 0..2_000u64 {
        let mut state = seed;
        let length = usize::from(random_bytes(&mut state, 1)[0]);
        let noise = random_bytes(&mut state, length);
        // Noise alone, and behind a beginning that is right.
        let right = usize::from(random_bytes(&mut state, 1)[0]) % valid.len();
        for bytes in [noise.clone(), [&valid[..right], &noise].concat()] {
            let opened =
                SealedSecret::from_bytes(&bytes).and_then(|sealed| vault.open(&PLACE, &sealed));
            assert!(opened.is_err(), "seed {seed}");
        }
        let text = String::from_utf8_lossy(&noise);
        assert!(parse_key(format!("backupkit-key-1:{text}")).is_err(), "seed {seed}");
        assert!(parse_key(text.clone()).is_err(), "seed {seed}");
        let proof = format!("backupkit-key-proof-1:{text}");
        assert!(vault.verify_proof(&proof).is_err(), "seed {seed}");
    }
}

#[test]
fn without_randomness_nothing_is_sealed() {
    #[derive(Debug)]
    struct Empty;
    impl crate::env::Entropy for Empty {
        fn fill(&self, _: &mut [u8]) -> Result<()> {
            Err(Error::new(ErrorKind::Unavailable, "no randomness"))
        }
    }
    let env = Env::system().with_entropy(std::sync::Arc::new(Empty));
    assert!(MasterKey::generate(&env).unwrap_err().is(ErrorKind::Unavailable));
    let error = Vault::new(&env, key(1), []).seal(&PLACE, &secret(CANARY)).unwrap_err();
    assert!(error.is(ErrorKind::Unavailable));
}

/// With one character changed.
fn replaced(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'3' { b'8' } else { b'3' };
    String::from_utf8(bytes).unwrap()
}
