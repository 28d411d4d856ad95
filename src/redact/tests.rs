use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::forms::url_encoded;
use super::shapes::MAX_TOKEN_BYTES;
use super::*;
use crate::model::text::hexadecimal;

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
    let hex = hexadecimal(SECRET.as_bytes());
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
        let forms: Vec<_> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let mut text = Vec::new();
        for (form, length, filler) in parts {
            if !forms.is_empty() {
                let form = form.get(&forms);
                text.extend(&form[..form.len().min(length)]);
            }
            text.extend(filler.bytes());
        }
        let (mut naive, mut masked) = (Vec::new(), 0);
        for (at, byte) in text.iter().enumerate() {
            let here = forms.iter().filter(|form| text[at..].starts_with(form));
            let longest = here.map(Vec::len).max();
            if longest.is_some() && at >= masked {
                naive.extend(MASK.bytes());
            }
            masked = masked.max(at + longest.unwrap_or(0));
            if at >= masked {
                naive.push(*byte);
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

/// As a variable holds one: whole, or with its line feeds escaped or as spaces.
#[test]
fn of_a_private_key_each_line_is_masked_and_nothing_of_what_every_such_key_begins_and_ends_with() {
    let pem = |kind: &str, header: &str, first: char| {
        let line = |from: char| (from..='z').cycle().take(64).collect::<String>();
        let lines = [line(first), line('c'), "sHorT=".to_owned()].join("\n");
        format!("-----BEGIN {kind}-----\n{header}{lines}\n-----END {kind}-----\n")
    };
    let curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let encrypted = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899\n\n";
    for (kind, header) in [
        ("PRIVATE KEY", ""),
        ("RSA PRIVATE KEY", encrypted),
        ("PGP PRIVATE KEY BLOCK", "Version: GnuPG v2\n\n"),
    ] {
        let other = pem(kind, header, 'X').replace(['a', 'c'], "_");
        let around: Vec<&str> = other.split_inclusive('\n').collect();
        let around = [curve, around[0], header, around[around.len() - 1]].concat();
        for key in [
            pem(kind, header, 'a'),
            format!("{}{}", pem("CERTIFICATE", "", 'X'), pem(kind, header, 'a')),
            format!("{curve}{}", pem(kind, header, 'a')),
            pem(kind, header, 'a').replace('\n', "\\n"),
            pem(kind, header, 'a').replace('\n', "\r\n"),
        ] {
            let redactor = Redactor::new([key.as_str()]);
            for line in pem(kind, header, 'a')
                .lines()
                .filter(|line| line.len() == 64)
            {
                let digits = hexadecimal(line.as_bytes());
                for written in [line, &STANDARD.encode(line)[..84], &digits] {
                    assert_eq!(redactor.text(written), MASK, "{kind}: {written}");
                }
            }
            assert_eq!(redactor.text(key.trim()), MASK);
            let digits = hexadecimal(around.as_bytes());
            for written in [around.as_str(), &STANDARD.encode(&around), &digits] {
                assert_eq!(redactor.text(written), written, "{kind}");
            }
        }
    }
    for (kind, header) in [("PRIVATE KEY", ""), ("RSA PRIVATE KEY", encrypted)] {
        let (key, line) = (pem(kind, header, 'a'), pem(kind, "", 'a'));
        let line = line.lines().nth(1).unwrap();
        let words: Vec<&str> = key.split_whitespace().collect();
        for spaces in [key.replace('\n', " "), words.join(" ")] {
            let redactor = Redactor::new([spaces.as_str()]);
            assert_eq!(redactor.text(line), MASK, "{spaces}");
            assert_eq!(redactor.text(header), header);
            let written = STANDARD.encode(header);
            assert_eq!(redactor.text(&written), written);
        }
    }
}

/// Of a text in base64 and in hexadecimal digits, how many characters stay.
fn kept_of_encoded(redactor: &Redactor, text: &str) -> usize {
    let written = [STANDARD.encode(text), hexadecimal(text.as_bytes())];
    let kept = written.map(|written| redactor.text(&written).replace(MASK, "").len());
    kept.into_iter().sum()
}

#[test]
fn what_is_beside_a_private_key_in_one_secret_is_masked_in_base64_and_hexadecimal_digits_too() {
    let [before, after] = ["password: correct-horse-battery-staple-42", "pin: 12345678"];
    let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} PRIVATE KEY-----"));
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC".repeat(2);
    for key in [
        format!("\n{line}\nuser: joe-the-builder\n{line}\nsHorT=\n"),
        format!("\\n{line}\\r\\nsHorT=\\n"),
        format!("-----CERTIFICATE {line}"),
        String::new(),
    ] {
        for feed in ["\n", "\\n", " "] {
            let secret = [before, feed, &begin, &key, &end, feed, after].concat();
            let redactor = Redactor::new([secret.as_str()]);
            for part in [before, after] {
                assert_eq!(redactor.text(part), MASK, "{secret}");
                assert!(kept_of_encoded(&redactor, part) <= 4, "{secret}");
            }
            // In base64 the markers, and up to two characters at each end of what is between.
            let markers =
                [&begin, &end].map(|marker| marker.len().div_ceil(3) * 4 + marker.len() * 2);
            let most = markers.iter().sum::<usize>() + 4 * 4 + 2 * feed.len() * 4;
            let kept = kept_of_encoded(&redactor, &secret);
            assert!(kept <= most, "{kept} {most} {secret}");
        }
    }
    // Markers that are none, and those of one that share their dashes.
    for secret in [
        format!("{before} {}END PRIVATE KEY-----{after}", &begin),
        format!("{before} ----- {after} -----BEGIN "),
        format!("{before} -----BEGIN {line}-----\n{after}"),
    ] {
        let redactor = Redactor::new([secret.as_str()]);
        for part in [before, after] {
            assert!(kept_of_encoded(&redactor, part) <= 12, "{secret}");
        }
    }
}

#[test]
fn a_secret_with_a_public_key_is_masked_as_any_other() {
    let lines = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD".repeat(2);
    for kind in ["PUBLIC KEY", "CERTIFICATE", "KEY", "PRIVATE NOTE"] {
        let secret = format!(
            "password: correct-horse-battery-staple-42\n-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"
        );
        let redactor = Redactor::new([secret.as_str()]);
        assert!(kept_of_encoded(&redactor, &secret) <= 4, "{kind}");
        assert_eq!(redactor.text(&lines), lines);
    }
}

/// Programs wrap base64 at 64 or 76 characters, and hexadecimal digits at 60; what is before the secret
/// decides where in it.
#[test]
fn of_a_secret_in_base64_or_hexadecimal_digits_every_line_is_masked_at_every_split() {
    // In both alphabets of base64.
    let secret = "?>~".repeat(10) + &"0123456789".repeat(6) + "end";
    let redactor = Redactor::new([secret.as_str()]);
    for before in 0..60 {
        let text = ["~".repeat(before).as_str(), &secret, "~~~"].concat();
        let digits = hexadecimal(text.as_bytes());
        for (written, [characters, bytes], widths) in [
            (STANDARD.encode(&text), [4, 3], [64, 76]),
            (URL_SAFE.encode(&text), [4, 3], [64, 76]),
            (digits.to_uppercase(), [2, 1], [60, 32]),
            (digits, [2, 1], [60, 32]),
        ] {
            let begin = before / bytes * characters;
            let end = (before + secret.len()).div_ceil(bytes) * characters;
            for width in widths {
                for (number, line) in written.as_bytes().chunks(width).enumerate() {
                    let here = number * width..number * width + line.len();
                    let of_secret = end.min(here.end).saturating_sub(begin.max(here.start));
                    let (mut stream, mut clean) = (Masked::default(), Vec::new());
                    let (first, second) = line.split_at(line.len() / 2);
                    for piece in [b"\n", first, second, b"\n"] {
                        clean.extend(stream.push(&redactor, piece).concat());
                    }
                    let clean = String::from_utf8(clean).unwrap();
                    let kept = clean.trim().replacen(MASK, "", 1).len();
                    // Characters that are also of a neighbour stay, and what is less than a piece.
                    let most = if of_secret < 20 { of_secret } else { 4 };
                    assert!(
                        kept <= line.len() - of_secret + most,
                        "{before} {width}: {clean}"
                    );
                }
            }
        }
    }
}

/// Looks are taken the farther apart the longer the secrets are, and several at once.
#[test]
fn a_secret_of_any_length_is_found_at_every_place() {
    for length in (MIN_SECRET_BYTES..24).chain([34, 35, 36, 60, 200]) {
        let secret: String = ('a'..='z').cycle().take(length).collect();
        let redactor = Redactor::new([secret.as_str()]);
        for before in 0..300 {
            let [before, after] = [before, 300 - before].map(|dots| ".".repeat(dots));
            let clean = redactor.text(&format!("{before}{secret}{after}"));
            assert_eq!(clean, format!("{before}{MASK}{after}"), "{length}");
        }
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

/// Most CLIs print JSON, where a line feed before a token is `\n`.
#[test]
fn a_token_behind_an_escape_is_masked_at_every_split() {
    let redactor = redactor();
    for token in [
        format!("ghp_{}", "aB3".repeat(12)),
        format!("sk-ant-api03-{}", "Zz9_".repeat(20)),
    ] {
        for escape in [
            r"\n",
            r"\t",
            r"\u003e",
            r"\x3d",
            "%3D",
            "\x1b[32m",
            r"\u001b[38;2;255;255;255m",
            r"\033[0m",
        ] {
            let text = format!("{{\"text\":\"word{escape}{token}\"}}");
            let begin = text.find(escape).unwrap();
            for at in (begin..begin + escape.len() + 3).step_by(2) {
                let clean = in_pieces(&text, &[at, at + 1]);
                assert_eq!(
                    clean,
                    format!("{{\"text\":\"word{escape}{MASK}\"}}"),
                    "{at}"
                );
            }
        }
        // Not an escape, but a word that goes on.
        for word in ["n", "003e", "[m", r"\a", "3D"] {
            assert!(
                !redactor.finds(format!("word{word}{token}").as_bytes()),
                "{word}"
            );
        }
    }
}

#[test]
fn a_token_directly_behind_a_secret_is_masked_at_every_split() {
    let text = format!("a {SECRET}ghp_{} word", "aB3".repeat(12));
    for first in 0..text.len() {
        for at in [vec![first], vec![first, first + 1], (0..first).collect()] {
            let clean = in_pieces(&text, &at);
            assert_eq!(clean, format!("a {MASK}{MASK} word"), "{at:?}");
        }
    }
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
    clean.extend(stream.push(&redactor, b"ond.").concat());
    assert!(clean.ends_with(b"another-second."));
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
