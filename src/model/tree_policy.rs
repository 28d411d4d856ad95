//! What dispatched work may change in a repository before it is published. Pure.
//!
//! Everything that would leave is judged: each change of each commit, not the sum alone. What could
//! run code elsewhere, lead out of the tree or mislead a reader is refused unless the
//! configuration allows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::model::text;
use crate::model::tree_path::{
    attribute_driver, fold, holds_agent_config, holds_workflows, is_agent_config, is_git_directory,
    is_gitattributes, is_gitmodules, is_workflow, leaves_the_tree, led_to, opened_parts,
};
use crate::model::work_name::TRACE_DIRECTORY;

/// The longest path, in bytes: a work tree needs room for its own place before it.
pub const MAX_PATH_BYTES: usize = 1024;

/// The most of a link's target or an attributes file that is looked at, in bytes.
pub const MAX_READ_BYTES: u64 = 64 * 1024;

/// What an entry of a tree is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be run.
    Executable,
    /// A symbolic link.
    Symlink,
    /// A commit of another repository.
    Submodule,
    /// A mode that git does not write.
    Unknown,
}

impl EntryKind {
    /// The kind that a mode such as `100644` means; `None` is no entry.
    pub fn from_mode(mode: &str) -> Option<Self> {
        match mode {
            "000000" => None,
            "100644" => Some(Self::File),
            "100755" => Some(Self::Executable),
            "120000" => Some(Self::Symlink),
            "160000" => Some(Self::Submodule),
            _ => Some(Self::Unknown),
        }
    }

    /// Whether the entry's contents are in the repository itself.
    pub fn has_blob(self) -> bool {
        match self {
            Self::File | Self::Executable | Self::Symlink => true,
            Self::Submodule | Self::Unknown => false,
        }
    }
}

/// One side of a change.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TreeEntry {
    /// What it is.
    pub kind: EntryKind,
    /// The name of its object.
    pub id: String,
}

/// What some commit made of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TreeChange {
    /// The path from the root of the tree.
    pub path: Vec<u8>,
    /// What was there; `None` where nothing was.
    pub old: Option<TreeEntry>,
    /// What is there now; `None` where it was removed.
    pub new: Option<TreeEntry>,
    /// The size of `new` in bytes, 0 without contents.
    pub size: u64,
    /// The contents of `new`, where [`TreeChange::is_read`] says so and they are at most
    /// [`MAX_READ_BYTES`].
    pub content: Option<Vec<u8>>,
}

impl TreeChange {
    fn is_link(&self) -> bool {
        let new = self.new.as_ref();
        new.is_some_and(|new| new.kind == EntryKind::Symlink)
    }

    /// Whether a judgement needs the contents: a link's target, a file of attributes.
    pub fn is_read(&self) -> bool {
        self.new.as_ref().is_some_and(|new| match new.kind {
            EntryKind::Symlink => true,
            EntryKind::File | EntryKind::Executable => {
                let path = String::from_utf8_lossy(&self.path);
                opened_parts(&path)
                    .last()
                    .is_some_and(|name| is_gitattributes(name))
            }
            EntryKind::Submodule | EntryKind::Unknown => false,
        })
    }
}

/// A symbolic link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TreeLink {
    /// The path from the root of the tree.
    pub path: Vec<u8>,
    /// Where it leads, as it is written.
    pub target: Vec<u8>,
}

/// All that a judgement is made from.
#[derive(Clone, Copy, Debug)]
pub struct TreeEvidence<'a> {
    /// What all commits changed.
    pub changes: &'a [TreeChange],
    /// Every path of the tree in the end; two that some file systems take for one are refused
    /// where a change added one of them.
    pub paths: &'a [Vec<u8>],
    /// Every symbolic link of the tree in the end: what is changed where it leads is changed under
    /// its name, too.
    pub links: &'a [TreeLink],
    /// Where secrets were found in what was added, each a path or words such as `a commit message`.
    pub secrets: &'a [String],
}

/// What is refused unless the configuration allows it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Permission {
    /// Files that a code host runs.
    Workflows,
    /// Files that agents, editors and hook managers take orders from.
    AgentConfig,
    /// Submodules and `.gitmodules`.
    Submodules,
    /// Symbolic links that lead out of the tree.
    Symlinks,
    /// `.gitattributes` that name drivers.
    Attributes,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Workflows,
        Self::AgentConfig,
        Self::Submodules,
        Self::Symlinks,
        Self::Attributes,
    ];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workflows => "workflows",
            Self::AgentConfig => "agent_config",
            Self::Submodules => "submodules",
            Self::Symlinks => "symlinks",
            Self::Attributes => "attributes",
        }
    }

    /// The permission of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What the configuration allows work to change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TreePolicy {
    /// What is not refused.
    pub allow: BTreeSet<Permission>,
    /// The most paths.
    pub max_files: usize,
    /// The most bytes in all new contents together.
    pub max_bytes: u64,
    /// The most bytes in one file.
    pub max_blob_bytes: u64,
}

