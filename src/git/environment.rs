//! The environment of git: one for our own commands, one for the agent's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::git::reflog;

/// Who a commit is by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

/// Variables that would direct git to another repository, index or configuration, or stamp
/// commits with another time. They are set where the runner is started from a git hook; an agent
/// must not inherit them.
///
/// The list is that of `git rev-parse --local-env-vars` and what git exports to its hooks, but for
/// `GIT_CONFIG_COUNT`, which holds settings that a person wants.
pub const REPOSITORY_VARIABLES: [&str; 20] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_AUTHOR_DATE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMITTER_DATE",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REFLOG_ACTION",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

pub(super) fn for_own_commands(
    inherited: &BTreeMap<OsString, OsString>,
) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> = inherited
        .iter()
        .filter(|(name, _)| suits_own_commands(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let fixed = [
        // Messages are compared with git's English ones.
        ("LC_ALL", "C"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_PAGER", "cat"),
        // Looking at a repository must not write in it.
        ("GIT_OPTIONAL_LOCKS", "0"),
        // A commit is what it is, whatever an agent put in its place, and so are its parents.
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_GRAFT_FILE", "/dev/null"),
    ];
    environment.extend(fixed.map(|(name, value)| (name.into(), value.into())));
    environment.extend(appended_settings(
        inherited,
        &[
            ("advice.graftFileDeprecated", "false"),
            ("core.commitGraph", "false"),
            // Programs that the repository names; an agent may have named them.
            ("core.fsmonitor", "false"),
            ("core.hooksPath", "/dev/null"),
            ("log.showSignature", "false"),
            ("core.logAllRefUpdates", "true"),
            // A clean-up in the background would outlive the run.
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
        ],
    ));
    environment
}

/// Settings for git stay, and so does where its parts are; all other variables of git go.
fn suits_own_commands(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.starts_with(b"GIT_")
        || (bytes.starts_with(b"GIT_CONFIG_") && name != "GIT_CONFIG_PARAMETERS")
        || name == "GIT_EXEC_PATH"
}

pub(super) fn for_agent(
    inherited: &BTreeMap<OsString, OsString>,
    run_mark: &str,
    identity: &Identity,
) -> Vec<(OsString, OsString)> {
    let mark = reflog::action(run_mark);
    let fixed = [
        ("GIT_REFLOG_ACTION", mark.as_str()),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", &identity.name),
        ("GIT_AUTHOR_EMAIL", &identity.email),
        ("GIT_COMMITTER_NAME", &identity.name),
        ("GIT_COMMITTER_EMAIL", &identity.email),
    ];
    let mut environment = fixed
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
    let settings = [
        // Without reflogs the marks would be lost.
        ("core.logAllRefUpdates", "true"),
        // A clean-up of the repository in the background would be killed with the run.
        ("gc.autoDetach", "false"),
        ("maintenance.autoDetach", "false"),
    ];
    environment.extend(appended_settings(inherited, &settings));
    environment
}

/// What a repository of the runner's own sees of the runner's environment: where programs are, and
/// how the network is reached.
const NEEDED_VARIABLES: [&str; 15] = [
    "ALL_PROXY",
    "GIT_EXEC_PATH",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

pub(super) fn sealed(
    inherited: &BTreeMap<OsString, OsString>,
    settings: &[(&str, &str)],
) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> = NEEDED_VARIABLES
        .into_iter()
        .filter_map(|name| inherited.get_key_value(OsStr::new(name)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // The certificates that everything else here goes by; git has names of its own for them.
    for (general, own) in [
        ("SSL_CERT_FILE", "GIT_SSL_CAINFO"),
        ("SSL_CERT_DIR", "GIT_SSL_CAPATH"),
    ] {
        if let Some(place) = environment.get(OsStr::new(general)).cloned() {
            environment.entry(own.into()).or_insert(place);
        }
    }
    let fixed = [
        ("LC_ALL", "C"),
        // No directory: no `.netrc`, no `.config/git`.
        ("HOME", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("GIT_ALLOW_PROTOCOL", "none"),
        ("GIT_PROTOCOL_FROM_USER", "0"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_PAGER", "cat"),
    ];
    environment.extend(fixed.map(|(name, value)| (name.into(), value.into())));
    let always = [
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("core.attributesFile", "/dev/null"),
        ("core.fsync", "all"),
        ("core.protectHFS", "true"),
        ("core.protectNTFS", "true"),
        // Several workers fetch into one mirror and take from it.
        ("core.filesRefLockTimeout", "10000"),
        ("core.packedRefsTimeout", "10000"),
        ("credential.helper", ""),
        ("fetch.recurseSubmodules", "false"),
        ("gc.auto", "0"),
        ("http.followRedirects", "false"),
        // A connection that brings nothing for two minutes is given up.
        ("http.lowSpeedLimit", "1"),
        ("http.lowSpeedTime", "120"),
        ("maintenance.auto", "false"),
        ("protocol.version", "2"),
        ("push.recurseSubmodules", "no"),
        ("safe.bareRepository", "explicit"),
        ("submodule.recurse", "false"),
        ("transfer.fsckObjects", "true"),
    ];
    let settings: Vec<_> = always.iter().chain(settings).copied().collect();
    environment.extend(appended_settings(&BTreeMap::new(), &settings));
    environment
}

/// The variables that add settings after those that `inherited` already carries.
pub(super) fn appended_settings(
    inherited: &BTreeMap<OsString, OsString>,
    settings: &[(&str, &str)],
) -> Vec<(OsString, OsString)> {
    let first: usize = inherited
        .get(OsStr::new("GIT_CONFIG_COUNT"))
        .and_then(|count| count.to_str()?.parse().ok())
        .unwrap_or(0);
    let mut variables = vec![(
        "GIT_CONFIG_COUNT".into(),
        (first + settings.len()).to_string().into(),
    )];
    for (number, (key, value)) in (first..).zip(settings) {
        variables.push((format!("GIT_CONFIG_KEY_{number}").into(), key.into()));
        variables.push((format!("GIT_CONFIG_VALUE_{number}").into(), value.into()));
    }
    variables
}
