//! Secrets out of byte streams, before the first write.
//!
//! Two kinds are masked: the secrets that the runner knows, in their usual encodings, and tokens of
//! well-known shapes. A secret is found however the stream is split; bytes are held back only while
//! they could be the beginning of one.

use std::borrow::Cow;
use std::cmp::Reverse;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// What stands in the place of a secret.
pub const MASK: &str = "[redacted]";

/// Shorter secrets are not masked: they would mask ordinary words.
const MIN_SECRET_BYTES: usize = 8;

/// The most bytes that are held back for one token; a longer one is masked as far as it is seen.
const MAX_TOKEN_BYTES: usize = 1024;

/// A well-known shape: a prefix, and at least this many token characters after it.
struct Shape {
    prefix: &'static str,
    least: usize,
}

const fn shape(prefix: &'static str, least: usize) -> Shape {
    Shape { prefix, least }
}

/// From the providers' documentation of their token formats.
const SHAPES: &[Shape] = &[
    shape("ghp_", 36),
    shape("gho_", 36),
    shape("ghu_", 36),
    shape("ghs_", 36),
    shape("ghr_", 36),
    shape("github_pat_", 40),
    shape("glpat-", 20),
    shape("sk-", 20),
    shape("AKIA", 16),
    shape("ASIA", 16),
    shape("AIza", 35),
    shape("xoxb-", 20),
    shape("xoxp-", 20),
    shape("npm_", 36),
    shape("tk_", 29),
    shape("eyJhbGciOi", 20),
];

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
        let mut texts: Vec<Vec<u8>> = long.flat_map(encodings).collect();
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

fn automaton<T: AsRef<[u8]>>(needles: &[T]) -> AhoCorasick {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(needles)
        .expect("so few needles fit into an automaton")
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

/// The needles of a buffer, in order: the leftmost first, of two at one place the longer.
struct Search<'a> {
    redactor: &'a Redactor,
    buffer: &'a [u8],
    /// The byte before the buffer.
    before: Option<u8>,
    /// Nothing follows the buffer.
    is_last: bool,
    /// From here on a needle could begin whose end is not there yet.
    open: usize,
    secret: Option<Found>,
    shape: Option<Found>,
}

/// What becomes of a buffer.
enum Next {
    /// This is to be masked.
    Mask {
        start: usize,
        end: usize,
        /// A token whose end is not there yet.
        goes_on: bool,
    },
    /// Nothing more is to be masked, and what lies before this can be let go.
    LetGo(usize),
}

impl<'a> Search<'a> {
    fn new(
        redactor: &'a Redactor,
        buffer: &'a [u8],
        from: usize,
        before: Option<u8>,
        is_last: bool,
    ) -> Self {
        let open = if is_last {
            buffer.len()
        } else {
            first_open(redactor, buffer, from)
        };
        Self {
            secret: redactor.find_secret(buffer, from),
            shape: redactor.find_shape(buffer, from),
            redactor,
            buffer,
            before,
            is_last,
            open,
        }
    }

    fn needle(&mut self, from: usize) -> Option<Found> {
        let is_past = |found: Found| found.start < from;
        if self.secret.is_some_and(is_past) {
            self.secret = self.redactor.find_secret(self.buffer, from);
        }
        if self.shape.is_some_and(is_past) {
            self.shape = self.redactor.find_shape(self.buffer, from);
        }
        let both = self.secret.into_iter().chain(self.shape);
        both.min_by_key(|found| (found.start, Reverse(found.end)))
    }

    fn next(&mut self, mut from: usize) -> Next {
        let length = self.buffer.len();
        while let Some(Found { start, end, shape }) = self.needle(from) {
            if start >= self.open {
                break;
            }
            let Some(shape) = shape else {
                let goes_on = false;
                return Next::Mask {
                    start,
                    end,
                    goes_on,
                };
            };
            let before = start.checked_sub(1).map(|at| self.buffer[at]);
            let token = token(shape, self.buffer, end, before.or(self.before));
            let goes_on = token.end == length && !self.is_last;
            if goes_on && token.is_possible && length - start < MAX_TOKEN_BYTES {
                return Next::LetGo(start);
            }
            if token.is_whole {
                let end = token.end;
                return Next::Mask {
                    start,
                    end,
                    goes_on,
                };
            }
            // An ordinary word; a secret may still begin inside its prefix.
            from = start + 1;
        }
        Next::LetGo(self.open.max(from))
    }
}