impl Default for TreePolicy {
    /// A large change for a person to read, and less than any code host refuses.
    fn default() -> Self {
        Self {
            allow: BTreeSet::new(),
            max_files: 1_000,
            max_bytes: 50 << 20,
            max_blob_bytes: 10 << 20,
        }
    }
}

/// A reason not to publish. Paths are harmless to print.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Violation {
    /// Something that one permission allows.
    NotAllowed {
        /// The permission.
        permission: Permission,
        /// The path.
        path: String,
        /// What it is.
        what: String,
    },
    /// Something that nothing allows.
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Too much, of one of three measures.
    TooMuch {
        /// What there is too much of.
        what: String,
        /// How much there is.
        is: u64,
        /// The most there may be.
        limit: u64,
    },
    /// A secret.
    Secret {
        /// Where.
        place: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed {
                permission,
                path,
                what,
            } => {
                write!(
                    formatter,
                    "`{path}` {what} (`{permission}` is not in `dispatch.allow`)"
                )
            }
            Self::Path { path, what } => write!(formatter, "`{path}` {what}"),
            Self::TooMuch { what, is, limit } => {
                write!(formatter, "{what}: {is}, at most {limit} are allowed")
            }
            Self::Secret { place } => write!(formatter, "a secret is in {place}"),
        }
    }
}

impl TreePolicy {
    /// Every reason not to publish; none means that it may be.
    pub fn violations(&self, evidence: TreeEvidence<'_>) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut push = |violation| {
            if !violations.contains(&violation) {
                violations.push(violation);
            }
        };
        let mut sizes: HashMap<&str, u64> = HashMap::new();
        let (mut paths, mut added) = (BTreeSet::new(), BTreeSet::new());
        for change in evidence.changes {
            paths.insert(&change.path);
            if change.old.is_none() && change.new.is_some() {
                added.insert(&change.path[..]);
            }
            if let Some(new) = &change.new {
                sizes.insert(&new.id, change.size);
            }
        }
        let limits = [
            ("changed files", paths.len() as u64, self.max_files as u64),
            ("bytes in all files", sizes.values().sum(), self.max_bytes),
        ];
        for (what, is, limit) in limits {
            if is > limit {
                let what = what.to_owned();
                push(Violation::TooMuch { what, is, limit });
            }
        }
        if paths.len() <= self.max_files {
            let aliases = aliases(evidence.links);
            for change in evidence.changes {
                self.judge(change, &aliases, &mut push);
            }
            for violation in collisions(&added, evidence.paths) {
                push(violation);
            }
        }
        for place in evidence.secrets {
            let place = text::sanitize(place);
            push(Violation::Secret { place });
        }
        violations
    }

    fn judge(&self, change: &TreeChange, aliases: &[Alias], push: &mut impl FnMut(Violation)) {
        let shown = shown(&change.path);
        let lossy = String::from_utf8_lossy(&change.path);
        let parts = opened_parts(&lossy);
        let mut refuse = |what: &str| {
            let (path, what) = (shown.clone(), what.to_owned());
            push(Violation::Path { path, what });
        };
        if parts[0] == TRACE_DIRECTORY {
            refuse("is the runner's own");
        }
        if change.new.is_some() {
            if parts.iter().any(|part| is_git_directory(part)) {
                refuse("is a name of git's own directory");
            }
            if std::str::from_utf8(&change.path).is_err() {
                refuse("is not UTF-8");
            }
            if text::sanitize(&lossy) != lossy || lossy.contains(['\n', '\t']) {
                refuse("has control characters in its name");
            }
            if change.path.len() > MAX_PATH_BYTES {
                refuse("has too long a name");
            }
            if lossy.split('/').any(|part| part.ends_with(['.', ' '])) {
                refuse("has a name that ends in a dot or a space");
            }
        }
        if change.size > self.max_blob_bytes {
            push(Violation::TooMuch {
                what: format!("bytes in `{shown}`"),
                is: change.size,
                limit: self.max_blob_bytes,
            });
        }
        let mut needs = |permission, what: String| {
            if !self.allow.contains(&permission) {
                let path = shown.clone();
                push(Violation::NotAllowed {
                    permission,
                    path,
                    what,
                });
            }
        };
        let names = names(change, &parts, aliases);
        for (permission, what, is_order, holds_orders) in ORDERS {
            let asks = |(name, is_whole): &&(Vec<String>, bool)| {
                is_order(name) || *is_whole && holds_orders(name)
            };
            match names.iter().find(asks) {
                Some((name, _)) if *name == parts => needs(permission, what.to_owned()),
                Some((name, _)) => needs(permission, format!("{what}, as {}", listed(name))),
                None => {}
            }
        }
        if parts.iter().any(|part| is_gitmodules(part)) {
            needs(Permission::Submodules, "names submodules".to_owned());
        }
        let Some(new) = &change.new else { return };
        let content = change.content.as_deref().map(String::from_utf8_lossy);
        match new.kind {
            EntryKind::File | EntryKind::Executable if change.is_read() => {
                let driver = match &content {
                    Some(content) => content.lines().find_map(attribute_driver),
                    None => Some("what could not be read"),
                };
                if let Some(driver) = driver {
                    let driver = text::first_line(driver, 100);
                    needs(Permission::Attributes, format!("names a driver: {driver}"));
                }
            }
            EntryKind::File | EntryKind::Executable => {}
            EntryKind::Symlink => {
                let target = content.unwrap_or_default();
                if leaves_the_tree(&lossy, &target) {
                    let target = text::first_line(&target, 200);
                    needs(
                        Permission::Symlinks,
                        format!("is a link out of the tree: {target}"),
                    );
                }
            }
            EntryKind::Submodule => needs(Permission::Submodules, "is a submodule".to_owned()),
            EntryKind::Unknown => push(Violation::Path {
                path: shown.clone(),
                what: "has an unknown mode".to_owned(),
            }),
        }
    }
}

