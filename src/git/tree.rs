//! What commits changed in a tree, for a policy. Runs no filter, driver or hook.

use std::collections::{HashMap, HashSet};

use crate::git::{Git, GitError};
use crate::model::tree_policy::{EntryKind, MAX_READ_BYTES, TreeChange, TreeEntry, TreeLink};

/// The most that git may print of a list of paths: more than a million files.
const MAX_LIST_BYTES: usize = 256 << 20;

/// The most commits whose changes are listed.
const MAX_COMMITS: usize = 10_000;

/// About how much of contents is held at once.
const BATCH_BYTES: u64 = 16 << 20;

/// One line a change, with whole names, of which `parse_raw` reads.
const RAW: [&str; 6] = [
    "diff-tree",
    "-r",
    "--raw",
    "-z",
    "--no-renames",
    "--no-abbrev",
];

impl Git {
    /// All that the commits of `base..tip` changed, and the sum of it: what one commit adds and the
    /// next removes is among them. Names of commits are whole.
    ///
    /// Contents are read where [`TreeChange::is_read`] asks for them.
    pub fn tree_changes(&self, base: &str, tip: &str) -> Result<Vec<TreeChange>, GitError> {
        let git = self.bounded(MAX_LIST_BYTES);
        let commits = git.new_commits(base, tip)?;
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        let commits = commits.join("\n") + "\n";
        let each = [&RAW[..], &["--stdin", "-m", "--root", "--no-commit-id"]].concat();
        let mut output = git.read_with_input(&each, commits.as_bytes())?;
        output.extend(git.read(&[&RAW[..], &[base, tip]].concat())?);
        let mut changes = parse_raw(&output).ok_or_else(|| GitError::output("diff-tree"))?;
        let mut seen = HashSet::new();
        changes.retain(|change| seen.insert((change.path.clone(), change.new.clone())));

        let with_blob =
            |change: &TreeChange| change.new.as_ref().is_some_and(|n| n.kind.has_blob());
        let ids = changes.iter().filter(|change| with_blob(change));
        let sizes = git.sizes(ids.filter_map(|change| Some(change.new.as_ref()?.id.as_str())))?;
        for change in changes.iter_mut().filter(|change| with_blob(change)) {
            let id = change.new.as_ref().map_or("", |new| &new.id);
            change.size = *(sizes.get(id)).ok_or_else(|| GitError::output("cat-file"))?;
        }
        let is_read = |change: &TreeChange| change.is_read() && change.size <= MAX_READ_BYTES;
        let read: Vec<String> = changes
            .iter()
            .filter(|change| is_read(change))
            .filter_map(|change| Some(change.new.as_ref()?.id.clone()))
            .collect();
        // A list of links is not bounded by itself; each is at most `MAX_READ_BYTES`.
        let mut contents = HashMap::new();
        for ids in read.chunks(1_000) {
            contents.extend(git.blobs(ids)?);
        }
        for change in changes.iter_mut().filter(|change| is_read(change)) {
            let id = change.new.as_ref().map_or("", |new| &new.id);
            change.content = contents.get(id).cloned();
        }
        Ok(changes)
    }