/// Finds the forms of the secrets, however many: of the text it looks at four bytes here and there,
/// so closely that no secret lies between, and at more only where those could be of one.
struct Secrets {
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
    fn new(needles: &[Vec<u8>]) -> Self {
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
    fn find(&self, bytes: &[u8]) -> Option<Found> {
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

/// The forms in which a secret turns up.
fn encodings(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut forms = vec![secret.to_owned(), hexadecimal(bytes, "0123456789abcdef")];
    forms.push(hexadecimal(bytes, "0123456789ABCDEF"));
    let json = serde_json::Value::from(secret).to_string();
    forms.push(json.trim_matches('"').to_owned());
    forms.push(url_encoded(bytes));
    for engine in [STANDARD, URL_SAFE] {
        for offset in 0..3 {
            // Where the secret stands inside a longer text, its first and last base64 characters
            // also depend on its neighbours; those are left out.
            let mut padded = vec![0; offset];
            padded.extend_from_slice(bytes);
            let text = engine.encode(&padded);
            let first = [0, 2, 3][offset];
            let last = padded.len() * 8 / 6;
            forms.extend(text.get(first..last).map(str::to_owned));
        }
    }
    forms.into_iter().map(String::into_bytes).collect()
}

fn hexadecimal(bytes: &[u8], digits: &str) -> String {
    let digits: Vec<char> = digits.chars().collect();
    let pair = |byte: &u8| {
        [
            digits[usize::from(byte >> 4)],
            digits[usize::from(byte & 15)],
        ]
    };
    bytes.iter().flat_map(pair).collect()
}

fn url_encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push_str(&hexadecimal(&[*byte], "0123456789ABCDEF"));
        }
    }
    text
}

/// One stream on its way through a redactor.
#[derive(Debug, Default)]
pub struct Masked {
    /// Bytes that could be the beginning of a secret.
    held: Vec<u8>,
    /// The byte before them.
    before: Option<u8>,
    /// A token that is longer than is held back: its further characters are dropped.
    in_token: bool,
}

impl Masked {
    /// Takes the next bytes and gives those that can be let go, in two pieces: what was held back,
    /// and what follows. Where nothing is masked, the second is not copied.
    pub fn push<'a>(&mut self, redactor: &Redactor, bytes: &'a [u8]) -> [Cow<'a, [u8]>; 2] {
        let before = self.held.last().copied().or(self.before);
        if !self.in_token
            && let Next::LetGo(to) = Search::new(redactor, bytes, 0, before, false).next(0)
            && let Some(first) = self.settle(redactor, bytes)
        {
            let (clean, held) = bytes.split_at(to);
            self.held = held.to_vec();
            self.before = clean.last().or(first.last()).copied().or(self.before);
            return [Cow::Owned(first), Cow::Borrowed(clean)];
        }
        let mut buffer = std::mem::take(&mut self.held);
        buffer.extend_from_slice(bytes);
        let mut clean = Vec::with_capacity(buffer.len());
        let rest = self.mask(redactor, &buffer, false, &mut clean);
        buffer.drain(..rest);
        self.held = buffer;
        [Cow::Owned(clean), Cow::Borrowed(&[])]
    }

    /// Takes what was held back, when the next bytes show that nothing to be masked begins in it.
    fn settle(&mut self, redactor: &Redactor, bytes: &[u8]) -> Option<Vec<u8>> {
        if !self.held.is_empty() {
            let decisive = bytes.get(..redactor.longest.saturating_sub(1))?;
            let seam = [&self.held, decisive].concat();
            let found = Search::new(redactor, &seam, 0, None, true).needle(0);
            if found.is_some_and(|found| found.start < self.held.len()) {
                return None;
            }
        }
        Some(std::mem::take(&mut self.held))
    }

    /// Lets go of what was held back.
    pub fn finish(&mut self, redactor: &Redactor) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.held);
        let mut clean = Vec::new();
        self.mask(redactor, &buffer, true, &mut clean);
        clean
    }

    /// Masks `buffer` and tells from where on it must be seen again with more bytes behind it.
    fn mask(
        &mut self,
        redactor: &Redactor,
        buffer: &[u8],
        is_last: bool,
        clean: &mut Vec<u8>,
    ) -> usize {
        let mut done = 0;
        if self.in_token {
            done = token_end(buffer, 0);
            if done == buffer.len() && !is_last {
                return done;
            }
            self.in_token = false;
            self.before = Some(b'x');
        }
        let mut search = Search::new(redactor, buffer, done, self.before, is_last);
        loop {
            match search.next(done) {
                Next::Mask {
                    start,
                    end,
                    goes_on,
                } => {
                    self.let_go(buffer, done, start, clean);
                    clean.extend_from_slice(MASK.as_bytes());
                    self.before = Some(b']');
                    self.in_token = goes_on;
                    done = end;
                }
                Next::LetGo(to) => return self.let_go(buffer, done, to, clean),
            }
        }
    }

    fn let_go(&mut self, buffer: &[u8], from: usize, to: usize, clean: &mut Vec<u8>) -> usize {
        clean.extend_from_slice(&buffer[from..to]);
        self.before = buffer[from..to].last().copied().or(self.before);
        to
    }
}

