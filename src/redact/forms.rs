//! The forms in which a secret turns up in what an agent prints.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::model::text::hexadecimal;

/// The secret itself, and how JSON, URLs, base64 and hexadecimal digits write it.
pub(super) fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let digits = hexadecimal(bytes);
    let json = serde_json::Value::from(secret).to_string();
    let mut forms = vec![
        secret.to_owned(),
        digits.to_uppercase(),
        digits,
        json.trim_matches('"').to_owned(),
        url_encoded(bytes),
    ];
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
