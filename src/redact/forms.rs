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
/// the pieces, which overlap. Of a private key these are of its lines: others have the same around.
pub(super) fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = whole(secret);
    let lines = lines_of_key(secret);
    if lines.is_empty() {
        forms.extend(encoded(secret.as_bytes()));
    }
    for line in lines {
        forms.extend(whole(line));
        forms.extend(encoded(line.as_bytes()));
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// The lines of the private keys that a text holds in PEM, also where its line feeds are escaped or
/// became spaces.
pub(super) fn lines_of_key(text: &str) -> Vec<&str> {
    let blocks = text.split("-----BEGIN ").skip(1).filter_map(|block| {
        let (label, rest) = block.split_once("-----")?;
        let body = rest.split("-----").next()?;
        label.contains("KEY").then_some(body)
    });
    let lines = blocks.flat_map(|body| body.split("\\n").flat_map(str::lines));
    // A header, as of an encrypted key, is no part of it.
    let lines = lines.filter(|line| !line.contains(':'));
    let lines = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c == '\\'));
    lines.filter(|line| !is_too_short(line)).collect()
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
