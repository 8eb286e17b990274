//! The secrets of one key over time: the current one, at most one retained predecessor, and when
//! each stops being accepted.
//!
//! All deadlines are stored instants compared with strict `<`: at the instant itself it is over.
//! A predecessor's deadline only ever moves nearer (service-accounts.md 5). The type parameter is
//! whatever stands for a secret, such as its digest record; this module never looks inside.

use thiserror::Error;

use super::KeyState;
use crate::time::WallMs;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

/// The secrets of a key and their deadlines.
///
/// There is room for two secrets and no more (invariant I-3), and the generation only rises (I-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecrets<S> {
    generation: u32,
    current: S,
    expiry: Expiry,
    previous: Option<Previous<S>>,
}

/// The secret before the current one, still accepted for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous<S> {
    /// The secret.
    pub secret: S,
    /// It is accepted strictly before this instant.
    pub retained_until: WallMs,
}

/// What a key accepts at one instant.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Accepted<'a, S> {
    /// The current secret, unless the key has expired.
    pub current: Option<&'a S>,
    /// The retained predecessor, unless its time is over or the key has expired.
    pub previous: Option<&'a S>,
}

impl<S> KeySecrets<S> {
    /// The first secret of a new key.
    pub fn issue(secret: S, expiry: Expiry, now: WallMs) -> Result<KeySecrets<S>, ExpiryPast> {
        Ok(KeySecrets {
            generation: 1,
            current: secret,
            expiry: expiry.ahead_of(now)?,
            previous: None,
        })
    }

    /// What was stored. The store keeps what this type once gave it, so nothing is checked again.
    pub fn stored(
        generation: u32,
        current: S,
        expiry: Expiry,
        previous: Option<Previous<S>>,
    ) -> KeySecrets<S> {
        KeySecrets { generation, current, expiry, previous }
    }

    /// Makes `next` the current secret and retains the old one for a while, if so asked.
    ///
    /// The predecessor lives until the earliest of: its retention from now, the key's expiry before the
    /// rotation, and its expiry after it. The last one keeps a rotation that shortens the key from
    /// leaving a predecessor which a later extension would wake up again. An earlier predecessor is
    /// dropped at once.
    pub fn rotate(
        self,
        state: KeyState,
        next: S,
        rotation: Rotation,
        now: WallMs,
    ) -> Result<KeySecrets<S>, RotateRefused> {
        match state {
            KeyState::Active => {}
            KeyState::Deleted => return Err(RotateRefused::Deleted),
            KeyState::Inactive => return Err(RotateRefused::Inactive),
            KeyState::Revoked => return Err(RotateRefused::Terminal),
        }
        let expiry = match rotation.expiry {
            ExpiryChange::Keep if self.expiry.is_past(now) => return Err(RotateRefused::Expired),
            ExpiryChange::Keep => self.expiry,
            ExpiryChange::Set(expiry) => expiry.ahead_of(now)?,
        };
        let generation =
            self.generation.checked_add(1).ok_or(RotateRefused::GenerationsExhausted)?;
        let previous = (rotation.retain != Retention::NONE).then(|| Previous {
            secret: self.current,
            retained_until: expiry.cap(self.expiry.cap(now.plus_ms(rotation.retain.as_ms()))),
        });
        Ok(KeySecrets { generation, current: next, expiry, previous })
    }

    /// Changes when the key expires. A nearer expiry shortens the predecessor; a later one leaves
    /// it as it is.
    pub fn with_expiry(self, expiry: Expiry, now: WallMs) -> Result<KeySecrets<S>, ExpiryPast> {
        let expiry = expiry.ahead_of(now)?;
        // What has already ended stays ended: the old expiry is a cap, too, whatever was stored.
        let before = self.expiry;
        let previous = self.previous.map(|previous| Previous {
            retained_until: expiry.cap(before.cap(previous.retained_until)),
            ..previous
        });
        Ok(KeySecrets { expiry, previous, ..self })
    }

    /// The secrets accepted at `now`, provided that the key and its owner are active.
    pub fn accepted(&self, now: WallMs) -> Accepted<'_, S> {
        if self.expiry.is_past(now) {
            return Accepted { current: None, previous: None };
        }
        Accepted {
            current: Some(&self.current),
            previous: self
                .previous
                .as_ref()
                .filter(|previous| now < previous.retained_until)
                .map(|previous| &previous.secret),
        }
    }

    /// How often the key has been given a secret; 1 for a new key. The predecessor's generation is
    /// one less.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The current secret, accepted or not.
    pub fn current(&self) -> &S {
        &self.current
    }

    /// The predecessor, accepted or not.
    pub fn previous(&self) -> Option<&Previous<S>> {
        self.previous.as_ref()
    }

    /// When the key ends.
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }
}

