//! Slow hashes, away from everything else: two at a time, a bounded number waiting, the next one
//! told to come again (threats.md A17).

use std::sync::Arc;

use portcullis_core::directory::Which;
use portcullis_core::key::ForeignKey;
use tokio::sync::Semaphore;

/// Comparisons that run at once.
const RUNNING: usize = 2;
/// Comparisons that may wait for their turn.
const WAITING: usize = 64;

/// Compares secrets with bcrypt hashes.
pub(crate) struct SlowHashes {
    running: Semaphore,
    admitted: Semaphore,
}

/// Too many comparisons are waiting.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl SlowHashes {
    pub(crate) fn new() -> SlowHashes {
        SlowHashes { running: Semaphore::new(RUNNING), admitted: Semaphore::new(RUNNING + WAITING) }
    }

    /// Which of the hashes is the secret's.
    pub(crate) async fn check(
        &self,
        presented: &Arc<ForeignKey>,
        hashes: Vec<(Which, String)>,
    ) -> Result<Option<Which>, Busy> {
        let _admitted = self.admitted.try_acquire().map_err(|_| Busy)?;
        let _running = self.running.acquire().await.map_err(|_| Busy)?;
        let presented = Arc::clone(presented);
        let matching = tokio::task::spawn_blocking(move || {
            hashes.into_iter().find(|(_, hash)| presented.matches_bcrypt(hash))
        });
        // A panic there means that nothing matched.
        Ok(matching.await.ok().flatten().map(|(which, _)| which))
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::key::{Spelled, Spellings, read};

    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_and_who_comes_too_many_is_told_at_once() {
        let Ok(Spelled::Foreign(key)) = read(b"a-key-of-another-system", &[], Spellings::ALL)
        else {
            panic!("a foreign key")
        };
        let (slow, key) = (SlowHashes::new(), Arc::new(key));
        let taken = slow.admitted.try_acquire_many(66).expect("all places");
        assert_eq!(slow.check(&key, Vec::new()).await, Err(Busy));
        drop(taken);
        assert_eq!(slow.check(&key, Vec::new()).await, Ok(None));
    }
}
