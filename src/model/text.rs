//! Text for people from text of strangers: shortened, harmless on a terminal, counted in words.

/// Makes text harmless to print: escape sequences and control characters are removed or shown,
/// line feeds and tabs stay.
///
/// What an agent printed may hold sequences that move the cursor, set a title, write the clipboard
/// or reorder what is read. Whole ANSI sequences are dropped; other control characters (C0 but for
/// `\n` and `\t`, DEL, C1) and bidirectional controls are written as `\u{..}`.
pub fn sanitize(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\u{1b}' => skip_escape_sequence(&mut rest),
            '\u{9b}' => skip_until(&mut rest, |c| ('\u{40}'..='\u{7e}').contains(&c)),
            c if c.is_control() || is_bidirectional_control(c) => {
                clean.extend(c.escape_unicode());
            }
            c => clean.push(c),
        }
    }
    clean
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

// ECMA-48: CSI ends at a final byte 0x40-0x7e; OSC, DCS, PM, APC and SOS end at BEL or ST. What is
// not ended hides nothing beyond its line.
fn skip_escape_sequence(rest: &mut Chars<'_>) {
    match rest.next_if(|c| *c != '\n') {
        Some('[') => skip_until(rest, |c| ('\u{40}'..='\u{7e}').contains(&c)),
        Some(']' | 'P' | '^' | '_' | 'X') => {
            let mut last = '\0';
            while let Some(c) = rest.next_if(|c| *c != '\n') {
                if c == '\u{7}' || c == '\u{9c}' || (last == '\u{1b}' && c == '\\') {
                    return;
                }
                last = c;
            }
        }
        Some(c) if ('\u{20}'..='\u{2f}').contains(&c) => {
            skip_until(rest, |c| ('\u{30}'..='\u{7e}').contains(&c));
        }
        // A two-character sequence, or the end of the line.
        Some(_) | None => {}
    }
}

fn skip_until(rest: &mut Chars<'_>, is_last: impl Fn(char) -> bool) {
    while let Some(c) = rest.next_if(|c| *c != '\n') {
        if is_last(c) {
            return;
        }
    }
}

fn is_bidirectional_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

/// Whether a sign may be an emoji, or the colour of its skin.
fn is_emoji(c: char) -> bool {
    matches!(c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
        | '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{24c2}'
        | '\u{25a0}'..='\u{27bf}' | '\u{2934}' | '\u{2935}' | '\u{2b00}'..='\u{2bff}'
        | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}')
}

/// Whether a text has characters that its reader does not see: bidirectional controls, characters
/// of no width, tags, variation selectors. Between two emoji the joiner is seen, and so is the
/// selector of its two looks after one.
pub fn has_hidden_characters(text: &str) -> bool {
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_hidden = match c {
            '\u{200d}' => {
                !(is_emoji(before) || before == '\u{fe0f}')
                    || !chars.peek().copied().is_some_and(is_emoji)
            }
            // A digit, `#` or `*` becomes a key.
            '\u{fe0e}' | '\u{fe0f}' if matches!(before, '0'..='9' | '#' | '*') => {
                chars.peek() != Some(&'\u{20e3}')
            }
            '\u{fe0e}' | '\u{fe0f}' => !is_emoji(before),
            '\u{fe00}'..='\u{fe0d}' | '\u{17b4}' | '\u{17b5}' => true,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}' => true,
            '\u{200b}' | '\u{200c}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' => true,
            '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
            '\u{1d173}'..='\u{1d17a}' => true,
            c => is_bidirectional_control(c),
        };
        if is_hidden {
            return true;
        }
        before = c;
    }
    false
}

/// A text of somebody else's that mentions nobody and closes nothing where a code host finds names
/// and numbers, as in the message of a commit.
pub fn unlinked(text: &str) -> String {
    // A joiner without a width between the sign and what it would refer to.
    const JOINER: &str = "\u{2060}";
    let mut unlinked = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '@' | '#' => {
                unlinked.push(c);
                unlinked.push_str(JOINER);
            }
            // `https://github.com/o/r/issues/7` refers like `o/r#7`; `GH-7` like `#7`.
            ':' => {
                unlinked.push(c);
                if unlinked.ends_with("http:") || unlinked.ends_with("https:") {
                    unlinked.push_str(JOINER);
                }
            }
            '-' if unlinked.ends_with("GH") => {
                unlinked.push_str(JOINER);
                unlinked.push(c);
            }
            c => unlinked.push(c),
        }
    }
    unlinked
}

