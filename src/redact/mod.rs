//! Secrets out of byte streams, before the first write.
//!
//! Two kinds are masked: the secrets that the runner knows, in their usual encodings, and tokens of
//! well-known shapes. A secret is found however the stream is split; bytes are held back only while
//! they could be the beginning of one.

mod forms;
mod needles;
mod shapes;
mod stream;
#[cfg(test)]
mod tests;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::redact::forms::forms;
pub use crate::redact::forms::lines_of_key;
use crate::redact::needles::{Secrets, Table, four};
use crate::redact::shapes::{SHAPES, Shape};
pub use crate::redact::stream::Masked;

/// What stands in the place of a secret.
pub const MASK: &str = "[redacted]";

/// Shorter secrets are not masked.
const MIN_SECRET_BYTES: usize = 8;

/// Whether a secret is passed over, for it would mask ordinary words.
pub fn is_too_short(secret: &str) -> bool {
    secret.trim().len() < MIN_SECRET_BYTES
}

/// Knows what is to be masked. Shows none of it.
pub struct Redactor {
    secrets: Option<Secrets>,
    /// Finds the prefixes of [`SHAPES`]. They are few enough for the quickest search there is.
    shapes: AhoCorasick,
    /// All needles in order: the secrets' forms and the shapes' prefixes.
    texts: Vec<Vec<u8>>,
    longest: usize,
    /// Which bytes a needle may begin with, up to four.
    beginnings: Table,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Redactor")
            .field("needles", &self.texts.len())
            .finish_non_exhaustive()
    }
}

impl Redactor {
    /// A redactor for these secrets and the well-known shapes. Secrets under 8 bytes are passed
    /// over.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let long = secrets.into_iter().filter(|secret| !is_too_short(secret));
        let long = long.map(str::trim);
        let mut texts: Vec<Vec<u8>> = long.flat_map(forms).collect();
        texts.sort_unstable();
        texts.dedup();
        let secrets = (!texts.is_empty()).then(|| Secrets::new(texts.clone()));
        let prefixes: Vec<&[u8]> = SHAPES.iter().map(|shape| shape.prefix.as_bytes()).collect();
        let shapes = automaton(&prefixes);
        texts.extend(prefixes.into_iter().map(<[u8]>::to_vec));
        texts.sort_unstable();
        let all = || texts.iter().map(Vec::as_slice);
        let beginnings = all().flat_map(|text| (1..=4).map(|length| beginning(text, length)));
        let beginnings = Table::new(beginnings);
        let longest = all().map(<[u8]>::len).max().unwrap_or(0);
        Self {
            secrets,
            shapes,
            texts,
            longest,
            beginnings,
        }
    }

    /// A whole text with its secrets masked.
    pub fn text(&self, text: &str) -> String {
        let mut stream = Masked::default();
        let mut clean = stream.push(self, text.as_bytes()).concat();
        clean.extend(stream.finish(self));
        String::from_utf8_lossy(&clean).into_owned()
    }

    /// Whether a text holds a secret.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        let mut stream = Masked::default();
        // What is masked is replaced; what is only held back comes in the end.
        let clean = stream.push(self, bytes).concat();
        let rest = stream.finish(self);
        clean.iter().chain(&rest).ne(bytes)
    }

    /// Whether a needle begins like this and goes on behind it.
    fn begins(&self, tail: &[u8]) -> bool {
        if !self.beginnings.has(beginning(tail, 4)) {
            return false;
        }
        let next = self.texts.partition_point(|text| text.as_slice() <= tail);
        self.texts
            .get(next)
            .is_some_and(|text| text.starts_with(tail))
    }

    fn find_secret(&self, bytes: &[u8], from: usize) -> Option<Found> {
        let secrets = self.secrets.as_ref()?;
        secrets.find(&bytes[from..]).map(|found| found.moved(from))
    }

    fn find_shape(&self, bytes: &[u8], from: usize) -> Option<Found> {
        let found = self.shapes.find(&bytes[from..])?;
        let shape = Some(&SHAPES[found.pattern().as_usize()]);
        let (start, end) = (found.start(), found.end());
        Some(Found { start, end, shape }.moved(from))
    }
}

/// Where a needle lies.
#[derive(Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    /// Of which shape it is the prefix; `None`: it is a whole secret.
    shape: Option<&'static Shape>,
}

impl Found {
    fn moved(self, by: usize) -> Self {
        Self {
            start: self.start + by,
            end: self.end + by,
            ..self
        }
    }
}

fn automaton(prefixes: &[&[u8]]) -> AhoCorasick {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(prefixes)
        .expect("so few prefixes fit into an automaton")
}

/// A hash of the first bytes, of at most so many.
fn beginning(text: &[u8], length: usize) -> u32 {
    let mut bytes = [0; 4];
    let length = text.len().min(length);
    bytes[..length].copy_from_slice(&text[..length]);
    four(&bytes)[0]
}
