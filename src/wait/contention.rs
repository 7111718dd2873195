//! How long to keep away from a slot that somebody else was quicker to take.
//!
//! Two who claim at the same time pull the same lines back and forth, and both wait for them.
//! Whoever loses a race leaves the lines to the winner for a moment, in which that one makes
//! hundreds of claims undisturbed. The moment doubles while races are lost one soon after the
//! other, and is halved when there was peace in between: where it settles, most claims are
//! undisturbed.
//!
//! The idea is that of every spin lock since T. E. Anderson, "The performance of spin lock
//! alternatives for shared-memory multiprocessors" (IEEE TPDS, 1990). Nobody waits for anybody
//! here: the moment ends by itself.

/// Looks that are not taken after a lost race, at most: some 15 microseconds where one takes 60 ns.
const MOST: u32 = 256;
/// So many claims between two lost races are peace.
const PEACE: u64 = 64;

/// One participant's lost races.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contention {
    /// How many claims it had made when it lost the last one.
    claims: u64,
    looks: u32,
    /// Where that was.
    position: Option<u64>,
}

impl Contention {
    /// A race was lost at `position`, after so many claims. Returns for how many looks to keep
    /// away: none where the last one was lost, for that hint has stayed behind and nobody races.
    pub(crate) fn lost(&mut self, claims: u64, position: u64) -> u32 {
        if self.position == Some(position) {
            return 0;
        }
        let peace = claims.wrapping_sub(self.claims) >= PEACE;
        let looks = if peace {
            self.looks / 2
        } else {
            self.looks * 2
        };
        *self = Self {
            claims,
            looks: looks.clamp(1, MOST),
            position: Some(position),
        };
        self.looks
    }
}

#[cfg(test)]
mod tests {
    use super::{Contention, MOST, PEACE};

    #[test]
    fn the_moment_grows_with_races_and_shrinks_with_peace() {
        let mut contention = Contention::default();
        let mut positions = 0..;
        let mut lost = |claims| contention.lost(claims, positions.next().unwrap());
        let grown: Vec<u32> = (0..11).map(|_| lost(7)).collect();
        assert_eq!(grown, [1, 2, 4, 8, 16, 32, 64, 128, MOST, MOST, MOST]);
        let shrunk: Vec<u32> = (1..11).map(|peace| lost(7 + peace * PEACE)).collect();
        assert_eq!(shrunk, [128, 64, 32, 16, 8, 4, 2, 1, 1, 1]);
        assert_eq!(lost(7 + 11 * PEACE - 1), 2);
    }

    #[test]
    fn a_hint_that_stays_behind_is_no_race() {
        let mut contention = Contention::default();
        assert_eq!(contention.lost(0, 5), 1);
        assert_eq!([contention.lost(0, 5), contention.lost(0, 5)], [0, 0]);
        assert_eq!(contention.lost(0, 6), 2);
    }
}