/// When a key ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is accepted strictly before this instant.
    At(WallMs),
    /// It has no end.
    Never,
}

impl Expiry {
    /// Whether the end has come: `now < expires_at` no longer holds.
    pub fn is_past(self, now: WallMs) -> bool {
        match self {
            Expiry::At(end) => end <= now,
            Expiry::Never => false,
        }
    }

    /// Refuses an end that has already come: creating, rotating and changing need one ahead.
    pub fn ahead_of(self, now: WallMs) -> Result<Expiry, ExpiryPast> {
        if self.is_past(now) { Err(ExpiryPast) } else { Ok(self) }
    }

    /// The instant of the end, if there is one.
    pub fn at(self) -> Option<WallMs> {
        match self {
            Expiry::At(end) => Some(end),
            Expiry::Never => None,
        }
    }

    /// The earlier of `instant` and the end.
    fn cap(self, instant: WallMs) -> WallMs {
        match self {
            Expiry::At(end) => end.min(instant),
            Expiry::Never => instant,
        }
    }
}

impl From<Option<WallMs>> for Expiry {
    /// A stored or received `expires_at`, where null means never.
    fn from(expires_at: Option<WallMs>) -> Expiry {
        expires_at.map_or(Expiry::Never, Expiry::At)
    }
}

/// What a rotation is to do besides replacing the secret.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// For how long the old secret stays.
    pub retain: Retention,
    /// What becomes of the key's end.
    pub expiry: ExpiryChange,
}

/// What a rotation does to the key's end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ExpiryChange {
    /// It stays; not possible if the key has expired.
    Keep,
    /// It becomes this one.
    Set(Expiry),
}

/// For how long a rotation keeps the old secret working: whole minutes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Retention(u32);

impl Retention {
    /// The old secret stops at once.
    pub const NONE: Retention = Retention(0);

    /// The longest that any policy allows: 365 days.
    pub const MAX_MINUTES: u32 = 525_600;

    /// `minutes`, if the organization's policy allows that many.
    pub fn of_minutes(minutes: u64, policy_max: u32) -> Result<Retention, RetentionTooLong> {
        let max = policy_max.min(Retention::MAX_MINUTES);
        match u32::try_from(minutes) {
            Ok(minutes) if minutes <= max => Ok(Retention(minutes)),
            Ok(_) | Err(_) => Err(RetentionTooLong { max }),
        }
    }

    fn as_ms(self) -> u64 {
        u64::from(self.0) * MINUTE_MS
    }
}

/// An `expires_at` that is not ahead.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("it must lie in the future")]
pub struct ExpiryPast;

/// A retention beyond the policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("an old secret can be retained for 0 to {max} minutes")]
pub struct RetentionTooLong {
    /// What the policy allows.
    pub max: u32,
}

/// Why a key was not rotated.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum RotateRefused {
    /// The key is deleted: to callers it does not exist.
    #[error("the key is deleted")]
    Deleted,
    /// The key has expired and the rotation brings no new expiry.
    #[error("the key has expired: rotate it together with a new expiry")]
    Expired,
    /// The new expiry is not ahead.
    #[error("the new expiry must lie in the future")]
    ExpiryPast,
    /// The generation cannot rise any more.
    #[error("the key has been rotated as often as can be counted: create a new one")]
    GenerationsExhausted,
    /// The key is switched off.
    #[error("the key is inactive: activate it first")]
    Inactive,
    /// The key is revoked.
    #[error("the key is revoked, which is final")]
    Terminal,
}

impl From<ExpiryPast> for RotateRefused {
    fn from(ExpiryPast: ExpiryPast) -> RotateRefused {
        RotateRefused::ExpiryPast
    }
}