/// What takes orders: the permission, words, whether a path is an order, whether orders may be below
/// it.
type Order = (
    Permission,
    &'static str,
    fn(&[String]) -> bool,
    fn(&[String]) -> bool,
);

const ORDERS: [Order; 2] = [
    (
        Permission::Workflows,
        "is run by the code host",
        is_workflow,
        holds_workflows,
    ),
    (
        Permission::AgentConfig,
        "instructs agents, editors or hooks",
        is_agent_config,
        holds_agent_config,
    ),
];

/// The most names beside two for each link: those of a circle have no end.
const MAX_ALIASES: usize = 256;

/// A name of orders, and the place that links make it stand for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Alias {
    name: Vec<String>,
    place: Vec<String>,
}

/// The places that links turn into orders: where a link in the place of an order leads to, through
/// whatever links there are.
fn aliases(links: &[TreeLink]) -> Vec<Alias> {
    let links = links.iter().filter_map(|link| {
        let path = String::from_utf8_lossy(&link.path);
        let place = led_to(&path, &String::from_utf8_lossy(&link.target))?;
        let name = opened_parts(&path);
        Some(Alias { name, place })
    });
    let links: Vec<Alias> = links.collect();
    let is_order = |link: &&Alias| {
        let mut orders = ORDERS.iter();
        orders
            .any(|(_, _, is_order, holds_orders)| is_order(&link.name) || holds_orders(&link.name))
    };
    let mut aliases: Vec<Alias> = links.iter().filter(is_order).cloned().collect();
    let most = MAX_ALIASES + 2 * links.len();
    let mut seen: BTreeSet<Alias> = aliases.iter().cloned().collect();
    let mut at = 0;
    while let Some(Alias { name, place }) = aliases.get(at).cloned() {
        for link in &links {
            let further = if let Some(rest) = place.strip_prefix(&link.name[..]) {
                let (name, place) = (name.clone(), [&link.place, rest].concat());
                Alias { name, place }
            } else if let Some(rest) = link.name.strip_prefix(&place[..]) {
                let (name, place) = ([&name, rest].concat(), link.place.clone());
                Alias { name, place }
            } else {
                continue;
            };
            if aliases.len() < most && seen.insert(further.clone()) {
                aliases.push(further);
            }
        }
        at += 1;
    }
    aliases
}

/// The names under which a change is seen, and whether it puts a link, or anything else that holds
/// more than itself, there.
fn names(change: &TreeChange, parts: &[String], aliases: &[Alias]) -> Vec<(Vec<String>, bool)> {
    let is_file = |entry: &TreeEntry| matches!(entry.kind, EntryKind::File | EntryKind::Executable);
    let is_whole = [&change.old, &change.new]
        .into_iter()
        .flatten()
        .any(|entry| !is_file(entry));
    let mut names = vec![(parts.to_vec(), is_whole)];
    for Alias { name, place } in aliases {
        if let Some(rest) = parts.strip_prefix(&place[..]) {
            names.push(([name, rest].concat(), is_whole));
        } else if place.starts_with(parts) {
            names.push((name.clone(), true));
        }
    }
    if let Some(target) = change.content.as_deref().filter(|_| change.is_link()) {
        let path = String::from_utf8_lossy(&change.path);
        let place = led_to(&path, &String::from_utf8_lossy(target));
        names.extend(place.map(|place| (place, true)));
    }
    names
}

