//! Tokens of well-known shapes.

/// The most bytes that are held back for one token; a longer one is masked as far as it is seen.
pub(super) const MAX_TOKEN_BYTES: usize = 1024;

/// A well-known shape: a prefix, and at least this many token characters after it.
pub(super) struct Shape {
    pub(super) prefix: &'static str,
    least: usize,
}

const fn shape(prefix: &'static str, least: usize) -> Shape {
    Shape { prefix, least }
}

/// From the providers' documentation of their token formats.
pub(super) const SHAPES: &[Shape] = &[
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

/// What follows the prefix of a shape.
pub(super) struct Token {
    pub(super) end: usize,
    /// No word goes on into the prefix.
    pub(super) is_possible: bool,
    /// It has all that the shape asks for.
    pub(super) is_whole: bool,
}

/// `before`: the bytes before the prefix, as many as [`MAX_ESCAPE_BYTES`] if there are so many.
pub(super) fn token(shape: &Shape, buffer: &[u8], from: usize, before: &[u8]) -> Token {
    let end = token_end(buffer, from);
    let body = &buffer[from..end];
    let is_possible = !ends_in_word(before) || ends_with_escape(before);
    let is_whole = is_possible && body.len() >= shape.least && body.iter().any(u8::is_ascii_digit);
    Token {
        end,
        is_possible,
        is_whole,
    }
}

/// The longest escape that is known as one: a colour, as `\u001b[38;2;255;255;255m`.
pub(super) const MAX_ESCAPE_BYTES: usize = 24;

fn ends_in_word(text: &[u8]) -> bool {
    let last = text.last();
    last.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Whether the last letter or digit is that of an escape, as of JSON, URLs and terminals: `\n`,
/// `\u003e`, `\x3d`, `%20`, a colour. What follows is a word of its own.
fn ends_with_escape(text: &[u8]) -> bool {
    let ends_with_hexadecimal = |marker: &[u8], digits: usize| {
        let (head, tail) = text.split_at(text.len().saturating_sub(digits));
        head.ends_with(marker) && tail.iter().all(u8::is_ascii_hexdigit)
    };
    let is_colour = || {
        let is_parameter = |byte: &u8| !byte.is_ascii_digit() && !b";:".contains(byte);
        let head = text.strip_suffix(b"m")?;
        let parameters = head.iter().rposition(is_parameter)?;
        let escape = head[..=parameters].strip_suffix(b"[")?;
        let escapes: [&[u8]; 4] = [b"\x1b", b"1b", b"1B", b"033"];
        Some(escapes.iter().any(|known| escape.ends_with(known)))
    };
    let is_letter = |letter: u8| text.ends_with(&[b'\\', letter]);
    b"nrtbf".iter().copied().any(is_letter)
        || ends_with_hexadecimal(b"\\u", 4)
        || ends_with_hexadecimal(b"\\x", 2)
        || ends_with_hexadecimal(b"%", 2)
        || is_colour() == Some(true)
}

pub(super) fn token_end(buffer: &[u8], from: usize) -> usize {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let length = buffer[from..].iter().position(|byte| !is_token(byte));
    length.map_or(buffer.len(), |length| from + length)
}
