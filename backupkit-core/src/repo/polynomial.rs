//! Polynomials over GF(2): what the chunker's rolling hash divides by.

use std::fmt;
use std::str::FromStr;

use crate::env::Env;
use crate::error::Result;

/// The degree of every chunker polynomial.
pub const CHUNKER_DEGREE: u32 = 53;

/// A polynomial over GF(2) of degree below 64; bit `i` is the coefficient of `x^i`.
///
/// Text form: lowercase hexadecimal digits without prefix and without leading zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Polynomial(u64);

impl Polynomial {
    /// Wraps the coefficients.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The coefficients.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns a random irreducible polynomial of degree [`CHUNKER_DEGREE`].
    ///
    /// About one candidate in 26 is irreducible.
    ///
    /// # Errors
    /// `Unavailable` if there is no randomness.
    pub fn random(env: &Env) -> Result<Self> {
        loop {
            let bits = u64::from_le_bytes(env.random()?);
            // The top bit sets the degree; without the constant term x would divide it.
            let bits = bits & ((1 << (CHUNKER_DEGREE + 1)) - 1) | 1 << CHUNKER_DEGREE | 1;
            let candidate = Self(bits);
            if candidate.is_irreducible() {
                return Ok(candidate);
            }
        }
    }

    /// The degree, or nothing for zero.
    pub const fn degree(self) -> Option<u32> {
        self.0.checked_ilog2()
    }

    /// Returns the remainder of the division by `divisor`, or this one if `divisor` is zero.
    #[must_use]
    pub fn remainder(self, divisor: Self) -> Self {
        let Some(degree) = divisor.degree() else {
            return self;
        };
        let mut rest = self.0;
        while let Some(top) = rest.checked_ilog2().filter(|top| *top >= degree) {
            rest ^= divisor.0 << (top - degree);
        }
        Self(rest)
    }

    /// Returns the product with `other` modulo `modulus`; zero if `modulus` is constant.
    #[must_use]
    pub fn multiply_modulo(self, other: Self, modulus: Self) -> Self {
        let Some(degree) = modulus.degree().filter(|degree| *degree > 0) else {
            return Self(0);
        };
        let mut factor = self.remainder(modulus).0;
        let mut product = 0;
        let mut bits = other.remainder(modulus).0;
        while bits != 0 {
            if bits & 1 != 0 {
                product ^= factor;
            }
            bits >>= 1;
            // Below the degree of the modulus, so at most bit 62 is set before the shift.
            factor <<= 1;
            if factor >> degree & 1 != 0 {
                factor ^= modulus.0;
            }
        }
        Self(product)
    }

    /// Returns the greatest common divisor.
    #[must_use]
    pub fn greatest_common_divisor(self, other: Self) -> Self {
        let (mut a, mut b) = (self, other);
        while b.0 != 0 {
            (a, b) = (b, a.remainder(b));
        }
        a
    }

    /// Whether no polynomial of lower degree but 1 divides this one (Ben-Or's test).
    pub fn is_irreducible(self) -> bool {
        const X: u64 = 0b10;
        let Some(degree) = self.degree().filter(|degree| *degree > 0) else {
            return false;
        };
        // x^(2^i) - x is the product of all irreducible polynomials whose degree divides i.
        let mut power = Self(X);
        for _ in 1..=degree / 2 {
            power = power.multiply_modulo(power, self);
            let common = self.greatest_common_divisor(Self(power.0 ^ X));
            if common.0 != 1 {
                return false;
            }
        }
        true
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Polynomial({self})")
    }
}

/// The text is not 1 to 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a polynomial of 1 to 16 hexadecimal digits")]
pub struct ParsePolynomialError;

impl FromStr for Polynomial {
    type Err = ParsePolynomialError;

    fn from_str(text: &str) -> Result<Self, ParsePolynomialError> {
        // The number parser alone would take a sign.
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParsePolynomialError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParsePolynomialError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether any polynomial of degree 1 to half of `candidate`'s divides it.
    fn has_divisor(candidate: u64) -> bool {
        let half = Polynomial(candidate).degree().unwrap() / 2;
        (2..1 << (half + 1))
            .any(|divisor| Polynomial(candidate).remainder(Polynomial(divisor)).0 == 0)
    }

    #[test]
    fn irreducible_is_what_nothing_divides() {
        for bits in 2..4096 {
            assert_eq!(Polynomial(bits).is_irreducible(), !has_divisor(bits), "{bits:b}");
        }
        assert!(!Polynomial(0).is_irreducible());
        assert!(!Polynomial(1).is_irreducible());
        assert!(Polynomial(0x003d_a335_8b4d_c173).is_irreducible());
        assert!(!Polynomial(0x003d_a335_8b4d_c171).is_irreducible());
        // x^64 does not fit, x^63 + x + 1 does, and is irreducible.
        assert!(Polynomial(1 << 63 | 0b11).is_irreducible());
    }

    #[test]
    fn products_are_those_of_schoolbook_multiplication() {
        let modulus = Polynomial(0x11b); // the field of AES, whose products are well known
        let product = Polynomial(0x57).multiply_modulo(Polynomial(0x83), modulus);
        assert_eq!(product.0, 0xc1);
        let zero = Polynomial(0x57).multiply_modulo(Polynomial(3), Polynomial(1));
        assert_eq!(zero.0, 0);
    }

    #[test]
    fn random_ones_are_irreducible_of_degree_53_and_differ() {
        let env = Env::system();
        let one = Polynomial::random(&env).unwrap();
        assert_eq!(one.degree(), Some(CHUNKER_DEGREE));
        assert!(one.is_irreducible());
        assert_ne!(one, Polynomial::random(&env).unwrap());
    }

    #[test]
    fn text_is_hexadecimal_without_prefix() {
        let polynomial = Polynomial(0x003d_a335_8b4d_c173);
        assert_eq!(polynomial.to_string(), "3da3358b4dc173");
        assert_eq!("3da3358b4dc173".parse(), Ok(polynomial));
        for text in ["", "0x3d", "+3d", "-1", "3da3358b4dc1733da3", "g", " 3d"] {
            assert_eq!(text.parse::<Polynomial>(), Err(ParsePolynomialError), "{text}");
        }
    }
}
