//! The forms in which a secret turns up in what an agent prints.

use std::iter;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::model::text::hexadecimal;
use crate::redact::is_too_short;

/// So many characters of base64, nine bytes, are masked by themselves: programs wrap it over lines.
const PIECE_OF_BASE64: usize = 12;

/// So many hexadecimal digits, eight bytes, are.
const PIECE_OF_DIGITS: usize = 16;

/// The secret itself, and how JSON, URLs, base64 and hexadecimal digits write it; of the last two
/// the pieces, which overlap.
pub(super) fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = whole(secret);
    for part in parts(secret) {
        forms.extend(whole(part));
        forms.extend(encoded(part.as_bytes()));
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// What is a secret by itself: all of it. Of one that holds a private key it is what the markers of
/// PEM, which others have too, leave: the key, each of its lines, and what is beside it.
fn parts(secret: &str) -> Vec<&str> {
    let between = between_markers(secret);
    if !between.iter().any(|(label, _)| begins_key(label)) {
        return vec![secret];
    }
    let between = between.into_iter().filter_map(|(label, text)| match label {
        // All keys of a curve have the same.
        "BEGIN EC PARAMETERS" => None,
        _ if begins_key(label) => Some(without_header(text)),
        _ => Some(trimmed(text)),
    });
    let parts = between.chain(lines_of_key(secret));
    parts.filter(|part| !is_too_short(part)).collect()
}

/// The lines of the private keys that a text holds in PEM, which are secrets by themselves; also
/// where its line feeds are escaped or became spaces.
pub fn lines_of_key(text: &str) -> Vec<&str> {
    let between = between_markers(text).into_iter();
    let keys = between.filter(|(label, _)| begins_key(label));
    let lines = keys.flat_map(|(_, key)| without_header(key).split("\\n"));
    let lines = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c == '\\'));
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    lines
        .filter(|line| !is_too_short(line) && line.bytes().all(is_base64))
        .collect()
}

fn begins_key(label: &str) -> bool {
    label.starts_with("BEGIN ") && label.contains("PRIVATE KEY")
}

/// A text without the markers of PEM: what follows each, with its label, and first what is before
/// all.
fn between_markers(text: &str) -> Vec<(&str, &str)> {
    let mut between = Vec::new();
    let (mut label, mut from) = ("", 0);
    for (at, _) in text.match_indices('-') {
        if at >= from
            && let Some(next) = marker(&text[at..])
        {
            between.push((label, &text[from..at]));
            (label, from) = (next, at + DASHES.len() * 2 + next.len());
        }
    }
    between.push((label, &text[from..]));
    between
}

const DASHES: &str = "-----";

/// The label of the marker that a text begins with, as `BEGIN PRIVATE KEY`.
fn marker(text: &str) -> Option<&str> {
    let (label, _) = text.strip_prefix(DASHES)?.split_once(DASHES)?;
    let is_marker = label.starts_with("BEGIN ") || label.starts_with("END ");
    let is_label = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
    (is_marker && label.bytes().all(is_label)).then_some(label)
}

/// Of encrypted keys, and of PGP's.
const HEADERS: [&str; 4] = ["Proc-Type: ", "DEK-Info: ", "Version: ", "Comment: "];

/// A key without its header, which others have too.
fn without_header(key: &str) -> &str {
    let mut key = trimmed(key);
    while HEADERS.iter().any(|header| key.starts_with(header)) {
        let feeds = ["\n", "\\n"];
        let end = feeds.iter().filter_map(|feed| key.find(feed)).min();
        // Where line feeds became spaces, a header is mostly two words.
        let end = end.or_else(|| Some(key.match_indices(' ').nth(1)?.0));
        key = trimmed(&key[end.unwrap_or(key.len())..]);
    }
    key
}

/// A text without the white space around it, also where that is escaped.
fn trimmed(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let cut = |escape| text.strip_prefix(escape).or(text.strip_suffix(escape));
        let Some(rest) = ["\\n", "\\r"].into_iter().find_map(cut) else {
            return text;
        };
        text = rest.trim();
    }
}

fn whole(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    vec![secret.to_owned(), json, url_encoded(secret.as_bytes())]
}

fn encoded(bytes: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    let digits = hexadecimal(bytes);
    for digits in [digits.to_uppercase(), digits] {
        forms.extend(pieces(&digits, 0, 2, PIECE_OF_DIGITS));
    }
    for engine in [STANDARD, URL_SAFE] {
        for offset in 0..3 {
            // Where the secret stands inside a longer text, its first and last base64 characters
            // also depend on its neighbours; those are left out.
            let mut padded = vec![0; offset];
            padded.extend_from_slice(bytes);
            let mut text = engine.encode(&padded);
            let first = [0, 2, 3][offset];
            text.truncate(padded.len() * 8 / 6);
            forms.extend(pieces(&text, first, 4, PIECE_OF_BASE64));
        }
    }
    forms
}

/// The pieces of a text from its character `first` on, which may be wrapped at every multiple of
/// `unit`: all of a line that is as long as a piece lies in some.
fn pieces(text: &str, first: usize, unit: usize, length: usize) -> impl Iterator<Item = String> {
    let last = text.len().saturating_sub(length).max(first);
    let between = (first + 1).next_multiple_of(unit)..last;
    let begins = iter::once(first).chain(between.step_by(unit));
    begins
        .chain(iter::once(last))
        .map(move |begin| text[begin..text.len().min(begin + length)].to_owned())
}

pub(super) fn url_encoded(bytes: &[u8]) -> String {
    let encoded = |byte: &u8| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            char::from(*byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    bytes.iter().map(encoded).collect()
}
