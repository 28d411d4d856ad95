use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::model::patch::patch_blocks;

/// As the dispatching backend writes it, to the letter.
const BACKEND: &str = r#"# Agent Task Delegation

**Task ID:** `7a0c1f52-9d0e-4a53-8f5b-6f0f5a1c2d3e`
**User ID:** `user-1`

**Target:** issue `octo/hello#12`

## Instructions

Correct the spelling of `README.md`.

Leave the rest.

---

<!-- agent_task_metadata
{"task_id": "7a0c1f52-9d0e-4a53-8f5b-6f0f5a1c2d3e", "user_id": "user-1", "provider": "github_issue_dispatch"}
-->"#;

/// As the documents for people and the workflow have it.
const BY_HAND: &str = r#"<!-- agent_task_metadata {"task_id": "smoke-test-1"} -->

Target Repository: octo/hello

## Instruction
Apply this:

### Details

```diff
--- a/x
+++ b/x
```
"#;

#[track_caller]
fn work(body: &str) -> Instructed {
    match read("A title", Some(body)) {
        Reading::Work(work) => work,
        other => panic!("{other:?}\n{body}"),
    }
}

#[track_caller]
fn reason(body: &str) -> String {
    match read("A title", Some(body)) {
        Reading::Invalid { reason } => reason,
        other => panic!("{other:?}\n{body}"),
    }
}

const ID: &str = "<!-- agent_task_metadata {\"task_id\":\"t\"} -->";

fn instruction(body: &str) -> String {
    work(&format!("{ID}\n\n{body}")).instruction
}

fn target(body: &str) -> Option<String> {
    let target = work(&format!("{ID}\n\n{body}")).target;
    target.map(|name| name.to_string())
}

#[test]
fn the_issues_of_the_backend_are_read() {
    let work = work(BACKEND);
    assert_eq!(work.task_id, "7a0c1f52-9d0e-4a53-8f5b-6f0f5a1c2d3e");
    assert_eq!(
        work.instruction,
        "Correct the spelling of `README.md`.\n\nLeave the rest."
    );
    assert_eq!(work.target.unwrap().as_str(), "octo/hello");
    assert!(!work.hidden_characters);
}

#[test]
fn issues_written_by_hand_are_read() {
    let work = work(BY_HAND);
    assert_eq!(work.task_id, "smoke-test-1");
    assert_eq!(
        work.instruction,
        "Apply this:\n\n### Details\n\n```diff\n--- a/x\n+++ b/x\n```"
    );
    assert_eq!(work.target.unwrap().as_str(), "octo/hello");
}

#[test]
fn a_comment_is_left_out_to_its_end_and_text_after_one_without_an_end_is_refused() {
    for hidden in [
        "Target Repository: octo/hello <!-- note\nHIDDEN -->\nFix it.",
        "<!-- HIDDEN -->\nTarget Repository: octo/hello <!-- HIDDEN -->\n<!-- HIDDEN\n--> Fix it.",
        "Fix it.\n\n<?HIDDEN ?>\n\n<!HIDDEN it>",
        "<?HIDDEN ?>Fix it.<!HIDDEN it>",
    ] {
        let text = instruction(&format!("## Instructions\n\n{hidden}"));
        assert_eq!(text.trim(), "Fix it.", "{hidden}");
    }
    for open in ["<div><!--\n\nMore.", "- here\n  <!-- x\n\nMore."] {
        let body = format!("{ID}\n\n## Instructions\n\nFix it.\n\n{open}");
        assert!(reason(&body).contains("not closed by `-->`"), "{open}");
    }
}