/// The first line of a text that is not blank, made harmless and at most `max_chars` long.
pub fn first_line(text: &str, max_chars: usize) -> String {
    let clean = sanitize(text);
    let line = clean
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("");
    shorten(line, max_chars)
}

/// Cuts a text to `max_chars` characters, the last of them `…` when something was cut.
pub fn shorten(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// How many columns of a terminal a character takes, as nearly as the common ones need it.
fn character_width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// How many columns of a terminal a text of one line takes.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars().map(character_width).sum()
}

/// Cuts a text of one line to so many columns, the last of them `…` when something was cut, and
/// fills it with blanks.
pub fn fit(text: &str, columns: usize) -> String {
    let width = width(text);
    if width <= columns {
        return format!("{text}{}", " ".repeat(columns - width));
    }
    let (mut cut, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += character_width(c);
        if used >= columns {
            break;
        }
        cut.push(c);
    }
    let left = columns - self::width(&cut);
    cut.push_str(if left > 0 { "…" } else { "" });
    cut.push_str(&" ".repeat(left.saturating_sub(1)));
    cut
}

/// A text in lines of at most so many columns, broken at blanks, and within a word that is longer.
/// An empty text is one empty line.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    let mut end = |line: &mut String, used: &mut usize| {
        lines.push(line.trim_end().to_owned());
        line.clear();
        *used = 0;
    };
    for word in text.split_inclusive(' ') {
        if used > 0 && used + width(word.trim_end_matches(' ')) > columns {
            end(&mut line, &mut used);
        }
        for c in word.chars() {
            if used + character_width(c) > columns.max(2) && c != ' ' {
                end(&mut line, &mut used);
            }
            used += character_width(c);
            line.push(c);
        }
    }
    end(&mut line, &mut used);
    lines
}

/// Running text in lines of at most so many columns, broken at blanks alone: a longer word has a line
/// of its own, so that it can be copied. What continues a line is indented like it.
pub fn fill(text: &str, columns: usize) -> String {
    let mut filled = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        let item = if line[blanks..].starts_with("- ") {
            2
        } else {
            0
        };
        let indent = Some(blanks + item).filter(|indent| indent * 2 <= columns);
        let indent = indent.unwrap_or(0);
        filled.push_str(&line[..blanks]);
        let mut used = blanks;
        for word in line[blanks..].split_inclusive(' ') {
            if used > indent && used + width(word.trim_end()) > columns {
                filled.truncate(filled.trim_end_matches(' ').len());
                filled.push('\n');
                filled.push_str(&" ".repeat(indent));
                used = indent;
            }
            filled.push_str(word);
            used += width(word);
        }
    }
    filled
}

/// Cuts the middle out of a text longer than `max_bytes`, on characters' borders; the head gets
/// two thirds. The result is never longer than `max_bytes` where that is 64 or more.
pub fn cut_middle(text: &str, max_bytes: usize) -> String {
    /// Room for the note that stands for the middle.
    const NOTE_BYTES: usize = 48;
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let room = max_bytes.saturating_sub(NOTE_BYTES);
    let head = floor_boundary(text, room - room / 3);
    let tail = ceil_boundary(text, text.len() - room / 3);
    let dropped = tail - head;
    format!(
        "{}\n… {dropped} bytes left out …\n{}",
        &text[..head],
        &text[tail..]
    )
}

/// The last `max_bytes` of a text, on a character's border.
pub fn end(text: &str, max_bytes: usize) -> &str {
    &text[ceil_boundary(text, text.len().saturating_sub(max_bytes))..]
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// A server's address without what may be secret in it.
pub fn without_secrets(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => address.to_owned(),
    }
}

/// The candidate that most likely was meant; `None` when none is near.
pub fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro(text, candidate), candidate))
        // The bound that the command line's own suggestions use.
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// What would have been right instead of `text`: the nearest candidate, or all of them.
pub fn suggest<'a>(text: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(candidate) = nearest(text, candidates.clone()) {
        return format!("did you mean `{candidate}`?");
    }
    let all: Vec<String> = candidates.map(|name| format!("`{name}`")).collect();
    format!("known: {}", all.join(", "))
}

