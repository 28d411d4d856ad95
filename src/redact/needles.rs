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

/// The strides are powers of two. The least is for secrets of [`crate::redact::MIN_SECRET_BYTES`]; with
/// a longer one than the most there would be more to find in each needle.
const LEAST_STRIDE: usize = 4;
const MOST_STRIDE: usize = 32;

/// How many looks are taken at once: one is mostly in vain, and so are several.
const LOOKS: usize = 4;

impl Secrets {
    pub(super) fn new(needles: &[Vec<u8>]) -> Self {
        let lengths = || needles.iter().map(Vec::len);
        let shortest = lengths().min().unwrap_or(0);
        let mut secrets = Self {
            needles: automaton(needles),
            stride: 1
                << shortest
                    .saturating_sub(3)
                    .clamp(LEAST_STRIDE, MOST_STRIDE)
                    .ilog2(),
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
        // Where the compiler knows the stride, looks are not each checked against the text's end.
        match self.stride {
            32 => self.find_by::<32>(bytes),
            16 => self.find_by::<16>(bytes),
            8 => self.find_by::<8>(bytes),
            _ => self.find_by::<LEAST_STRIDE>(bytes),
        }
    }

    fn find_by<const STRIDE: usize>(&self, bytes: &[u8]) -> Option<Found> {
        let mut at = 0;
        while at + 4 <= bytes.len() {
            let sees = |group: &[u8], look: usize| self.may_have(group, look * STRIDE, 0);
            let groups = bytes[at..].chunks_exact(LOOKS * STRIDE);
            let passed = groups.take_while(|group| {
                // All are taken: which of them sees something cannot be foretold.
                !(0..LOOKS).fold(false, |any, look| any | sees(group, look))
            });
            at += passed.count() * LOOKS * STRIDE;
            if at + 4 > bytes.len() {
                break;
            }
            if !(self.may_have(bytes, at, 0) && self.may_have(bytes, at, 1)) {
                at += STRIDE;
                continue;
            }
            // What begins earlier was seen by the look before.
            let from = at.saturating_sub(STRIDE - 1);
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
            at = end + STRIDE - 1;
        }
        None
    }
}
