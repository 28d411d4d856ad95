//! The diffs in a Markdown text: fenced blocks tagged `diff` or `patch`.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// All fenced blocks tagged `diff` or `patch` (any case, further words ignored), in order.
///
/// The text is parsed as CommonMark: any fence length, `~~~`, nested fences and CRLF are
/// understood, and a look-alike inside another block is not one. Blocks end in a line feed.
pub fn patch_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut current: Option<String> = None;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let language = info.split([' ', '\t', ',']).next().unwrap_or("");
                if language.eq_ignore_ascii_case("diff") || language.eq_ignore_ascii_case("patch") {
                    current = Some(String::new());
                }
            }
            Event::Text(text) => {
                if let Some(block) = &mut current {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => blocks.extend(current.take()),
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_the_rules_of_markdown() {
        let text = "x\n```diff title=a\n-a\n+b\n```\n\n~~~~ Patch\n+c\n~~~\n~~~~\n\n```text\n```diff\n```\n\n    ```diff\n    +no\n    ```\n";
        assert_eq!(patch_blocks(text), ["-a\n+b\n", "+c\n~~~\n"]);
        assert_eq!(patch_blocks("```diff\r\n-a\r\n+b\r\n```\r\n"), ["-a\n+b\n"]);
        assert!(patch_blocks("no block; `diff`; ```diff inline```").is_empty());
    }
}
