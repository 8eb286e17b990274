//! The random generator's trait. A generator that fails must fail the call that needed it: a
//! predictable key is worse than none.

/// The operating system's generator gave no bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the random generator failed")]
pub struct EntropyFailure;

/// A source of cryptographically strong random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `out` with random bytes.
    ///
    /// # Errors
    ///
    /// [`EntropyFailure`] if the generator gives none; `out` must then not be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure>;
}