#[test]
fn metadata_stands_in_any_real_comment() {
    for body in [
        "<!--agent_task_metadata{\"task_id\":\"t\"}-->",
        "<!--\n\n  agent_task_metadata\n\n\t{\n\n\"task_id\" :\n\"t\"\n}\n\n-->",
        "some text <!-- agent_task_metadata {\"task_id\":\"t\"} --> and more",
        "some text <!-- agent_task_metadata\n{\"task_id\":\"t\"}\n--> and more",
        "<div>\n<!-- another --><!-- agent_task_metadata {\"task_id\":\"t\"} -->\n</div>",
        "- item\n\n  <!-- agent_task_metadata\n  {\"task_id\":\"t\"}\n  -->",
        "<!--> <!-- agent_task_metadata {\"task_id\":\"t\"} -->",
        "\u{feff}<!-- agent_task_metadata {\"task_id\":\"t\"} -->",
        "<!-- agent_task_metadata {\"task_id\":\"t\"} -->\n<!-- agent_task_metadata {\"task_id\":\"t\"} -->",
        "# head <!-- agent_task_metadata {\"task_id\":\"t\"} -->",
    ] {
        assert_eq!(work(body).task_id, "t", "{body}");
    }
}

#[test]
fn what_only_looks_like_metadata_is_none() {
    for body in [
        "",
        "a plain issue",
        "```\n<!-- agent_task_metadata {\"task_id\":\"t\"} -->\n```",
        "~~~~html\n<!-- agent_task_metadata {\"task_id\":\"t\"} -->\n~~~\n~~~~",
        "    <!-- agent_task_metadata {\"task_id\":\"t\"} -->",
        "`<!-- agent_task_metadata {\"task_id\":\"t\"} -->`",
        "> <!-- agent_task_metadata {\"task_id\":\"t\"} -->",
        "\\<!-- agent_task_metadata {\"task_id\":\"t\"} -->",
        "<script>\n<!-- agent_task_metadata {\"task_id\":\"t\"} -->\n</script>",
        "<!-- agent_task_metadata_v9 {\"task_id\":\"t\"} -->",
        "<!-- see agent_task_metadata {\"task_id\":\"t\"} -->",
        "<!-- agent_task_metadata {\"user_id\":\"u\"} -->",
        "<!-- agent_task_metadata {\"task_id\":null} -->",
        "text <!-- agent_task_metadata {\"task_id\":\"t\"}",
    ] {
        assert_eq!(read("A title", Some(body)), Reading::NotOurs, "{body}");
    }
    assert_eq!(read("A title", None), Reading::NotOurs);
}

#[test]
fn metadata_that_cannot_be_used_is_refused_with_the_reason() {
    let long = format!("\"{}\"", "x".repeat(257));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (task_id, word) in [
        ("[", "JSON"),
        ("1.5", "whole number"),
        ("1e999", "JSON"),
        ("true", "whole number"),
        ("[\"t\"]", "whole number"),
        ("\"\"", "empty"),
        ("\" \\t \"", "empty"),
        (&long, "longer"),
        ("\"a\\nb\"", "control"),
        ("\"a\\u0000b\"", "control"),
        ("\"a\\u2028b\"", "control"),
        ("\"a-->b\"", "JSON"),
        ("\"a\"b\"", "JSON"),
        (&deep, "JSON"),
    ] {
        let body = format!("<!-- agent_task_metadata {{\"task_id\": {task_id}}} -->");
        assert!(
            reason(&body).contains(word),
            "{task_id:.40}: {}",
            reason(&body)
        );
    }
    for (body, word) in [
        ("<!-- agent_task_metadata -->", "JSON"),
        ("<!-- agent_task_metadata [\"task_id\"] -->", "object"),
        ("<!-- agent_task_metadata \"task_id\" -->", "object"),
        ("<!-- agent_task_metadata {task_id: t} -->", "JSON"),
        (
            "<!-- agent_task_metadata {\"task_id\":\"t\"}\n\nand more",
            "not closed",
        ),
        (
            "<!-- agent_task_metadata {\"task_id\":\"t\"} -->\n<!-- agent_task_metadata {\"task_id\":\"u\"} -->",
            "differ in `task_id`",
        ),
    ] {
        assert!(reason(body).contains(word), "{body}: {}", reason(body));
    }
    assert!(reason(&"x".repeat(600_000)).contains("longer"));
}

