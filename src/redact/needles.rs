//! The quick search for the forms of secrets, however many there are.

use crate::redact::{Found, MIN_SECRET_BYTES};

/// Finds the forms of the secrets, however many: of the text it looks at four bytes here and there,
/// so closely that no secret lies between, and at more only where those could be of one.
pub(super) struct Secrets {
    /// In order.
    needles: Vec<Vec<u8>>,
    /// From one look to the next.
    stride: usize,
    /// Which four bytes a look may find in a needle.
    seen: [Table; 2],
    /// Which eight bytes a needle may begin with.
    heads: Table,
}

/// The strides are powers of two: the least is for secrets of [`MIN_SECRET_BYTES`], the other for pieces.
const LEAST_STRIDE: usize = 4;
const MOST_STRIDE: usize = 8;

/// How many looks are taken at once: one is mostly in vain, and so are several.
const LOOKS: usize = 4;

impl Secrets {
    /// The needles are in order, and none is shorter than [`MIN_SECRET_BYTES`].
    pub(super) fn new(needles: Vec<Vec<u8>>) -> Self {
        let is_long = |needle: &Vec<u8>| needle.len() >= MOST_STRIDE + 3;
        let stride = if needles.iter().all(is_long) {
            MOST_STRIDE
        } else {
            LEAST_STRIDE
        };
        let all = || needles.iter();
        let looks = || all().flat_map(|needle| (0..stride).map(|at| &needle[at..]));
        Self {
            stride,
            seen: [0, 1].map(|table| Table::new(looks().map(|seen| four(seen)[table]))),
            heads: Table::new(all().map(|needle| eight(needle))),
            needles,
        }
    }

    /// The leftmost needle, the longest of those that begin there. Takes a time that is linear in the
    /// text, whatever that holds.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<Found> {
        // Where the compiler knows the stride, looks are not each checked against the text's end.
        match self.stride {
            MOST_STRIDE => self.find_by::<MOST_STRIDE>(bytes),
            _ => self.find_by::<LEAST_STRIDE>(bytes),
        }
    }

    fn find_by<const STRIDE: usize>(&self, bytes: &[u8]) -> Option<Found> {
        let mut at = 0;
        while at + 4 <= bytes.len() {
            let sees =
                |group: &[u8], look: usize| self.seen[0].has(four(&group[look * STRIDE..])[0]);
            let groups = bytes[at..].chunks_exact(LOOKS * STRIDE);
            let passed = groups.take_while(|group| {
                // All are taken: which of them sees something cannot be foretold.
                !(0..LOOKS).fold(false, |any, look| any | sees(group, look))
            });
            at += passed.count() * LOOKS * STRIDE;
            if at + 4 > bytes.len() {
                break;
            }
            let look = four(&bytes[at..]);
            if self.seen[0].has(look[0]) && self.seen[1].has(look[1]) {
                // What begins earlier was seen by the look before.
                for start in at.saturating_sub(STRIDE - 1)..=at {
                    if let Some(length) = self.begins(&bytes[start..]) {
                        let (end, shape) = (start + length, None);
                        return Some(Found { start, end, shape });
                    }
                }
            }
            at += STRIDE;
        }
        None
    }

    /// The length of the longest needle that a text begins with.
    fn begins(&self, text: &[u8]) -> Option<usize> {
        let head = text.get(..MIN_SECRET_BYTES)?;
        if !self.heads.has(eight(head)) {
            return None;
        }
        let first = self.needles.partition_point(|needle| &needle[..] < head);
        let like = self.needles[first..].iter();
        like.take_while(|needle| needle.starts_with(head))
            .filter(|needle| text.starts_with(needle))
            .map(Vec::len)
            .max()
    }
}

/// A hash table without lists, of bits: few enough for a processor's nearest cache.
pub(super) struct Table(Box<[u8; 1 << 15]>);

impl Table {
    pub(super) fn new(hashes: impl Iterator<Item = u32>) -> Self {
        let mut table: Box<[u8; 1 << 15]> = vec![0; 1 << 15].try_into().expect("of this length");
        for hash in hashes {
            table[(hash >> 17) as usize] |= 1 << (hash >> 14 & 7);
        }
        Self(table)
    }

    pub(super) fn has(&self, hash: u32) -> bool {
        self.0[(hash >> 17) as usize] & 1 << (hash >> 14 & 7) != 0
    }
}

/// Two hashes of the first four bytes.
pub(super) fn four(bytes: &[u8]) -> [u32; 2] {
    let four = u32::from_le_bytes(*bytes.first_chunk().expect("these are four"));
    [0x9e37_79b1, 0x85eb_ca77].map(|factor| four.wrapping_mul(factor))
}

fn eight(bytes: &[u8]) -> u32 {
    let [first, second] = [bytes, &bytes[4..]].map(four);
    first[0] ^ second[1]
}