/// The first position from which on the buffer could be the beginning of a needle, or of a token
/// whose characters are not all there yet.
fn first_open(redactor: &Redactor, buffer: &[u8], from: usize) -> usize {
    let begin = buffer
        .len()
        .saturating_sub(redactor.longest.saturating_sub(1))
        .max(from);
    let opens = |at: &usize| {
        let tail = &buffer[*at..];
        if let [first, second, ..] = tail
            && !redactor.beginnings[pair(*first, *second)]
        {
            return false;
        }
        let texts = &redactor.texts;
        let next = texts.partition_point(|text| text.as_slice() <= tail);
        texts.get(next).is_some_and(|text| text.starts_with(tail))
    };
    (begin..buffer.len()).find(opens).unwrap_or(buffer.len())
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(u16::from_le_bytes([first, second]))
}

/// What follows the prefix of a shape.
struct Token {
    end: usize,
    /// No word goes on into the prefix.
    is_possible: bool,
    /// It has all that the shape asks for.
    is_whole: bool,
}

fn token(shape: &Shape, buffer: &[u8], from: usize, before: Option<u8>) -> Token {
    let end = token_end(buffer, from);
    let body = &buffer[from..end];
    let is_possible = !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_whole = is_possible && body.len() >= shape.least && body.iter().any(u8::is_ascii_digit);
    Token {
        end,
        is_possible,
        is_whole,
    }
}