#[test]
fn the_name_of_a_task_is_any_line_of_text() {
    for (json, task_id) in [
        ("12345678901", "12345678901"),
        ("-3", "-3"),
        ("\"../../x\"", "../../x"),
        ("\"-x \\\"q\\\" $(y)\"", "-x \"q\" $(y)"),
        ("\"ä ✓\"", "ä ✓"),
    ] {
        let body = format!("<!-- agent_task_metadata {{\"task_id\": {json}}} -->");
        assert_eq!(work(&body).task_id, task_id);
    }
}

#[test]
fn the_section_goes_to_the_next_heading_of_its_level_or_a_line_of_dashes() {
    for (body, expected) in [
        ("## Instruction\ndo", "do"),
        ("## INSTRUCTIONS ##\n\ndo\n", "do"),
        ("Instructions\n------------\ndo", "do"),
        ("## **Instruction**\n\ndo", "do"),
        (
            "## Instruction\ndo\n### more\nso\n#### and\nso\n## end\nno",
            "do\n### more\nso\n#### and\nso",
        ),
        ("## Instruction\ndo\n# end\nno", "do"),
        ("## Instruction\ndo\n\nEnd\n===\nno", "do"),
        ("## Instruction\ndo\n\nEnd\n-----\nno", "do"),
        ("## Instruction\ndo\n\n---\nno", "do"),
        // Markdown makes a heading of it; the writer meant the end.
        ("## Instruction\ndo\n---\nno", "do"),
        ("## Instruction\ndo\n***\nmore", "do\n***\nmore"),
        (
            "## Instruction\n```\n---\n## no end\n~~~\n```\nmore",
            "```\n---\n## no end\n~~~\n```\nmore",
        ),
        (
            "## Instruction\n~~~~\n~~~\n## no end\n~~~~\nmore",
            "~~~~\n~~~\n## no end\n~~~~\nmore",
        ),
        ("## Instruction\n> ## no end\n\nmore", "> ## no end\n\nmore"),
        (
            "## Instruction\n- ## no end\n- ---\n\nmore",
            "- ## no end\n- ---\n\nmore",
        ),
        ("## Instruction\n\n    code\n\nmore", "    code\n\nmore"),
        ("## Instruction\nfirst\n## Instruction\nsecond", "first"),
        ("> ## Instruction\n> no\n\n## Instruction\nyes", "yes"),
        ("```\n## Instruction\nno\n```\n## Instruction\nyes", "yes"),
        (
            "<!--\n## Instruction\nno\n-->\n\n## Instruction\nyes",
            "yes",
        ),
        ("## Instruction\r\n\r\ndo\r\n\r\nmore\r\n", "do\n\nmore"),
    ] {
        assert_eq!(instruction(body), expected, "{body}");
    }
}

#[test]
fn without_a_section_the_title_is_the_instruction() {
    for body in [
        "",
        "text",
        "### Instruction\ndo",
        "# Instruction\ndo",
        "## Instruction manual\ndo",
        "## Instruction\n\n---",
    ] {
        assert_eq!(instruction(body), "A title", "{body}");
    }
    assert_eq!(
        read(" \n", Some(ID)),
        Reading::Invalid {
            reason: "it has neither a title nor an instruction".to_owned()
        }
    );
    let Reading::Work(work) = read(" two\r\nlines ", Some(ID)) else {
        panic!("it is ours");
    };
    assert_eq!(work.title, "two  lines");
}

#[test]
fn metadata_and_target_are_no_part_of_the_instruction() {
    for body in [
        "## Instruction\n\nTarget Repository: octo/hello\n\ndo",
        "## Instruction\n\n**Target Repository:** octo/hello\ndo\n\n<!-- agent_task_metadata\n{\"task_id\":\"t\"}\n-->\n",
        "## Instruction\ndo\n- Target Repository: octo/hello",
    ] {
        assert_eq!(instruction(body), "do", "{body}");
        assert_eq!(target(body).as_deref(), Some("octo/hello"), "{body}");
    }
    let kept =
        "do\n```\nTarget Repository: a/b\n<!-- agent_task_metadata {} -->\n```\n`<!-- a note -->`";
    assert_eq!(instruction(&format!("## Instruction\n{kept}")), kept);
}

