//! The file by which a run is asked for dispatched work.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::dispatch::{WorkKey, WorkRequest};
use crate::regular::open_read;
use crate::store::StoreError;
use crate::store::private::create_file;

/// The largest request that is read: an issue has at most 64 KiB of text.
const MAX_BYTES: u64 = 4 << 20;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Form {
    key: String,
    origin: String,
    number: u64,
    task_id: String,
    title: String,
    instruction: String,
    target: String,
    fence: i64,
}

/// Writes a request to a new file, for its owner alone.
pub fn write(path: &Path, request: &WorkRequest) -> Result<(), StoreError> {
    let form = Form {
        key: request.key.to_string(),
        origin: request.origin.clone(),
        number: request.number,
        task_id: request.task_id.clone(),
        title: request.title.clone(),
        instruction: request.instruction.clone(),
        target: request.target.clone(),
        fence: request.fence,
    };
    let text = serde_json::to_vec_pretty(&form).map_err(io::Error::other);
    let mut file = create_file(path)?;
    text.and_then(|text| file.write_all(&text))
        .map_err(|source| StoreError::new("write", path, source))
}

/// Reads a request.
pub fn read(path: &Path) -> Result<WorkRequest, StoreError> {
    let failed = |source| StoreError::new("read the request", path, source);
    let parse = || {
        let (file, _size) = open_read(path)?;
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        let form: Form = serde_json::from_slice(&text).map_err(io::Error::other)?;
        let key = WorkKey::from_text(&form.key)
            .ok_or_else(|| io::Error::other("`key` is not 64 hexadecimal digits"))?;
        Ok(WorkRequest {
            key,
            origin: form.origin,
            number: form.number,
            task_id: form.task_id,
            title: form.title,
            instruction: form.instruction,
            target: form.target,
            fence: form.fence,
        })
    };
    parse().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("request.json");
        let request = WorkRequest {
            key: WorkKey::new("test", &["1"]),
            origin: "o/r#7".into(),
            number: 7,
            task_id: "a\"b\n".into(),
            title: "T".into(),
            instruction: "do\r\n```diff\n".into(),
            target: "o/t".into(),
            fence: 3,
        };
        write(&path, &request).unwrap();
        assert_eq!(read(&path).unwrap(), request);
        assert!(write(&path, &request).is_err(), "another's request stays");
    }
}
