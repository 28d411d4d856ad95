//! What is known of the CLIs themselves: the versions that were tested, and where a CLI keeps the
//! sign of being signed in.

/// The version of each CLI with which its recorded output was made, and which the tests run. What
/// was tested with none is not named.
pub const TESTED: &[(&str, &str)] = &[
    ("claude", "2.1.197"),
    ("codex", "0.169.0"),
    ("gemini", "0.61.0"),
    ("kilo", "7.7.7"),
    ("opencode", "1.18.33"),
    ("qwen", "0.24.4"),
];

/// Where a CLI can be seen to be signed in without asking anybody: a file of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SignIn {
    /// The backend.
    pub agent: &'static str,
    /// The variable that names the directory, and the file in it.
    pub relocated: (&'static str, &'static str),
    /// The file in the home directory.
    pub file: &'static str,
    /// Further variables that choose another way of paying.
    pub instead: &'static [&'static str],
    /// What a person does to sign in.
    pub remedy: &'static str,
    /// Some models work without.
    pub is_optional: bool,
}

/// The signs of the CLIs that leave one. `ollama` leaves none.
pub const SIGN_INS: &[SignIn] = &[
    SignIn {
        agent: "claude",
        relocated: ("CLAUDE_CONFIG_DIR", ".credentials.json"),
        file: ".claude/.credentials.json",
        instead: &["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"],
        remedy: "run `claude` once and sign in, or set ANTHROPIC_API_KEY",
        is_optional: false,
    },
    SignIn {
        agent: "codex",
        relocated: ("CODEX_HOME", "auth.json"),
        file: ".codex/auth.json",
        instead: &[],
        remedy: "run `codex login`, or set CODEX_API_KEY",
        is_optional: false,
    },
    SignIn {
        agent: "gemini",
        relocated: ("GEMINI_CLI_HOME", ".gemini/oauth_creds.json"),
        file: ".gemini/oauth_creds.json",
        instead: &["GOOGLE_GENAI_USE_VERTEXAI"],
        remedy: "run `gemini` once and sign in, or set GEMINI_API_KEY",
        is_optional: false,
    },
    SignIn {
        agent: "kilo",
        relocated: ("XDG_DATA_HOME", "kilo/auth.json"),
        file: ".local/share/kilo/auth.json",
        instead: &[],
        remedy: "run `kilo auth login`, or set KILO_API_KEY",
        is_optional: true,
    },
    SignIn {
        agent: "opencode",
        relocated: ("XDG_DATA_HOME", "opencode/auth.json"),
        file: ".local/share/opencode/auth.json",
        instead: &[],
        remedy: "run `opencode auth login`, or set a provider's key",
        is_optional: true,
    },
    SignIn {
        agent: "qwen",
        relocated: ("QWEN_HOME", "oauth_creds.json"),
        file: ".qwen/oauth_creds.json",
        instead: &[],
        remedy: "run `qwen` once and sign in, or set OPENAI_API_KEY",
        is_optional: false,
    },
];

/// How an installed version stands to the tested one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The very version.
    Tested,
    /// A later one: its flags and its output may have changed.
    Newer,
    /// An earlier one.
    Older,
    /// No comparison can be made.
    Unknown,
}

/// Compares an installed version with the tested one.
pub fn standing(installed: &str, tested: &str) -> Standing {
    match (numbers(installed), numbers(tested)) {
        (Some(installed), Some(tested)) => match installed.cmp(&tested) {
            std::cmp::Ordering::Less => Standing::Older,
            std::cmp::Ordering::Equal => Standing::Tested,
            std::cmp::Ordering::Greater => Standing::Newer,
        },
        _ => Standing::Unknown,
    }
}

/// The first version of three numbers in what a CLI prints for `--version`.
pub fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches('v').trim_end_matches([',', ';']))
        .find(|word| numbers(word).is_some())
}

fn numbers(version: &str) -> Option<[u64; 3]> {
    let version = version.split(['-', '+']).next()?;
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::agents;

    #[test]
    fn the_tested_versions_are_those_of_the_recorded_output() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/agents");
        for (agent, version) in TESTED {
            assert!(fixtures.join(agent).join(version).is_dir(), "{agent}");
            let directories = std::fs::read_dir(fixtures.join(agent)).unwrap();
            for directory in directories {
                let name = directory.unwrap().file_name().into_string().unwrap();
                assert_ne!(standing(&name, version), Standing::Newer, "{agent} {name}");
            }
        }
    }

    #[test]
    fn only_agents_that_there_are_have_signs() {
        for SignIn { agent, .. } in SIGN_INS {
            assert!(agents::find(agent).is_some(), "{agent}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(standing("1.18.33", "1.18.33"), Standing::Tested);
        assert_eq!(standing("1.19.0-beta.1", "1.18.33"), Standing::Newer);
        assert_eq!(standing("1.9.99", "1.18.33"), Standing::Older);
        assert_eq!(standing("nightly", "1.18.33"), Standing::Unknown);
        assert_eq!(version_in("codex-cli 0.169.0\n"), Some("0.169.0"));
        assert_eq!(version_in("2.1.197 (Claude Code)"), Some("2.1.197"));
        assert_eq!(version_in("v7.7.7"), Some("7.7.7"));
        assert_eq!(version_in("ready"), None);
    }
}