#[test]
fn what_a_page_does_not_show_is_no_part_of_the_instruction() {
    for (body, read) in [
        ("do <!-- and that --> it", "do  it"),
        ("do\n\n<!--\nand\n\nthat\n-->\n\nit", "do\n\n\n\nit"),
        ("do\n\n> quoted <!-- and that -->", "do\n\n> quoted"),
        ("- do\n- <!-- and that --> it", "- do\n-  it"),
        ("<div><!-- a --><!-- b --></div>\n\ndo", "<div></div>\n\ndo"),
        ("do\n\n<!-- and that", "do"),
    ] {
        let body = format!("## Instruction\n{body}");
        assert_eq!(instruction(&body), read, "{body}");
    }
    let code = "```html\n<!-- shown -->\n```\n\n    <!-- shown -->\n\n`<!-- shown -->`";
    assert_eq!(instruction(&format!("## Instruction\n{code}")), code);
}

#[test]
fn the_target_is_a_line_outside_code_and_quotations() {
    for (body, expected) in [
        ("Target Repository: octo/hello", Some("octo/hello")),
        ("target repository:octo/hello (main)", Some("octo/hello")),
        ("**Target Repository**: `octo/hello`", Some("octo/hello")),
        ("Target Repository: octo/__init__", Some("octo/__init__")),
        (
            "text\nTarget Repository: octo/hello\nmore",
            Some("octo/hello"),
        ),
        (
            "Target Repository: octo/hello\n\nTarget Repository: Octo/Hello",
            Some("Octo/Hello"),
        ),
        (
            "**Target:** pull_request `octo/hello#5`",
            Some("octo/hello"),
        ),
        (
            "**Target:** issue `octo/hello#5`\n\nTarget Repository: a/b",
            Some("a/b"),
        ),
        (
            "**Target:** issue `not valid`\n\nTarget Repository: a/b",
            Some("a/b"),
        ),
        ("Target Repository:", None),
        ("The Target Repository: a/b", None),
        ("Target: `a/b`", None),
        ("> Target Repository: a/b", None),
        ("    Target Repository: a/b", None),
        ("```\nTarget Repository: a/b\n```", None),
        ("`x\nTarget Repository: a/b`", None),
        ("<!--\nTarget Repository: a/b\n-->", None),
        ("## Instruction\n**Target:** file `src/main.rs`", None),
    ] {
        assert_eq!(target(body).as_deref(), expected, "{body}");
    }
    for (body, word) in [
        ("Target Repository: ../../etc", "not valid"),
        ("Target Repository: --upload-pack=x", "not valid"),
        (
            "Target Repository: https://example.invalid/a/b",
            "not valid",
        ),
        ("Target Repository: a/b/c", "not valid"),
        ("**Target:** issue `#5`", "not valid"),
        (
            "Target Repository: a/b\n\nTarget Repository: a/c",
            "two different",
        ),
    ] {
        let reason = reason(&format!("{ID}\n\n{body}"));
        assert!(reason.contains(word), "{body}: {reason}");
    }
}

#[test]
fn patches_of_an_instruction_are_found_in_every_form() {
    for fence in [
        "```diff",
        "```diff title=x",
        "```diff ",
        "~~~diff",
        "````DIFF",
        "  ```patch",
    ] {
        let close = fence
            .trim_start()
            .trim_end_matches(|c: char| c != '`' && c != '~');
        let body =
            format!("## Instruction\n\ndo\n\n### Details\n\n{fence}\n-a\n+b\n{close}\n\n---\n");
        for body in [body.clone(), body.replace('\n', "\r\n")] {
            assert_eq!(patch_blocks(&instruction(&body)), ["-a\n+b\n"], "{body}");
        }
    }
}

