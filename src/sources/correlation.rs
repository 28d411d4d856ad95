//! The hidden text by which whoever delegated a task finds it again.

use serde_json::json;

/// `<!-- agent_task_metadata {"task_id": "…"} -->`.
pub fn task_metadata(task_id: &str) -> String {
    // `-->` in an id would end the comment; JSON knows another way to write it.
    let id = json!(task_id).to_string();
    let id = id.replace('<', "\\u003c").replace('>', "\\u003e");
    format!("<!-- agent_task_metadata {{\"task_id\": {id}}} -->")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_ends_its_comment_and_is_read_back_as_it_was() {
        for id in ["a --> b", "\"}", "<!--", "ü\n"] {
            let comment = task_metadata(id);
            let inside = comment
                .strip_prefix("<!-- agent_task_metadata ")
                .and_then(|rest| rest.strip_suffix(" -->"))
                .unwrap();
            assert!(!inside.contains("-->"), "{comment}");
            let value: serde_json::Value = serde_json::from_str(inside).unwrap();
            assert_eq!(value["task_id"], id);
        }
    }
}
