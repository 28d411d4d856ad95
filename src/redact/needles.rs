//! The quick search for the forms of secrets, however many there are.

use aho_corasick::AhoCorasick;

use crate::redact::{Found, automaton};

/// Finds the forms of the secrets, however many: of the text it looks at four bytes here and there,
/// so closely that no secret lies between, and at more only where those could be of one.
pub(super) struct Secrets {
    needles: AhoCorasick,
    /// From one look to the next.
    stride: usize,
    longest: usize,
    /// Which four bytes a look may find in a needle: two hash tables without lists.
    seen: [Box<[bool; TABLE]>; 2],
}

/// The places in each table: few enough for a processor's nearest cache.
const TABLE: usize = 1 << 15;

/// With more there would be more to find in each needle.
const MAX_STRIDE: usize = 32;

/// How many looks are taken at once: one is mostly in vain, and so are several.
const LOOKS: usize = 4;

impl Secrets {
    pub(super) fn new(needles: &[Vec<u8>]) -> Self {
        let lengths = || needles.iter().map(Vec::len);
        let shortest = lengths().min().unwrap_or(0);
        let mut secrets = Self {
            needles: automaton(needles),
            stride: shortest.saturating_sub(3).clamp(1, MAX_STRIDE),
            longest: lengths().max().unwrap_or(0),
            seen: [(); 2].map(|()| vec![false; TABLE].try_into().expect("of this length")),
        };
        for needle in needles {
            for at in 0..secrets.stride {
                for (table, seen) in secrets.seen.iter_mut().enumerate() {
                    seen[Self::place(needle, at, table)] = true;
                }
            }
        }
        secrets
    }

    /// The place of four bytes in a table.
    fn place(bytes: &[u8], at: usize, table: usize) -> usize {
        let four = bytes[at..at + 4].try_into().expect("these are four");
        let mixed = u32::from_le_bytes(four).wrapping_mul([0x9e37_79b1, 0x85eb_ca77][table]);
        (mixed >> 17) as usize % TABLE
    }

    fn may_have(&self, bytes: &[u8], at: usize, table: usize) -> bool {
        self.seen[table][Self::place(bytes, at, table)]
    }

    /// The leftmost needle, the longest of those that begin there. Takes a time that is linear in the
    /// text, whatever that holds: a part that is searched whole is passed for at least its half.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<Found> {
        let mut at = 0;
        while at + 4 <= bytes.len() {
            let last = at + (LOOKS - 1) * self.stride;
            let sees = |any, look| any | self.may_have(bytes, at + look * self.stride, 0);
            if last + 4 <= bytes.len() && !(0..LOOKS).fold(false, sees) {
                at = last + self.stride;
                continue;
            }
            if !(self.may_have(bytes, at, 0) && self.may_have(bytes, at, 1)) {
                at += self.stride;
                continue;
            }
            // What begins earlier was seen by the look before.
            let from = at.saturating_sub(self.stride - 1);
            let to = bytes.len().min(at + 2 * self.longest);
            // A needle that begins before here lies in the part as a whole.
            let end = if to == bytes.len() {
                to
            } else {
                to - self.longest + 1
            };
            let found = self.needles.find(&bytes[from..to]);
            if let Some(found) = found.filter(|found| from + found.start() < end) {
                let (start, end) = (found.start(), found.end());
                let shape = None;
                return Some(Found { start, end, shape }.moved(from));
            }
            at = end + self.stride - 1;
        }
        None
    }
}
