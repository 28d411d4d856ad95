//! Streams on their way through a redactor, piece by piece.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::redact::shapes::{MAX_ESCAPE_BYTES, MAX_TOKEN_BYTES, token, token_end};
use crate::redact::{Found, MASK, Redactor};

/// One stream on its way through a redactor.
#[derive(Debug, Default)]
pub struct Masked {
    /// Bytes that could be the beginning of a secret.
    pub(super) held: Vec<u8>,
    /// So many of them are masked already: a secret may begin in another.
    hidden: usize,
    /// The bytes before them, as many as tell whether a token can begin.
    before: Vec<u8>,
    /// A token that is longer than is held back: its further characters are dropped.
    in_token: bool,
    /// Something was masked.
    found: bool,
}

impl Masked {
    /// Whether anything was masked.
    pub fn has_masked(&self) -> bool {
        self.found
    }

    /// Takes the next bytes and gives those that can be let go, in two pieces: what was held back,
    /// and what follows. Where nothing is masked, the second is not copied.
    pub fn push<'a>(&mut self, redactor: &Redactor, bytes: &'a [u8]) -> [Cow<'a, [u8]>; 2] {
        let before = [&self.before, &self.held].map(Vec::as_slice);
        if !self.in_token
            && self.hidden == 0
            && let Next::LetGo(to) = Search::new(redactor, bytes, 0, before, false).next(0)
            && let Some(first) = self.settle(redactor, bytes)
        {
            let (clean, held) = bytes.split_at(to);
            self.held = held.to_vec();
            self.remember(&first);
            self.remember(clean);
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
            let found = Search::new(redactor, &seam, 0, [&[]; 2], true).needle(0);
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
        let mut done = std::mem::take(&mut self.hidden);
        let mut from = 0;
        if self.in_token {
            done = token_end(buffer, 0);
            if done == buffer.len() && !is_last {
                return done;
            }
            from = done;
            self.in_token = false;
            self.before = b"x".to_vec();
        }
        let before = self.before.clone();
        let mut search = Search::new(redactor, buffer, from, [&before, &[]], is_last);
        loop {
            match search.next(done) {
                Next::Mask {
                    start,
                    end,
                    goes_on,
                } => {
                    if start >= done {
                        self.let_go(buffer, done, start, clean);
                        clean.extend_from_slice(MASK.as_bytes());
                        self.found = true;
                        self.before = b"]".to_vec();
                    }
                    done = done.max(end);
                    if goes_on {
                        self.in_token = true;
                        return done;
                    }
                }
                Next::LetGo(to) => {
                    self.let_go(buffer, done, to.max(done), clean);
                    self.hidden = done.saturating_sub(to);
                    return to;
                }
            }
        }
    }

    fn let_go(&mut self, buffer: &[u8], from: usize, to: usize, clean: &mut Vec<u8>) {
        clean.extend_from_slice(&buffer[from..to]);
        self.remember(&buffer[from..to]);
    }

    /// Notes what was let go.
    fn remember(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(MAX_ESCAPE_BYTES)..];
        let excess = (self.before.len() + last.len()).saturating_sub(MAX_ESCAPE_BYTES);
        self.before.drain(..excess);
        self.before.extend_from_slice(last);
    }
}

/// The needles of a buffer, in order: the leftmost first, of two at one place the longer. Secrets may
/// overlap.
struct Search<'a> {
    redactor: &'a Redactor,
    buffer: &'a [u8],
    /// What lies before the buffer, in two pieces.
    before: [&'a [u8]; 2],
    /// Nothing follows the buffer.
    is_last: bool,
    /// From here on a needle could begin whose end is not there yet.
    open: usize,
    /// Secrets that begin earlier are found.
    from: usize,
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
        before: [&'a [u8]; 2],
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
            from,
        }
    }

    /// The next needle; `from` is where tokens may begin.
    fn needle(&mut self, from: usize) -> Option<Found> {
        if self.secret.is_some_and(|found| found.start < self.from) {
            self.secret = self.redactor.find_secret(self.buffer, self.from);
        }
        if self.shape.is_some_and(|found| found.start < from) {
            self.shape = self.redactor.find_shape(self.buffer, from);
        }
        let both = self.secret.into_iter().chain(self.shape);
        both.min_by_key(|found| (found.start, Reverse(found.end)))
    }

    fn next(&mut self, done: usize) -> Next {
        let length = self.buffer.len();
        let mut from = done;
        while let Some(Found { start, end, shape }) = self.needle(from) {
            if start >= self.open {
                break;
            }
            let Some(shape) = shape else {
                self.from = start + 1;
                let goes_on = false;
                return Next::Mask {
                    start,
                    end,
                    goes_on,
                };
            };
            // What is masked is no word that could go on into a token.
            let [first, second] = if done == 0 {
                self.before
            } else {
                [b"]".as_slice(), b""]
            };
            let near = &self.buffer[start.saturating_sub(MAX_ESCAPE_BYTES).max(done)..start];
            let token = token(shape, self.buffer, end, &[first, second, near].concat());
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
            // An ordinary word.
            from = start + 1;
        }
        Next::LetGo(self.open)
    }
}

/// The first position from which on the buffer could be the beginning of a needle, or of a token
/// whose characters are not all there yet.
fn first_open(redactor: &Redactor, buffer: &[u8], from: usize) -> usize {
    let begin = buffer
        .len()
        .saturating_sub(redactor.longest.saturating_sub(1))
        .max(from);
    (begin..buffer.len())
        .find(|at| redactor.begins(&buffer[*at..]))
        .unwrap_or(buffer.len())
}
