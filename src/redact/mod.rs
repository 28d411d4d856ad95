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
use crate::redact::needles::Secrets;
use crate::redact::shapes::{SHAPES, Shape};
pub use crate::redact::stream::Masked;

/// What stands in the place of a secret.
pub const MASK: &str = "[redacted]";

/// Shorter secrets are not masked: they would mask ordinary words.
const MIN_SECRET_BYTES: usize = 8;

/// Knows what is to be masked. Shows none of it.
pub struct Redactor {
    secrets: Option<Secrets>,
    /// Finds the prefixes of [`SHAPES`]. They are few enough for the quickest search there is.
    shapes: AhoCorasick,
    /// All needles in order: the secrets' forms and the shapes' prefixes.
    texts: Vec<Vec<u8>>,
    longest: usize,
    /// Which two bytes a needle can begin with.
    beginnings: Vec<bool>,
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
        let long = secrets
            .into_iter()
            .map(str::trim)
            .filter(|s| s.len() >= MIN_SECRET_BYTES);
        let mut texts: Vec<Vec<u8>> = long.flat_map(forms).collect();
        texts.sort_unstable();
        texts.dedup();
        let secrets = (!texts.is_empty()).then(|| Secrets::new(&texts));
        let prefixes: Vec<&[u8]> = SHAPES.iter().map(|shape| shape.prefix.as_bytes()).collect();
        let shapes = automaton(&prefixes);
        texts.extend(prefixes.into_iter().map(<[u8]>::to_vec));
        texts.sort_unstable();
        let mut beginnings = vec![false; 1 << 16];
        for text in &texts {
            beginnings[pair(text[0], text[1])] = true;
        }
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
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
        if let [first, second, ..] = tail
            && !self.beginnings[pair(*first, *second)]
        {
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

fn automaton<T: AsRef<[u8]>>(needles: &[T]) -> AhoCorasick {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(needles)
        .expect("so few needles fit into an automaton")
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(u16::from_le_bytes([first, second]))
}