/// A number with its noun: `1 commit`, `2 commits`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Bytes as lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_prints_cannot_move_the_cursor_or_set_a_title() {
        let hostile =
            "a\u{1b}[2J\u{1b}]0;owned\u{7}b\u{1b}]52;c;aGk=\u{1b}\\c\u{9b}31md\u{1b}(Be\r\nf";
        assert_eq!(sanitize(hostile), "abcde\nf");
        for open in [
            "\u{1b}[",
            "\u{9b}",
            "\u{1b}(",
            "\u{1b}]0;",
            "\u{1b}P",
            "\u{1b}",
        ] {
            assert_eq!(sanitize(&format!("a{open}\nb")), "a\nb", "{open:?}");
        }
        assert_eq!(sanitize("x\u{8}\u{202e}y\rz"), "x\\u{8}\\u{202e}y\\u{d}z");
        assert_eq!(sanitize("tab\tand ünï ✓"), "tab\tand ünï ✓");
    }

    #[test]
    fn what_a_reader_does_not_see_is_told() {
        let family = "\u{1f469}\u{200d}\u{1f4bb} \u{2764}\u{fe0f}\u{200d}\u{1f525}";
        for clear in [
            "plain ünï ✓ 中文\t\n",
            family,
            "1\u{fe0f}\u{20e3} \u{ae}\u{fe0e}",
            "\u{1f575}\u{1f3fb}\u{200d}\u{2642}\u{fe0f} \u{2194}\u{fe0f}",
        ] {
            assert!(!has_hidden_characters(clear), "{clear}");
        }
        for hidden in [
            "\u{200b}",
            "\u{202e}",
            "\u{2066}",
            "\u{feff}",
            "\u{e0041}",
            "b\u{200d}c",
            "中\u{200d}文",
            "\u{1f469}\u{200d}c",
            "中\u{fe0f}",
            "\u{e9}\u{fe0e}",
            "1\u{fe0f}2",
            "\u{fe0f}",
            "\u{fe01}",
            "\u{2764}\u{fe0f}\u{fe0e}",
            "\u{e0100}",
        ] {
            assert!(has_hidden_characters(&format!("a{hidden}")), "{hidden:?}");
        }
    }

    #[test]
    fn cutting_never_splits_a_character_nor_exceeds_the_limit() {
        let text = "é✓🎉".repeat(500);
        for max in 64..400 {
            let cut = cut_middle(&text, max);
            assert!(cut.len() <= max, "{max}: {}", cut.len());
            assert!(cut.contains("left out"));
        }
        assert_eq!(cut_middle("short", 64), "short");
        assert_eq!(shorten("four", 4), "four");
        assert_eq!(shorten("fives", 4), "fiv…");
    }

    #[test]
    fn a_cell_is_as_wide_as_its_column_whatever_it_holds() {
        for text in [
            "",
            "short",
            "a line that is longer",
            "表表表表表表表",
            "🎉e\u{301}🎉",
        ] {
            for columns in 0..30 {
                assert_eq!(width(&fit(text, columns)), columns, "{text} {columns}");
            }
        }
        assert_eq!(fit("表表表", 5), "表表…");
        assert_eq!(fit("表表表", 4), "表… ");
    }

    #[test]
    fn wrapped_lines_fit_and_hold_every_word() {
        let text = "a fact of some words and averyverylongwordindeed 表表表表表 end";
        for columns in 2..70 {
            let lines = wrap(text, columns);
            assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
            let joined: String = lines.concat().split_whitespace().collect();
            assert_eq!(joined, text.replace(' ', ""), "{columns}");
        }
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
    }

    #[test]
    fn an_address_is_shown_without_a_password_or_a_key() {
        for (address, shown) in [
            ("https://ntfy.sh", "https://ntfy.sh"),
            ("http://user:p@ss@host:80/?auth=x", "http://host:80/"),
            ("http://user:pass@host#x", "http://host"),
            ("user:pass@host", "host"),
        ] {
            assert_eq!(without_secrets(address), shown);
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_or_all_of_them() {
        let names = ["server", "topic", "token"];
        let suggest = |text| suggest(text, names.into_iter());
        assert_eq!(suggest("topik"), "did you mean `topic`?");
        assert_eq!(suggest("zz"), "known: `server`, `topic`, `token`");
    }

    #[test]
    fn running_text_is_broken_at_blanks_and_continues_at_its_indent() {
        let check = |text: &str, columns, filled: &str| assert_eq!(fill(text, columns), filled);
        check("one two three\nfour\n", 7, "one two\nthree\nfour\n");
        check("  - one two", 8, "  - one\n    two");
        check(
            "see /a/very/long/path for it",
            8,
            "see\n/a/very/long/path\nfor it",
        );
        check("  as wide", 9, "  as wide");
        check(
            "          deep words here",
            16,
            "          deep\nwords here",
        );
        check("", 8, "");
    }
}