fn token_end(buffer: &[u8], from: usize) -> usize {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let length = buffer[from..].iter().position(|byte| !is_token(byte));
    length.map_or(buffer.len(), |length| from + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "hunter2/\"quoted\"+long";

    fn redactor() -> Redactor {
        Redactor::new([SECRET, "short", "another-secret-value"])
    }

    /// A key of several lines has long forms, and much of what agents print begins like one.
    #[test]
    fn text_full_of_beginnings_of_a_secret_is_searched_in_linear_time() {
        let dashes = "-----";
        let key = format!(
            "{dashes}BEGIN KEY{dashes}\n{}\n{dashes}END KEY",
            "0123456789ab".repeat(200)
        );
        let redactor = Redactor::new([key.as_str()]);
        let mut text = "-".repeat(4 << 20);
        text.push_str(&key);
        let began = std::time::Instant::now();
        assert!(!redactor.text(&text).contains(&key));
        assert!(began.elapsed() < std::time::Duration::from_mins(1));
    }

    fn in_pieces(text: &str, at: &[usize]) -> String {
        let redactor = redactor();
        let (mut stream, mut clean, mut from) = (Masked::default(), Vec::new(), 0);
        for to in at.iter().copied().chain([text.len()]) {
            clean.extend(stream.push(&redactor, &text.as_bytes()[from..to]).concat());
            from = to;
        }
        clean.extend(stream.finish(&redactor));
        String::from_utf8(clean).unwrap()
    }

    /// Every form of the secret, and tokens of known shapes, among ordinary words.
    fn corpus() -> String {
        let json = serde_json::Value::from(SECRET).to_string();
        let shifted = [1, 2, 3].map(|n| STANDARD.encode(format!("{}{SECRET}!!", "x".repeat(n))));
        let hex = hexadecimal(SECRET.as_bytes(), "0123456789abcdef");
        let token = format!("ghp_{}", "aB3".repeat(12));
        let key = format!("sk-ant-api03-{}", "Zz9_".repeat(20));
        format!(
            "plain {SECRET} json {json} url {} hex {hex} base64 {} {} {} {token}, \"{key}\" another-secret-value.",
            url_encoded(SECRET.as_bytes()),
            shifted[0],
            shifted[1],
            shifted[2],
        )
    }

    #[test]
    fn every_form_of_a_secret_and_known_tokens_are_masked() {
        let clean = redactor().text(&corpus());
        insta::assert_snapshot!(clean);
        for part in [
            "hunter2",
            "quoted",
            "68756e",
            "ghp_",
            "sk-ant",
            "another-secret",
        ] {
            assert!(!clean.contains(part), "{part}: {clean}");
        }
    }

    #[test]
    fn a_secret_is_masked_however_the_stream_is_split() {
        let text = corpus();
        let whole = redactor().text(&text);
        let bytes: Vec<usize> = (1..text.len()).collect();
        assert_eq!(in_pieces(&text, &bytes), whole, "byte by byte");
        for first in 0..text.len() {
            for second in [first + 1, first + 7, first + 40] {
                let at = [first, second.min(text.len())];
                assert_eq!(in_pieces(&text, &at), whole, "{at:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_masked_is_what_naive_replacement_masks_at_every_split(
            secrets in prop::collection::vec("[ab\"/]{8,12}|[a-c]{40,60}", 0..4),
            parts in prop::collection::vec((any::<prop::sample::Index>(), 0..60_usize, "[ab\"/ ]{0,40}"), 0..12),
            splits in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let redactor = Redactor::new(secrets.iter().map(String::as_str));
            let forms: Vec<_> = secrets.iter().flat_map(|secret| encodings(secret)).collect();
            let mut text = Vec::new();
            for (form, length, filler) in parts {
                if !forms.is_empty() {
                    let form = form.get(&forms);
                    text.extend(&form[..form.len().min(length)]);
                }
                text.extend(filler.bytes());
            }
            let mut naive = Vec::new();
            let mut rest = &text[..];
            while let Some(byte) = rest.first() {
                let here = forms.iter().filter(|form| rest.starts_with(form));
                if let Some(longest) = here.map(Vec::len).max() {
                    naive.extend(MASK.bytes());
                    rest = &rest[longest..];
                } else {
                    naive.push(*byte);
                    rest = &rest[1..];
                }
            }
            let mut at: Vec<usize> = splits.iter().map(|split| split.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let (mut stream, mut clean) = (Masked::default(), Vec::new());
            for piece in at.windows(2) {
                clean.extend(stream.push(&redactor, &text[piece[0]..piece[1]]).concat());
            }
            clean.extend(stream.finish(&redactor));
            prop_assert_eq!(clean, naive);
        }
    }

    #[test]
    fn a_secret_over_the_seam_of_two_large_pieces_is_masked_at_every_split() {
        let redactor = redactor();
        let filler = "x".repeat(300);
        let token = format!("ghp_{}", "aB3".repeat(12));
        for secret in [SECRET, &token] {
            // Words that begin like a token do not hide one.
            for filler in [&filler, &"sk-short npm_run disk-free ".repeat(12)] {
                let text = format!("{filler} {secret} {filler}");
                let begin = filler.len();
                for at in begin..=begin + secret.len() + 1 {
                    let clean = in_pieces(&text, &[at]);
                    assert_eq!(clean, format!("{filler} {MASK} {filler}"), "{at}");
                }
            }
        }
        // What was held back, and is no secret, is let go without a copy of what follows.
        let mut stream = Masked::default();
        stream.push(&redactor, b"x");
        assert_eq!(stream.held, b"x");
        let [first, rest] = stream.push(&redactor, filler.as_bytes());
        assert_eq!(first, b"x".as_slice());
        assert!(matches!(rest, Cow::Borrowed(_)) && rest.len() == 299);
    }

    #[test]
    fn ordinary_words_stay() {
        let text = "task-list, risk-averse disk-encryption-configuration-of-the-year, sk-short, \
                    short, ghp_ and AKIA; desk-2024-09-01-inventory-with-many-words";
        assert_eq!(redactor().text(text), text);
        assert!(!redactor().finds(text.as_bytes()));
        assert!(redactor().finds(b"\xff another-secret-value"));
        assert_eq!(Redactor::new([]).text(""), "");
    }

    #[test]
    fn only_what_could_begin_a_secret_is_held_back() {
        let redactor = redactor();
        let (mut stream, mut clean) = (Masked::default(), Vec::new());
        clean.extend(stream.push(&redactor, b"a line that ends\n").concat());
        assert_eq!(clean, b"a line that ends\n");
        clean.extend(stream.push(&redactor, b"another-sec").concat());
        assert_eq!(clean, b"a line that ends\n");
        clean.extend(stream.push(&redactor, b"ond").concat());
        assert!(clean.ends_with(b"another-second"));
    }

    #[test]
    fn a_token_without_end_is_masked_in_bounded_memory() {
        let redactor = redactor();
        let (mut stream, mut clean) = (Masked::default(), Vec::new());
        clean.extend(stream.push(&redactor, b"ghp_").concat());
        for _ in 0..10_000 {
            clean.extend(stream.push(&redactor, b"a1a1a1a1a1").concat());
            assert!(stream.held.len() <= 2 * MAX_TOKEN_BYTES);
        }
        clean.extend(stream.push(&redactor, b" end").concat());
        clean.extend(stream.finish(&redactor));
        assert_eq!(String::from_utf8(clean).unwrap(), "[redacted] end");
    }
}
