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

pub(super) fn token(shape: &Shape, buffer: &[u8], from: usize, before: Option<u8>) -> Token {
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

pub(super) fn token_end(buffer: &[u8], from: usize) -> usize {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let length = buffer[from..].iter().position(|byte| !is_token(byte));
    length.map_or(buffer.len(), |length| from + length)
}