/// Whole days since the current secret was made: since the last rotation or, without one, since
/// the key was created.
pub fn age_days(created_at: WallMs, last_rotated_at: Option<WallMs>, now: WallMs) -> u64 {
    now.since(last_rotated_at.unwrap_or(created_at)) / DAY_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::{
        Accepted, Expiry, ExpiryChange, ExpiryPast, KeySecrets, MINUTE_MS, Retention,
        RetentionTooLong, RotateRefused, Rotation, age_days,
    };
    use crate::account::KeyState;
    use crate::time::WallMs;

    const NOW: WallMs = WallMs(1_000_000_000);
    /// The secret alone is replaced.
    const PLAIN: Rotation = Rotation { retain: Retention::NONE, expiry: ExpiryChange::Keep };

    fn minutes(count: u64) -> Retention {
        Retention::of_minutes(count, Retention::MAX_MINUTES).expect("within the limit")
    }

    fn in_minutes(count: u64) -> WallMs {
        NOW.plus_ms(count * MINUTE_MS)
    }

    fn key(expiry: Expiry) -> KeySecrets<u32> {
        KeySecrets::issue(1, expiry, NOW).expect("an expiry ahead")
    }

    fn rotated(
        secrets: KeySecrets<u32>,
        retain: u64,
        change: ExpiryChange,
        now: WallMs,
    ) -> Result<KeySecrets<u32>, RotateRefused> {
        let next = secrets.generation() + 1;
        let rotation = Rotation { retain: minutes(retain), expiry: change };
        secrets.rotate(KeyState::Active, next, rotation, now)
    }

    #[test]
    fn the_old_secret_ends_exactly_at_its_deadline() {
        let secrets = rotated(key(Expiry::Never), 60, ExpiryChange::Keep, NOW).expect("rotates");
        assert_eq!(secrets.generation(), 2);
        let end = in_minutes(60).0;
        let both = Accepted { current: Some(&2), previous: Some(&1) };
        let one = Accepted { current: Some(&2), previous: None };
        assert_eq!(secrets.accepted(WallMs(end - 1)), both);
        assert_eq!(secrets.accepted(WallMs(end)), one);
        assert_eq!(secrets.accepted(WallMs(end + 1)), one);
    }

    #[test]
    fn without_retention_the_old_secret_is_gone_at_once() {
        let secrets = rotated(key(Expiry::Never), 0, ExpiryChange::Keep, NOW).expect("rotates");
        assert_eq!(secrets.previous(), None);
    }

    #[test]
    fn a_second_rotation_drops_the_first_secret_at_once() {
        let secrets = rotated(key(Expiry::Never), 60, ExpiryChange::Keep, NOW)
            .and_then(|secrets| rotated(secrets, 30, ExpiryChange::Keep, NOW))
            .expect("rotates twice");
        assert_eq!(secrets.accepted(NOW), Accepted { current: Some(&3), previous: Some(&2) });
    }

    #[test]
    fn retention_never_outlives_the_old_expiry() {
        let expiring = key(Expiry::At(in_minutes(5)));
        let extend = ExpiryChange::Set(Expiry::At(in_minutes(500)));
        let secrets = rotated(expiring, 60, extend, NOW).expect("rotates");
        let until = secrets.previous().map(|previous| previous.retained_until);
        assert_eq!(until, Some(in_minutes(5)));
        assert_eq!(secrets.expiry(), Expiry::At(in_minutes(500)));
    }

    #[test]
    fn a_rotation_that_shortens_the_key_shortens_the_old_secret() {
        let shorten = ExpiryChange::Set(Expiry::At(in_minutes(5)));
        let secrets = rotated(key(Expiry::Never), 60, shorten, NOW)
            .expect("rotates")
            .with_expiry(Expiry::Never, NOW)
            .expect("extends");
        let until = secrets.previous().map(|previous| previous.retained_until);
        assert_eq!(until, Some(in_minutes(5)));
    }

    #[test]
    fn a_later_change_of_expiry_only_shortens_the_old_secret() {
        let until = |secrets: &KeySecrets<u32>| secrets.previous().map(|p| p.retained_until);
        let secrets = rotated(key(Expiry::Never), 60, ExpiryChange::Keep, NOW).expect("rotates");
        let shortened = secrets.with_expiry(Expiry::At(in_minutes(10)), NOW).expect("shortens");
        assert_eq!(until(&shortened), Some(in_minutes(10)));
        let extended = shortened.with_expiry(Expiry::At(in_minutes(90)), NOW).expect("extends");
        assert_eq!(until(&extended), Some(in_minutes(10)));
    }

    #[test]
    fn only_an_active_key_rotates() {
        let attempt = |state| key(Expiry::Never).rotate(state, 2, PLAIN, NOW).map(|_| ());
        assert_eq!(
            KeyState::ALL.map(attempt),
            [
                Ok(()),
                Err(RotateRefused::Deleted),
                Err(RotateRefused::Inactive),
                Err(RotateRefused::Terminal),
            ]
        );
    }

    #[test]
    fn an_expired_key_rotates_only_with_a_new_expiry() {
        let expired = || key(Expiry::At(in_minutes(1)));
        let later = in_minutes(1);
        let set = |expiry| rotated(expired(), 60, ExpiryChange::Set(expiry), later);
        assert_eq!(rotated(expired(), 60, ExpiryChange::Keep, later), Err(RotateRefused::Expired));
        assert_eq!(set(Expiry::At(later)), Err(RotateRefused::ExpiryPast));
        for expiry in [Expiry::Never, Expiry::At(in_minutes(2))] {
            let secrets = set(expiry).expect("rotates");
            let accepted = secrets.accepted(later);
            assert_eq!((accepted.current, accepted.previous), (Some(&2), None));
        }
    }

    #[test]
    fn an_expiry_that_is_not_ahead_is_refused_everywhere() {
        for expiry in [Expiry::At(WallMs(0)), Expiry::At(NOW)] {
            assert_eq!(KeySecrets::issue(1, expiry, NOW), Err(ExpiryPast));
            assert_eq!(key(Expiry::Never).with_expiry(expiry, NOW), Err(ExpiryPast));
            assert_eq!(
                rotated(key(Expiry::Never), 0, ExpiryChange::Set(expiry), NOW),
                Err(RotateRefused::ExpiryPast)
            );
        }
        assert!(KeySecrets::issue(1, Expiry::At(NOW.plus_ms(1)), NOW).is_ok());
    }

    #[test]
    fn retention_is_bounded_by_the_policy_and_by_a_year() {
        let too_long = |max| Err(RetentionTooLong { max });
        assert_eq!(Retention::of_minutes(0, 0), Ok(Retention::NONE));
        assert_eq!(Retention::of_minutes(60, 60), Ok(Retention(60)));
        assert_eq!(Retention::of_minutes(61, 60), too_long(60));
        assert_eq!(Retention::of_minutes(525_601, u32::MAX), too_long(525_600));
        assert_eq!(Retention::of_minutes(u64::MAX, u32::MAX), too_long(525_600));
    }

    #[test]
    fn the_last_generation_is_not_left() {
        let last = KeySecrets::stored(u32::MAX, 1, Expiry::Never, None);
        assert_eq!(
            last.rotate(KeyState::Active, 2, PLAIN, NOW),
            Err(RotateRefused::GenerationsExhausted)
        );
    }

    #[test]
    fn age_counts_whole_days_from_the_last_rotation() {
        let day = |count: u64| WallMs(count * 86_400_000);
        assert_eq!(age_days(day(1), None, WallMs(day(3).0 - 1)), 1);
        assert_eq!(age_days(day(1), Some(day(3)), day(93)), 90);
        assert_eq!(age_days(day(5), None, day(3)), 0);
    }

    /// One thing that can happen to a key, `after_ms` after the last one.
    #[derive(Clone, Debug)]
    enum Happening {
        Rotate { retain: u64, change: ExpiryChangeIn },
        SetExpiry(Option<u64>),
    }

    /// An expiry change relative to its instant.
    type ExpiryChangeIn = Option<Option<u64>>;

    fn happenings() -> impl Strategy<Value = Vec<(u64, Happening)>> {
        let span = || prop_oneof![Just(None), (0_u64..400_000).prop_map(Some)];
        let happening = prop_oneof![
            (0_u64..6, proptest::option::of(span()))
                .prop_map(|(retain, change)| Happening::Rotate { retain, change }),
            span().prop_map(Happening::SetExpiry),
        ];
        proptest::collection::vec((0_u64..200_000, happening), 0..20)
    }

    fn expiry_in(span: Option<u64>, now: WallMs) -> Expiry {
        span.map(|ms| now.plus_ms(ms)).into()
    }

    proptest! {
        /// I-2 and I-3: generations strictly increase, only the two newest secrets are ever
        /// accepted, and a secret that was once refused for its age never comes back.
        #[test]
        fn two_secrets_at_most_and_no_second_life(steps in happenings()) {
            let mut now = NOW;
            let mut secrets = key(Expiry::Never);
            let mut ended: Vec<u32> = Vec::new();
            for (after_ms, happening) in steps {
                now = now.plus_ms(after_ms);
                for older in 1..secrets.generation() {
                    if secrets.accepted(now).previous != Some(&older) {
                        ended.push(older);
                    }
                }
                let before = secrets.clone();
                let result = match happening {
                    Happening::Rotate { retain, change } => {
                        let change = change.map_or(ExpiryChange::Keep, |span| {
                            ExpiryChange::Set(expiry_in(span, now))
                        });
                        rotated(secrets, retain, change, now)
                    }
                    Happening::SetExpiry(span) => secrets
                        .with_expiry(expiry_in(span, now), now)
                        .map_err(RotateRefused::from),
                };
                secrets = match result {
                    Ok(changed) => changed,
                    Err(_) => before.clone(),
                };
                prop_assert!(secrets.generation() >= before.generation());
                prop_assert_eq!(*secrets.current(), secrets.generation());
                if let Some(previous) = secrets.previous() {
                    prop_assert_eq!(previous.secret + 1, secrets.generation());
                    if secrets.generation() == before.generation() {
                        let old = before.previous().expect("it was there before");
                        prop_assert!(previous.retained_until <= old.retained_until);
                    }
                }
                if let Some(previous) = secrets.accepted(now).previous {
                    prop_assert!(!ended.contains(previous), "{} came back", previous);
                }
            }
        }
    }
}
