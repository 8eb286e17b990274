//! How a request ended: the one label that its record and its counter carry.

use portcullis_core::verdict::DenyReason;

/// The final outcome of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Verified, authorized and answered by the upstream.
    Allowed,
    /// The caller went away first.
    ClientGone,
    /// Allowed, but the stream was cut before its end.
    Cut,
    /// Answered by the gateway, for this reason.
    Denied(DenyReason),
    /// Answered by the upstream on a public route.
    Public,
}

impl Outcome {
    /// How many outcomes there are.
    pub(crate) const COUNT: usize = 4 + DenyReason::ALL.len();

    /// Place of the outcome in [`Outcome::labels`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Allowed => 0,
            Self::ClientGone => 1,
            Self::Cut => 2,
            Self::Public => 3,
            Self::Denied(reason) => 4 + reason as usize,
        }
    }

    /// The label in records and metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ClientGone => "client_gone",
            Self::Cut => "cut",
            Self::Denied(reason) => reason.label(),
            Self::Public => "public",
        }
    }

    /// Every label, by index.
    pub(crate) fn labels() -> impl Iterator<Item = &'static str> {
        ["allowed", "client_gone", "cut", "public"]
            .into_iter()
            .chain(DenyReason::ALL.iter().map(|reason| reason.label()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_finds_its_own_label() {
        let labels: Vec<_> = Outcome::labels().collect();
        let fixed = [Outcome::Allowed, Outcome::ClientGone, Outcome::Cut, Outcome::Public];
        let denied = DenyReason::ALL.iter().map(|&reason| Outcome::Denied(reason));
        for outcome in fixed.into_iter().chain(denied) {
            assert_eq!(labels[outcome.index()], outcome.label());
        }
        assert_eq!(labels.len(), Outcome::COUNT);
    }
}