    /// Every path of a commit's tree, and every symbolic link; a link's target beyond
    /// [`MAX_READ_BYTES`] is left empty.
    pub fn tree(&self, commit: &str) -> Result<(Vec<Vec<u8>>, Vec<TreeLink>), GitError> {
        let git = self.bounded(MAX_LIST_BYTES);
        let output = git.read(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
        let (mut paths, mut links) = (Vec::new(), Vec::new());
        // `120000 blob ID\tPATH`.
        for line in output.split(|byte| *byte == 0) {
            let Some(end) = line.iter().position(|byte| *byte == b'\t') else {
                continue;
            };
            let (entry, path) = (&line[..end], &line[end + 1..]);
            if let Some(id) = entry.strip_prefix(b"120000 blob ") {
                links.push((String::from_utf8_lossy(id).into_owned(), path.to_vec()));
            }
            paths.push(path.to_vec());
        }
        let sizes = git.sizes(links.iter().map(|(id, _)| id.as_str()))?;
        let mut found = Vec::new();
        for links in links.chunks(1_000) {
            let short = |id: &&String| sizes.get(*id).is_some_and(|size| *size <= MAX_READ_BYTES);
            let ids = links.iter().map(|(id, _)| id).filter(short);
            let ids: Vec<String> = ids.cloned().collect();
            let targets = git.blobs(&ids)?;
            found.extend(links.iter().map(|(id, path)| TreeLink {
                path: path.clone(),
                target: targets.get(id).cloned().unwrap_or_default(),
            }));
        }
        Ok((paths, found))
    }

    /// Shows `visit` what was added: of each change, the lines that the path did not have before;
    /// of each commit of `base..tip`, its message and who it is by. The first argument is the place
    /// in words.
    ///
    /// Holds about 16 MiB at once, or the largest single file.
    pub fn added_content(
        &self,
        base: &str,
        tip: &str,
        changes: &[TreeChange],
        mut visit: impl FnMut(&str, &[u8]),
    ) -> Result<(), GitError> {
        let git = self.bounded(MAX_LIST_BYTES);
        let format = "--format=%H%n%an <%ae>%n%cn <%ce>%n%B";
        let not_base = format!("^{base}");
        let log = ["log", "-z", "--no-show-signature", format, tip, &not_base];
        for words in git.read(&log)?.split(|byte| *byte == 0) {
            let id = String::from_utf8_lossy(&words[..words.len().min(8)]);
            visit(&format!("the message of commit {id}"), words);
        }
        let mut batch: Vec<&TreeChange> = Vec::new();
        let mut bytes = 0;
        for change in changes {
            visit("the name of a file", &change.path);
            if change.new.as_ref().is_none_or(|new| !new.kind.has_blob()) {
                continue;
            }
            if bytes > 0 && bytes + change.size > BATCH_BYTES {
                git.visit_batch(&std::mem::take(&mut batch), &mut visit)?;
                bytes = 0;
            }
            batch.push(change);
            bytes += change.size.max(1);
        }
        git.visit_batch(&batch, &mut visit)
    }

    fn visit_batch(
        &self,
        batch: &[&TreeChange],
        visit: &mut impl FnMut(&str, &[u8]),
    ) -> Result<(), GitError> {
        let id = |entry: &Option<TreeEntry>| {
            let entry = entry.as_ref().filter(|entry| entry.kind.has_blob());
            entry.map(|entry| entry.id.clone())
        };
        let ids: Vec<_> = batch
            .iter()
            .flat_map(|change| [id(&change.new), id(&change.old)])
            .flatten()
            .collect();
        let blobs = self.blobs(&ids)?;
        for change in batch {
            let new = id(&change.new).and_then(|id| blobs.get(&id));
            let new = new.ok_or_else(|| GitError::output("cat-file"))?;
            let place = format!("`{}`", String::from_utf8_lossy(&change.path));
            match id(&change.old).and_then(|id| blobs.get(&id)) {
                Some(old) => visit(&place, &added_lines(old, new)),
                None => visit(&place, new),
            }
        }
        Ok(())
    }

    /// The contents of a file in a commit; `None` where there is none.
    pub fn file(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, GitError> {
        let git = self.bounded(MAX_LIST_BYTES);
        let list = git.read(&["ls-tree", "-z", "--full-tree", commit, "--", path])?;
        // `100644 blob ID\tPATH`.
        let line = String::from_utf8_lossy(&list);
        let mut words = line.split([' ', '\t']);
        match (words.next(), words.next(), words.next()) {
            (Some(_), Some("blob"), Some(id)) => Ok(git.blobs(&[id.to_owned()])?.remove(id)),
            _ => Ok(None),
        }
    }

    /// The number of files of a commit's tree and their bytes, counted without a work tree; at most
    /// `max_files` of them are looked at, and `None` means that there are more.
    pub(super) fn tree_size(
        &self,
        commit: &str,
        max_files: usize,
    ) -> Result<Option<(usize, u64)>, GitError> {
        // A line has 60 bytes before the path.
        let git = self.bounded(max_files.saturating_mul(60 + 200));
        let output = match git.read(&["ls-tree", "-r", "-l", "-z", "--full-tree", commit]) {
            Ok(output) => output,
            Err(error) if error.is_too_much() => return Ok(None),
            Err(error) => return Err(error),
        };
        let sizes = output
            .split(|byte| *byte == 0)
            .filter(|line| !line.is_empty());
        let sizes: Vec<u64> = sizes
            .map(|line| {
                let head = String::from_utf8_lossy(line);
                let head = head.split('\t').next().unwrap_or_default();
                let size = head.rsplit(' ').next().unwrap_or_default();
                size.parse().unwrap_or(0)
            })
            .collect();
        Ok((sizes.len() <= max_files).then(|| (sizes.len(), sizes.iter().sum())))
    }

    fn new_commits(&self, base: &str, tip: &str) -> Result<Vec<String>, GitError> {
        let most = format!("--max-count={}", MAX_COMMITS + 1);
        let range = [most.as_str(), tip, &format!("^{base}")];
        let output = self.read(&[&["rev-list"], &range[..]].concat())?;
        let commits: Vec<String> = String::from_utf8_lossy(&output)
            .lines()
            .map(str::to_owned)
            .collect();
        if commits.len() > MAX_COMMITS {
            return Err(GitError::Refused {
                command: "rev-list".to_owned(),
                reason: format!("there are more than {MAX_COMMITS} new commits"),
            });
        }
        Ok(commits)
    }

    /// The same repository, where no command may print more, nor fetch what is missing: from where
    /// and how, its configuration would say.
    fn bounded(&self, max_output: usize) -> Self {
        Self {
            max_output,
            ..self.with_variable("GIT_NO_LAZY_FETCH", "1")
        }
    }

    fn sizes<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<String, u64>, GitError> {
        let input: String = ids.flat_map(|id| [id, "\n"]).collect();
        if input.is_empty() {
            return Ok(HashMap::new());
        }
        let batch = ["cat-file", "--batch-check=%(objectname) %(objectsize)"];
        let output = self.read_with_input(&batch, input.as_bytes())?;
        let sizes = String::from_utf8_lossy(&output)
            .lines()
            .map(|line| {
                let (id, size) = line.split_once(' ')?;
                Some((id.to_owned(), size.parse().ok()?))
            })
            .collect::<Option<_>>();
        sizes.ok_or_else(|| GitError::output("cat-file"))
    }

    /// The contents of blobs by their names.
    fn blobs(&self, ids: &[String]) -> Result<HashMap<String, Vec<u8>>, GitError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let input = format!("{}\n", ids.join("\n"));
        let batch = ["cat-file", "--batch"];
        let output = self.read_with_input(&batch, input.as_bytes())?;
        parse_blobs(&output).ok_or_else(|| GitError::output("cat-file"))
    }
}

/// The lines of `new` that `old` does not have.
fn added_lines(old: &[u8], new: &[u8]) -> Vec<u8> {
    let is_end = |byte: &u8| *byte == b'\n';
    let old: HashSet<&[u8]> = old.split_inclusive(is_end).collect();
    let mut lines: Vec<&[u8]> = new.split_inclusive(is_end).collect();
    lines.retain(|line| !old.contains(line));
    lines.concat()
}

/// Reads `:100644 100644 ID ID M`, a path, each ended by NUL.
fn parse_raw(output: &[u8]) -> Option<Vec<TreeChange>> {
    let mut fields = output
        .split(|byte| *byte == 0)
        .filter(|field| !field.is_empty());
    let mut changes = Vec::new();
    while let Some(head) = fields.next() {
        let head = std::str::from_utf8(head).ok()?.strip_prefix(':')?;
        let words: Vec<&str> = head.split(' ').collect();
        let [old_mode, new_mode, old_id, new_id, _] = words[..] else {
            return None;
        };
        let entry = |mode, id: &str| {
            let id = id.to_owned();
            EntryKind::from_mode(mode).map(|kind| TreeEntry { kind, id })
        };
        changes.push(TreeChange {
            path: fields.next()?.to_vec(),
            old: entry(old_mode, old_id),
            new: entry(new_mode, new_id),
            size: 0,
            content: None,
        });
    }
    Some(changes)
}

/// Reads `ID blob SIZE`, a line feed, the contents, a line feed; or `ID missing`, a line feed.
fn parse_blobs(mut output: &[u8]) -> Option<HashMap<String, Vec<u8>>> {
    let mut blobs = HashMap::new();
    while !output.is_empty() {
        let end = output.iter().position(|byte| *byte == b'\n')?;
        let head = std::str::from_utf8(&output[..end]).ok()?;
        let content = output.get(end + 1..)?;
        if head.ends_with(" missing") {
            output = content;
            continue;
        }
        let mut words = head.split(' ');
        let (id, _, size) = (words.next()?, words.next()?, words.next()?);
        let size: usize = size.parse().ok()?;
        blobs.insert(id.to_owned(), content.get(..size)?.to_vec());
        output = content.get(size + 1..)?;
    }
    Some(blobs)
}
