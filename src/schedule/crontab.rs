//! The text of a crontab: read as cron reads it, and our own block in it.
//!
//! ```text
//! REPO=/home/you/project
//! 30 6 * * 1-5 cd "$REPO" && agent-runner run --agent claude --task review
//! ```

use std::collections::BTreeMap;

use crate::schedule::expression::Expression;

/// The `PATH` of cron where the crontab sets none.
pub const CRON_PATH: &str = "/usr/bin:/bin";

/// Debian's cron reads no more characters of a line.
pub const MAX_LINE: usize = 998;

/// A line of a crontab that starts something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// When, as it is written there.
    pub expression: String,
    /// The zone that a line `CRON_TZ=` before it names; not every cron heeds that.
    pub timezone: Option<String>,
    /// The command line for the shell: the part before an unescaped `%`, which ends it.
    pub command: String,
    /// The assignments before it.
    pub environment: BTreeMap<String, String>,
}

/// The jobs of a crontab (`crontab -l`), in order. Lines that cron would refuse are left out, as is
/// `@reboot`, which is no time. `given` is what cron sets before the first line, such as `HOME`.
pub fn jobs(text: &str, given: &BTreeMap<String, String>) -> Vec<Job> {
    let mut environment = given.clone();
    let mut jobs = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = assignment(line) {
            environment.insert(name, value);
        } else if let Some((expression, command)) = split_job(line) {
            jobs.push(Job {
                expression,
                timezone: environment.get("CRON_TZ").cloned(),
                command: command_line(command),
                environment: environment.clone(),
            });
        }
    }
    jobs
}

/// `NAME = value`, where both may be quoted.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let unquoted = |text: &str| {
        let text = text.trim();
        let quoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
        quoted('"').or(quoted('\'')).unwrap_or(text).to_owned()
    };
    let name = unquoted(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = !name.is_empty()
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then(|| (name, unquoted(value)))
}

fn split_job(line: &str) -> Option<(String, &str)> {
    let fields = if line.starts_with('@') { 1 } else { 5 };
    let mut rest = line;
    let mut expression = Vec::new();
    for _ in 0..fields {
        let (field, after) = rest.split_once([' ', '\t'])?;
        expression.push(field);
        rest = after.trim_start();
    }
    let expression = expression.join(" ");
    (Expression::parse(&expression).is_ok() && !rest.is_empty()).then_some((expression, rest))
}

/// What the shell is given: up to the first `%`, and `\%` as `%`.
fn command_line(text: &str) -> String {
    let mut command = String::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '%' => break,
            '\\' if characters.peek() == Some(&'%') => command.extend(characters.next()),
            c => command.push(c),
        }
    }
    command
}

/// What a command line wants of this program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The program, as it is named there: a path, or a name that is looked for in `PATH`.
    pub program: String,
    /// The verb, such as `run`.
    pub verb: String,
    /// The words after the verb.
    pub arguments: Vec<String>,
    /// The value of `--config`.
    pub config: Option<String>,
    /// Where the command line changes to before.
    pub directory: Option<String>,
}

impl Call {
    /// The value of an option, written `--name value` or `--name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        option(&self.arguments, name)
    }
}

fn option<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == name {
            return words.next().map(String::as_str);
        }
        if let Some(value) = word
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='))
        {
            return Some(value);
        }
    }
    None
}

impl Job {
    /// The directories in which cron finds the programs of this line.
    pub fn path(&self) -> &str {
        self.environment.get("PATH").map_or(CRON_PATH, |path| path)
    }

    /// The call of a program named `agent-runner` in the job's command line, if there is one.
    pub fn call(&self) -> Option<Call> {
        call(&words(&self.command, &self.environment))
    }
}

/// The call of a program named `agent-runner` among the words of a command line.
pub(super) fn call(words: &[String]) -> Option<Call> {
    let is_program = |word: &String| word.rsplit('/').next() == Some("agent-runner");
    let is_end = |word: &String| word.starts_with(SIGN);
    // A directory or a lock may have the same name; behind the program stands a verb.
    let at = words
        .windows(2)
        .position(|pair| is_program(&pair[0]) && !is_end(&pair[1]) && !is_program(&pair[1]))?;
    let directory = words[..at].iter().rposition(|word| word == "cd");
    let directory = directory.and_then(|cd| words.get(cd + 1)).cloned();
    let rest: Vec<String> = words[at + 1..]
        .iter()
        .take_while(|word| !is_end(word))
        .cloned()
        .collect();
    let config = option(&rest, "--config").map(str::to_owned);
    let mut rest = rest.into_iter();
    let mut verb = rest.next()?;
    while verb.starts_with('-') {
        if verb == "--config" {
            rest.next()?;
        }
        verb = rest.next()?;
    }
    Some(Call {
        program: words[at].clone(),
        verb,
        arguments: rest.collect(),
        config,
        directory,
    })
}

