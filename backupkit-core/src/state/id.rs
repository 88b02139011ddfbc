//! Ids that are drawn at random.

/// Defines an id of 16 random bytes, written as 32 hexadecimal digits.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident: $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Returns a new one.
            ///
            /// # Errors
            /// `Unavailable` if there is no randomness.
            pub fn random(env: &$crate::env::Env) -> $crate::error::Result<Self> {
                env.random().map(Self)
            }

            /// The first eight digits, for people.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::Error;

            fn from_str(text: &str) -> $crate::error::Result<Self> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| {
                    $crate::error::Error::new(
                        $crate::error::ErrorKind::InvalidInput,
                        concat!("an id of a ", $what, " has 32 hexadecimal digits"),
                    )
                })?;
                Ok(Self(bytes))
            }
        }
    };
}

pub(super) use random_id;
