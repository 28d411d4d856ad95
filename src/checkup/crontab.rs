//! What a crontab says of this program.

/// The `PATH` of cron where the crontab sets none.
pub const CRON_PATH: &str = "/usr/bin:/bin";

/// Debian's cron cuts a line there.
const MAX_LINE: usize = 998;

/// A crontab, as far as it starts this program.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Crontab {
    /// Its lines that start this program.
    pub commands: Vec<String>,
    /// `PATH` as it is set before the first of these; `None` where it is not.
    pub path: Option<String>,
    /// What is wrong with that `PATH`.
    pub bad_path: Option<&'static str>,
}

impl Crontab {
    /// Reads what `crontab -l` prints.
    pub fn parse(text: &str) -> Self {
        let mut crontab = Self::default();
        let (mut path, mut bad_path) = (None, None);
        for line in text.lines().map(str::trim) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(value) = assignment(line, "PATH") {
                bad_path = if value.contains(['$', '~']) {
                    Some("cron expands neither `$` nor `~`")
                } else if line.len() > MAX_LINE {
                    Some("cron cuts off what is beyond 998 characters")
                } else {
                    None
                };
                path = Some(value.to_owned());
            } else if line.contains("agent-runner") && !is_assignment(line) {
                if crontab.commands.is_empty() {
                    (crontab.path, crontab.bad_path) = (path.clone(), bad_path);
                }
                crontab.commands.push(line.to_owned());
            }
        }
        crontab
    }

    /// Whether a line leaves signs of life.
    pub fn has_heartbeat(&self) -> bool {
        self.commands
            .iter()
            .any(|line| line.contains("agent-runner heartbeat"))
    }

    /// The agents that its lines start: values of `--agent`.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        let named = self.commands.iter().flat_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let pairs = words.windows(2).filter(|pair| pair[0] == "--agent");
            let apart: Vec<&str> = pairs.map(|pair| pair[1]).collect();
            let joined = words
                .into_iter()
                .filter_map(|word| word.strip_prefix("--agent="));
            apart.into_iter().chain(joined).collect::<Vec<_>>()
        });
        named.flat_map(|list| list.split(','))
    }

    /// The programs of this name that its lines start by their whole path, and whether a line
    /// leaves it to `PATH`.
    pub fn runner_paths(&self) -> (Vec<&str>, bool) {
        let words = self
            .commands
            .iter()
            .flat_map(|line| line.split_whitespace());
        let named = words.map(|word| word.trim_matches(['"', '\'', '(', ')', ';']));
        let (absolute, others): (Vec<&str>, Vec<&str>) = named
            .filter(|word| *word == "agent-runner" || word.ends_with("/agent-runner"))
            .partition(|word| word.starts_with('/'));
        (absolute, others.contains(&"agent-runner"))
    }
}

fn is_assignment(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default().trim();
    line.contains('=')
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn assignment<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    let (name, value) = line.split_once('=')?;
    let value = value.trim();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    (name.trim() == wanted).then_some(unquoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_lines_of_this_program_are_read() {
        let crontab = Crontab::parse(
            "# agent-runner run --agent no\nMAILTO=\"\"\nPATH = \"/opt/bin:/usr/bin\"\n\
             * * * * * cd /r && agent-runner heartbeat\n\
             0 * * * * cd /r && /opt/bin/agent-runner run --agent claude,codex --task t\n\
             PATH=/later\n@daily agent-runner run --agent=kilo --task t; other\n",
        );
        assert_eq!(crontab.path.as_deref(), Some("/opt/bin:/usr/bin"));
        assert_eq!((crontab.commands.len(), crontab.bad_path), (3, None));
        assert!(crontab.has_heartbeat());
        let agents: Vec<_> = crontab.agents().collect();
        assert_eq!(agents, ["claude", "codex", "kilo"]);
        assert_eq!(
            crontab.runner_paths(),
            (vec!["/opt/bin/agent-runner"], true)
        );
        assert_eq!(
            Crontab::parse("AGENT_RUNNER=agent-runner\n"),
            Crontab::default()
        );
    }

    #[test]
    fn a_path_that_cron_does_not_understand_is_seen() {
        let bad = |path: &str| {
            Crontab::parse(&format!("PATH={path}\n* * * * * agent-runner heartbeat")).bad_path
        };
        assert!(bad("$HOME/bin:/usr/bin").unwrap().contains("expands"));
        assert!(bad(&"/x:".repeat(400)).unwrap().contains("cuts"));
        assert_eq!(bad("/usr/bin"), None);
    }
}