/// Before a word that is a sign of the shell and not quoted; no line of a crontab holds it.
const SIGN: char = '\0';

/// The words of a command line, as far as a shell's rules matter here: quotes, `\`, `~`, variables of
/// the crontab, and `;`, `&`, `|`, `>` as words of their own.
fn words(command: &str, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars().peekable();
    while let Some(c) = characters.next() {
        let is_first = word.is_none();
        match (c, quote) {
            ('~', None)
                if is_first
                    && characters
                        .peek()
                        .is_none_or(|next| " \t/;&|".contains(*next)) =>
            {
                let home = environment.get("HOME").map_or("~", String::as_str);
                word.get_or_insert_default().push_str(home);
            }
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            ('$', None | Some('"')) => {
                let braces = characters.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                if braces {
                    characters.next_if_eq(&'}');
                }
                let value = environment.get(&name).map_or("", String::as_str);
                word.get_or_insert_default().push_str(value);
            }
            (' ' | '\t', None) => words.extend(word.take()),
            (';' | '&' | '|' | '>' | '<', None) => {
                // The number of a descriptor belongs to the sign: `2>>`.
                let word = word
                    .take()
                    .filter(|word| c != '>' || word != "2" && word != "1");
                words.extend(word);
                let mut sign = format!("{SIGN}{c}");
                while let Some(c) = characters.next_if(|next| ";&|>".contains(*next)) {
                    sign.push(c);
                }
                words.push(sign);
            }
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Quotes a word for the shell of a crontab, where `%` needs a backslash besides; a word of harmless
/// characters stays as it is.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // Cron takes the backslash away before the shell sees it, also within quotes.
    format!("'{}'", word.replace('\'', r"'\''")).replace('%', r"\%")
}

/// Our own block in a crontab: the lines between two marks that name whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    begin: String,
    end: String,
}

/// A mark without its other one: what belongs to us cannot be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the marks of the block do not match")]
pub struct BrokenBlock;

impl Block {
    /// The block of `owner`, a single line of text.
    pub fn of(owner: &str) -> Self {
        Self {
            begin: format!("# BEGIN agent-runner {owner}"),
            end: format!("# END agent-runner {owner}"),
        }
    }

    /// The block with its lines.
    pub fn text(&self, lines: &str) -> String {
        format!("{}\n{lines}{}\n", self.begin, self.end)
    }

    /// The crontab with this block in place of an older one, else at its end. Every other byte
    /// stays as it is.
    pub fn put(&self, crontab: &str, lines: &str) -> Result<String, BrokenBlock> {
        let block = self.text(lines);
        if let Some((before, _, after)) = self.split(crontab)? {
            return Ok(format!("{before}{block}{after}"));
        }
        let line_feed = if crontab.is_empty() || crontab.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        Ok(format!("{crontab}{line_feed}{block}"))
    }

    /// The crontab without the block.
    pub fn remove(&self, crontab: &str) -> Result<String, BrokenBlock> {
        let split = self.split(crontab)?;
        Ok(split.map_or_else(
            || crontab.to_owned(),
            |(before, _, after)| format!("{before}{after}"),
        ))
    }

    /// The block as it stands in a crontab.
    pub fn find<'a>(&self, crontab: &'a str) -> Result<Option<&'a str>, BrokenBlock> {
        Ok(self.split(crontab)?.map(|(_, block, _)| block))
    }

    fn split<'a>(
        &self,
        crontab: &'a str,
    ) -> Result<Option<(&'a str, &'a str, &'a str)>, BrokenBlock> {
        let (mut begin, mut end, mut at) = (None, None, 0);
        for line in crontab.split_inclusive('\n') {
            let text = line.strip_suffix('\n').unwrap_or(line);
            if text == self.begin && begin.replace(at).is_some() {
                return Err(BrokenBlock);
            }
            at += line.len();
            if text == self.end && end.replace(at).is_some() {
                return Err(BrokenBlock);
            }
        }
        match (begin, end) {
            (None, None) => Ok(None),
            (Some(begin), Some(end)) if begin < end => Ok(Some((
                &crontab[..begin],
                &crontab[begin..end],
                &crontab[end..],
            ))),
            (_, _) => Err(BrokenBlock),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_crontab_is_read_as_cron_reads_it() {
        let text = "\
# m h dom mon dow command
SHELL=/bin/sh
 MAILTO = \"\"
REPO='/home/you/my project'
0 5 * * 1\ttar -zcf /var/backups/home.tgz /home/
@daily  echo 50\\%%input
60 * * * * never
@reboot nothing
CRON_TZ=Asia/Tokyo
*/5 * * * * cd \"$REPO\" && agent-runner run --agent claude --task x >> logs/cron.log 2>&1
8 * * * * cd ~/agent-runner && $HOME/bin/agent-runner run
7 * * * * X=1 /opt/bin/agent-runner --config '/etc/a b.toml' heartbeat 2>> log
";
        let home = BTreeMap::from([("HOME".to_owned(), "/home/you".to_owned())]);
        let jobs = jobs(text, &home);
        let lines: Vec<_> = jobs
            .iter()
            .map(|job| (job.expression.as_str(), job.command.as_str()))
            .collect();
        assert_eq!(
            lines[0],
            ("0 5 * * 1", "tar -zcf /var/backups/home.tgz /home/")
        );
        assert_eq!(lines[1], ("@daily", "echo 50%"));
        assert_eq!(jobs.len(), 5);
        assert_eq!(jobs[0].environment["MAILTO"], "");
        assert_eq!(
            (&jobs[0].timezone, jobs[2].timezone.as_deref()),
            (&None, Some("Asia/Tokyo"))
        );
        assert_eq!(jobs[0].call(), None);
        let run = jobs[2].call().unwrap();
        assert_eq!(run.verb, "run");
        assert_eq!(
            (run.option("--agent"), run.option("--task")),
            (Some("claude"), Some("x"))
        );
        assert_eq!(run.directory.as_deref(), Some("/home/you/my project"));
        assert_eq!(
            (run.program.as_str(), jobs[2].path()),
            ("agent-runner", CRON_PATH)
        );
        let home = jobs[3].call().unwrap();
        assert_eq!(home.directory.as_deref(), Some("/home/you/agent-runner"));
        assert_eq!(home.program, "/home/you/bin/agent-runner");
        let beat = jobs[4].call().unwrap();
        assert_eq!(
            (beat.verb.as_str(), beat.config.as_deref()),
            ("heartbeat", Some("/etc/a b.toml"))
        );
        assert_eq!(beat.program, "/opt/bin/agent-runner");
    }

    #[test]
    fn our_block_is_replaced_and_nothing_else_is_touched() {
        let block = Block::of("/home/you/config.toml");
        let foreign = "MAILTO=me\n\n# BEGIN agent-runner /other\n1 1 1 1 1 x\n# END agent-runner /other\n\t# odd  \n* * * * * y";
        let once = block.put(foreign, "a\n").unwrap();
        assert_eq!(once, format!("{foreign}\n{}", block.text("a\n")));
        let twice = block.put(&format!("{once}after"), "b\n").unwrap();
        assert_eq!(twice, format!("{foreign}\n{}after", block.text("b\n")));
        assert_eq!(block.remove(&twice).unwrap(), format!("{foreign}\nafter"));
        assert_eq!(block.remove(foreign).unwrap(), foreign);
        assert_eq!(block.find(foreign), Ok(None));
        let whole = block.text("a\n");
        let (begin, end) = whole.split_once("a\n").unwrap();
        for broken in [
            begin,
            end,
            &format!("{end}{begin}"),
            &format!("{whole}{whole}"),
        ] {
            assert_eq!(block.put(broken, "a\n"), Err(BrokenBlock), "{broken}");
            assert_eq!(block.remove(broken), Err(BrokenBlock));
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_reaches_the_program_as_it_is(word in "[ -~]{0,12}") {
            let line = format!("* * * * * /x/agent-runner run --task {} > y", quoted(&word));
            let call = jobs(&line, &BTreeMap::new())[0].call().unwrap();
            prop_assert_eq!(call.option("--task"), Some(word.as_str()));
        }

        #[test]
        fn any_text_can_be_read_and_the_rest_of_it_survives_our_block(text in "[ -~\n\t]{0,80}") {
            for job in jobs(&text, &BTreeMap::new()) {
                job.call();
            }
            let block = Block::of("me");
            let with = block.put(&text, "0 0 * * * z\n").unwrap();
            let line_feed = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            prop_assert_eq!(block.remove(&with).unwrap(), format!("{text}{line_feed}"));
        }
    }
}