#[test]
fn hidden_characters_are_told_and_kept() {
    for body in [
        "## Instruction\ndo\u{200b}it",
        "## Instruction\ndo \u{202e}ti",
        "## Instruction\ndo\u{e0041}\u{e0042}",
        "## Instruction\ndo\u{fe0f}",
    ] {
        let work = work(&format!("{ID}\n\n{body}"));
        assert!(work.hidden_characters, "{body:?}");
        assert!(body.ends_with(&work.instruction));
    }
    let Reading::Work(work) = read("a\u{2066}b", Some(ID)) else {
        panic!("it is ours");
    };
    assert!(work.hidden_characters);
}

#[test]
fn hostile_texts_take_no_longer_than_their_length() {
    const LENGTH: usize = 65_536;
    for piece in [
        " ",
        "`",
        ">",
        "> ",
        "*",
        "_",
        "**a",
        "[",
        "![",
        "](",
        "<",
        "<!--",
        "<!-- agent_task_metadata ",
        "-",
        "- ",
        "-\n",
        "#",
        "## Instruction\n",
        "---\n",
        "a\n---\n",
        "~",
        "```\n",
        "`` ` ",
        "&#",
        "\\",
        "|",
        "{\"task_id\":",
        "[x]: y\n",
        "[^1]: a\n",
        "1. ",
        "\t",
        "<a ",
        "<?",
        "<![CDATA[",
        "\u{feff}",
        "\r",
        "Target Repository: a/b\n",
        "**Target Repository",
        "**Target:** x `a/b`\n",
        "*Target:",
        "-->",
        "<!-->",
        "a**b_c*",
    ] {
        for begin in ["", "<!-- agent_task_metadata", ID, "## Instruction\n"] {
            let body = format!("{begin}{}", piece.repeat(LENGTH / piece.len()));
            let began = Instant::now();
            read("A title", Some(&body));
            let taken = began.elapsed();
            assert!(
                taken < Duration::from_secs(2),
                "{piece:?} after {begin:?}: {taken:?}"
            );
        }
    }
}

/// Bodies of pieces that mean something, and pieces of them.
fn body() -> impl Strategy<Value = String> {
    let pieces = [
        ID,
        BACKEND,
        BY_HAND,
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        " ",
        "    ",
        "> ",
        "- ",
        "1. ",
        "`",
        "```",
        "```diff\n",
        "~~~\n",
        "<!--",
        "-->",
        "<!-- ",
        " -->",
        "agent_task_metadata ",
        "{\"task_id\":\"u\"}",
        "{",
        "}",
        "\"",
        "---",
        "===",
        "***",
        "#",
        "## Instruction",
        "## Instructions\n",
        "Instruction\n---\n",
        "Target Repository: a/b",
        "**Target:** issue `a/b#1`",
        "Target Repository:",
        "<div>",
        "<script>",
        "</div>",
        "*",
        "**",
        "[a](b)",
        "\\",
        "&amp;",
        "\u{202e}",
        "é",
        "🎉",
        "\0",
        "\u{feff}",
    ];
    proptest::collection::vec(
        (proptest::sample::select(pieces.to_vec()), 0..160_usize),
        0..14,
    )
    .prop_map(|parts| {
        let mut body = String::new();
        for (piece, share) in parts {
            // Three in four whole, the others cut.
            let length = if share < 120 {
                piece.chars().count()
            } else {
                share - 120
            };
            body.extend(piece.chars().take(length));
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_the_reading_and_line_ends_do_not_change_it(body in body()) {
        let reading = read("A title", Some(&body));
        let lines = body.replace("\r\n", "\n").replace('\r', "\n");
        for end in ["\n", "\r\n", "\r"] {
            prop_assert_eq!(&read("A title", Some(&lines.replace('\n', end))), &reading);
        }
        if let Reading::Work(work) = reading {
            prop_assert!(!work.instruction.trim().is_empty());
            prop_assert!(!work.instruction.contains('\r'));
            prop_assert!((1..=256).contains(&work.task_id.chars().count()));
        }
    }
}