fn listed(name: &[String]) -> String {
    format!("`{}`", shown(name.join("/").as_bytes()))
}

fn shown(path: &[u8]) -> String {
    let path = text::sanitize(&String::from_utf8_lossy(path));
    text::shorten(&path.replace(['\n', '\t'], " "), 200)
}

/// Added paths that some file system takes for another path of the tree.
fn collisions(added: &BTreeSet<&[u8]>, all: &[Vec<u8>]) -> Vec<Violation> {
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for path in all.iter().filter_map(|path| std::str::from_utf8(path).ok()) {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            seen.entry(fold(&path[..end]))
                .or_default()
                .insert(&path[..end]);
        }
    }
    let is_added = |one: &&&str| {
        added.iter().any(|path| {
            path.strip_prefix(one.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    };
    let groups = seen.values().filter(|names| names.len() > 1);
    groups
        .filter_map(|names| {
            let one = names.iter().find(is_added)?;
            let other = names.iter().find(|name| *name != one)?;
            Some(Violation::Path {
                path: shown(one.as_bytes()),
                what: format!(
                    "is the same file as `{}` on some systems",
                    shown(other.as_bytes())
                ),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, mode: &str, content: &str) -> TreeChange {
        TreeChange {
            path: path.into(),
            old: None,
            new: EntryKind::from_mode(mode).map(|kind| TreeEntry {
                kind,
                id: format!("{path} {content}"),
            }),
            size: content.len() as u64,
            content: Some(content.into()),
        }
    }

    fn told(policy: &TreePolicy, changes: &[TreeChange], paths: &[&str]) -> String {
        told_with_links(policy, changes, paths, &[])
    }

    fn told_with_links(
        policy: &TreePolicy,
        changes: &[TreeChange],
        paths: &[&str],
        links: &[(&str, &str)],
    ) -> String {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| (*path).into()).collect();
        let links: Vec<_> = links
            .iter()
            .map(|(path, target)| TreeLink {
                path: (*path).into(),
                target: (*target).into(),
            })
            .collect();
        let evidence = TreeEvidence {
            changes,
            paths: &paths,
            links: &links,
            secrets: &["`src/a.rs`".to_owned()][..usize::from(changes.is_empty())],
        };
        let violations = policy.violations(evidence);
        let lines = violations.iter().map(|violation| format!("{violation}\n"));
        lines.collect::<Vec<_>>().concat()
    }

    #[test]
    fn what_could_run_code_or_mislead_is_refused_by_name() {
        let file = |path| change(path, "100644", "text");
        let long = "long/".repeat(300);
        let changes = [
            file("src/main.rs"),
            change("bin/tool", "100755", "#!/bin/sh"),
            change("inside", "120000", "src/main.rs"),
            change("docs/up", "120000", "../src"),
            change("gone", "000000", ""),
            change("outside", "120000", "../../etc/passwd"),
            change("absolute", "120000", "/etc/passwd"),
            change("lib", "160000", ""),
            change(".gitmodules", "100644", "[submodule]"),
            change("a/.gitattributes", "100644", "* text\n*.x filter=evil\n"),
            change(".gitattributes", "100644", "* text=auto\n"),
            file(".GIT/hooks/post-checkout"),
            file("git~1"),
            file(".github/workflows/ci.yml"),
            change(".github/actions/x/action.yml", "000000", ""),
            file("sub/.claude/settings.json"),
            file("AGENTS.md"),
            file("Claude.md"),
            file(".kilocode/rules"),
            file(".vscode/tasks.json"),
            file("lefthook.yml"),
            file("agent-tasks/x.md"),
            file("Agent-Tasks/x.md"),
            file("line\nfeed"),
            file("right\u{202e}left"),
            file("dot."),
            file(&long),
            change("odd", "100600", ""),
        ];
        insta::assert_snapshot!(told(&TreePolicy::default(), &changes, &[]));
        let mut not_utf8 = file("x");
        not_utf8.path = vec![b'a', 0xff];
        assert!(told(&TreePolicy::default(), &[not_utf8], &[]).contains("not UTF-8"));
        assert_eq!(
            told(&TreePolicy::default(), &[], &[]),
            "a secret is in `src/a.rs`\n"
        );
    }

    #[test]
    fn a_link_at_or_into_the_place_of_an_order_is_refused_like_the_order() {
        for (path, target) in [
            (".vscode", "tools"),
            ("sub/.VSCode", "tools"),
            (".github", "hub"),
            ("CLAUDE.md", "notes.md"),
            ("notes", ".claude/skills"),
            ("sub/notes", "../.vscode"),
        ] {
            let told = told(
                &TreePolicy::default(),
                &[change(path, "120000", target)],
                &[],
            );
            assert!(told.contains("`agent_config` is not in"), "{path}: {told}");
        }
        let mut gone = change(".vscode", "000000", "");
        gone.old = EntryKind::from_mode("120000").map(|kind| TreeEntry {
            kind,
            id: String::new(),
        });
        assert!(told(&TreePolicy::default(), &[gone], &[]).contains("agent_config"));
        let hub = change(".github", "120000", "hub");
        assert!(told(&TreePolicy::default(), &[hub], &[]).contains("`workflows`"));
    }

    #[test]
    fn a_file_that_an_earlier_link_makes_an_order_is_refused_like_the_order() {
        let told_of = |path: &str, links: &[(&str, &str)]| {
            let changes = [change(path, "100644", "")];
            told_with_links(&TreePolicy::default(), &changes, &[], links)
        };
        assert_eq!(
            told_of("Tools/tasks.json", &[(".vscode", "tools")]),
            "`Tools/tasks.json` instructs agents, editors or hooks, as `.vscode/tasks.json` \
             (`agent_config` is not in `dispatch.allow`)\n"
        );
        let chain = [
            (".claude", "x/conf"),
            ("x", "y"),
            ("y/conf/skills", "../../z"),
        ];
        for path in ["y/conf/a", "z/b.md", "x", "y"] {
            assert!(told_of(path, &chain).contains("agent_config"), "{path}");
        }
        assert!(told_of("hub/workflows/x", &[(".github", "hub")]).contains("`workflows`"));
        let circle = [(".vscode", "tools"), ("tools/self", "."), ("a", "a")];
        assert!(told_of("tools/mcp.json", &circle).contains("agent_config"));
        for (path, links) in [
            ("tools/readme", &[(".vscode", "tools")][..]),
            ("other/tasks.json", &[(".vscode", "tools")]),
            ("src/a.rs", &[("latest", "src")]),
            ("z/b.md", &chain[..2]),
        ] {
            assert_eq!(told_of(path, links), "", "{path}");
        }
    }

    #[test]
    fn what_is_allowed_is_not_refused() {
        let policy = TreePolicy {
            allow: Permission::ALL.into(),
            ..TreePolicy::default()
        };
        let changes = [
            change("outside", "120000", "/etc/passwd"),
            change("lib", "160000", ""),
            change(".gitmodules", "100644", ""),
            change(".gitattributes", "100644", "* filter=lfs"),
            change(".github/workflows/ci.yml", "100644", ""),
            change("AGENTS.md", "100644", ""),
        ];
        assert_eq!(told(&policy, &changes, &[]), "");
        for permission in Permission::ALL {
            assert_eq!(Permission::from_name(permission.as_str()), Some(permission));
        }
    }

    #[test]
    fn too_much_is_refused() {
        let policy = TreePolicy {
            max_files: 2,
            max_bytes: 8,
            max_blob_bytes: 5,
            ..TreePolicy::default()
        };
        let file = |path, content| change(path, "100644", content);
        let few = [file("a", "123456"), file("b", "123")];
        assert_eq!(
            told(&policy, &few, &[]),
            "bytes in all files: 9, at most 8 are allowed\nbytes in `a`: 6, at most 5 are allowed\n"
        );
        let many = [file("a", ""), file("b", ""), file("c", "")];
        assert_eq!(
            told(&policy, &many, &[]),
            "changed files: 3, at most 2 are allowed\n"
        );
    }

    #[test]
    fn paths_that_some_systems_take_for_one_are_refused_where_a_change_added_one() {
        let policy = TreePolicy::default();
        let new = [change("src/Main.rs", "100644", "")];
        let told_of = |paths: &[&str]| told(&policy, &new, paths);
        assert!(told_of(&["src/Main.rs", "src/main.rs"]).contains("same file as `src/main.rs`"));
        assert!(told_of(&["SRC/x", "src/Main.rs"]).contains("same file as `SRC`"));
        assert_eq!(told_of(&["src/Main.rs", "old", "OLD"]), "");
    }
}
