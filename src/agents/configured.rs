//! Agents that the configuration describes: any CLI that takes a prompt, without code of its own.
//!
//! ```toml
//! [agents.reviewer]
//! command = ["reviewer", "--batch", "--prompt={prompt}"]
//! prompt = "argument"
//! output = "text"
//! ```
//!
//! `{prompt}` in an argument stands for the prompt, with `prompt = "file"` `{prompt_file}` for its
//! path; without the placeholder it is the last argument. Its output is text, or that of a
//! built-in agent.

use crate::agents::lines::LineParser;
use crate::agents::plain::PlainText;
use crate::agents::{
    AgentInterface, AgentRequest, InvocationError, TranscriptParser, check_size, find,
};
use crate::model::ids::AgentName;
use crate::model::invocation::{Invocation, PrivateFile, PromptDelivery, StopSignal};

/// The longest argument that Linux passes to a program; with its final NUL it fills 32 pages. See
/// execve(2).
const MAX_ARGUMENT_BYTES: usize = 131_071;

const PROMPT: &str = "{prompt}";
const PROMPT_FILE: &str = "{prompt_file}";

/// An agent of `[agents.NAME]`.
#[derive(Clone, Debug)]
pub struct ConfiguredAgent {
    /// Its name.
    pub name: AgentName,
    /// The command's arguments after the program, with placeholders.
    pub arguments: Vec<String>,
    /// How it takes its prompt.
    pub prompt: PromptDelivery,
    /// How its output is read.
    pub output: OutputFormat,
    /// The option that names a model, such as `--model`; `None` where it takes none.
    pub model_flag: Option<String>,
    /// How to ask it to end.
    pub stop_signal: StopSignal,
}

/// How an agent's output is read.
#[derive(Clone, Copy, Debug)]
pub enum OutputFormat {
    /// As text for people: the last paragraph is the final message, the exit status decides.
    Text,
    /// As that of a built-in agent.
    Of(&'static dyn AgentInterface),
}

impl OutputFormat {
    /// The format of that name in the configuration: `text` or a built-in agent's name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            name => find(name).map(Self::Of),
        }
    }
}

impl AgentInterface for ConfiguredAgent {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    /// None: what it needs is named by `pass_env`.
    fn credentials(&self) -> &'static [&'static str] {
        &[]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        let mut arguments = self.arguments.clone();
        // What follows `--` is no option any more.
        let options_end = arguments.iter().position(|argument| argument == "--");
        let model = self.model_flag.as_deref().zip(request.model);
        let options = model.iter().flat_map(|(flag, model)| [*flag, *model]);
        let options = options.chain(request.arguments.iter().map(String::as_str));
        let at = options_end.unwrap_or(arguments.len());
        arguments.splice(at..at, options.map(str::to_owned));

        let mut invocation = Invocation {
            stop_signal: self.stop_signal,
            ..Invocation::new(request.program, [""; 0], [])
        };
        match self.prompt {
            PromptDelivery::Stdin => invocation.stdin = request.prompt.into(),
            PromptDelivery::Argument => {
                if request.prompt.contains('\0') {
                    return Err(InvocationError::Nul);
                }
                self.place(PROMPT, request.prompt, &mut arguments)?;
            }
            PromptDelivery::File => {
                let path = request.private_directory.join("prompt.md");
                self.place(PROMPT_FILE, &path.display().to_string(), &mut arguments)?;
                let contents = request.prompt.into();
                invocation.private_files = vec![PrivateFile { path, contents }];
            }
        }
        invocation.arguments = arguments;
        Ok(invocation)
    }

    fn parser(&self, arguments: &[String]) -> Box<dyn TranscriptParser> {
        match self.output {
            OutputFormat::Text => Box::new(LineParser::new(PlainText::default())),
            OutputFormat::Of(agent) => agent.parser(&[&self.arguments, arguments].concat()),
        }
    }
}

impl ConfiguredAgent {
    /// Puts a value in the place of its placeholder, or behind all arguments.
    fn place(
        &self,
        placeholder: &str,
        value: &str,
        arguments: &mut Vec<String>,
    ) -> Result<(), InvocationError> {
        if !arguments.iter().any(|it| it.contains(placeholder)) {
            arguments.push(placeholder.to_owned());
        }
        let agent = || self.name.to_string();
        let mut may_be_option = true;
        for argument in arguments {
            may_be_option &= argument != "--";
            if !argument.contains(placeholder) {
                continue;
            }
            let beside = argument.len() - placeholder.len();
            let limit = MAX_ARGUMENT_BYTES.saturating_sub(beside);
            check_size(self.name(), value.len(), limit)?;
            if may_be_option && argument.starts_with(placeholder) && value.starts_with('-') {
                return Err(InvocationError::PromptIsOption { agent: agent() });
            }
            *argument = argument.replacen(placeholder, value, 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::agents::AgentExit;
    use crate::model::process_end::Stream;
    use crate::model::report::Ending;

    fn agent(arguments: &[&str], prompt: PromptDelivery) -> ConfiguredAgent {
        ConfiguredAgent {
            name: "reviewer".parse().unwrap(),
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            prompt,
            output: OutputFormat::Text,
            model_flag: Some("--model".to_owned()),
            stop_signal: StopSignal::Interrupt,
        }
    }

    fn invoke(agent: &ConfiguredAgent, prompt: &str) -> Result<Invocation, InvocationError> {
        agent.invocation(&AgentRequest {
            program: Path::new("/opt/bin/reviewer"),
            repository: Path::new("/work/repository"),
            private_directory: Path::new("/run/private"),
            prompt,
            model: Some("m"),
            effort: None,
            arguments: &["--more".to_owned()],
            title: "task/reviewer/20260219_204003",
            as_root: false,
        })
    }

    #[track_caller]
    fn check(command: &[&str], prompt: PromptDelivery, text: &str, expected: &[&str]) {
        let invocation = invoke(&agent(command, prompt), text).unwrap();
        assert_eq!(invocation.arguments, expected);
        assert_eq!(invocation.stop_signal, StopSignal::Interrupt);
    }

    #[test]
    fn a_prompt_is_the_last_argument_or_where_the_command_wants_it() {
        use PromptDelivery::{Argument, File, Stdin};
        let more = ["--model", "m", "--more"];
        let [flag, model, user] = more;
        check(&["go"], Stdin, "-x", &["go", flag, model, user]);
        check(
            &["go"],
            Argument,
            "say hi",
            &["go", flag, model, user, "say hi"],
        );
        check(&["{prompt}!"], Argument, "hi", &["hi!", flag, model, user]);
        check(
            &["-p={prompt}"],
            Argument,
            "-x",
            &["-p=-x", flag, model, user],
        );
        check(
            &["go", "--"],
            Argument,
            "-x",
            &["go", flag, model, user, "--", "-x"],
        );
        check(
            &["go"],
            Argument,
            "{prompt_file}",
            &["go", flag, model, user, "{prompt_file}"],
        );
        let path = "/run/private/prompt.md";
        check(&["go"], File, "-x", &["go", flag, model, user, path]);
        check(
            &["@{prompt_file}"],
            File,
            "-x",
            &["@/run/private/prompt.md", flag, model, user],
        );
    }

    #[test]
    fn the_prompt_is_in_one_place_only() {
        let stdin = invoke(&agent(&[], PromptDelivery::Stdin), "-x\n").unwrap();
        assert_eq!(
            (stdin.stdin.as_slice(), stdin.private_files.len()),
            (&b"-x\n"[..], 0)
        );
        let file = invoke(&agent(&[], PromptDelivery::File), "-x\n").unwrap();
        assert_eq!(
            (file.stdin.len(), file.private_files[0].contents.as_slice()),
            (0, &b"-x\n"[..])
        );
        let argument = invoke(&agent(&[], PromptDelivery::Argument), "x\n").unwrap();
        assert_eq!((argument.stdin.len(), argument.private_files.len()), (0, 0));
    }

    #[test]
    fn a_prompt_that_would_not_arrive_as_itself_is_refused() {
        let argument = |command: &[&str], prompt: &str| {
            invoke(&agent(command, PromptDelivery::Argument), prompt).map(drop)
        };
        let is_option = Err(InvocationError::PromptIsOption {
            agent: "reviewer".to_owned(),
        });
        assert_eq!(argument(&["go"], "-x"), is_option);
        assert_eq!(argument(&["{prompt}", "--"], "-x"), is_option);
        assert_eq!(argument(&["go"], "a\0b"), Err(InvocationError::Nul));

        let largest = "x".repeat(131_071);
        assert_eq!(argument(&["go"], &largest), Ok(()));
        let too_large = |size, limit| {
            let agent = "reviewer".to_owned();
            Err(InvocationError::PromptTooLarge { agent, size, limit })
        };
        assert_eq!(
            argument(&["go"], &format!("{largest}x")),
            too_large(131_072, 131_071)
        );
        assert_eq!(
            argument(&["-p={prompt}"], &largest),
            too_large(131_071, 131_068)
        );
        assert!(invoke(&agent(&[], PromptDelivery::File), &format!("{largest}x")).is_ok());
    }

    #[test]
    fn output_is_read_as_text_or_as_that_of_a_built_in_agent() {
        let read = |format: &str, output: &str| {
            let mut agent = agent(&[], PromptDelivery::Stdin);
            agent.output = OutputFormat::from_name(format).unwrap();
            let mut parser = agent.parser(&[]);
            parser.feed(Stream::Stdout, output.as_bytes(), &mut Vec::new());
            parser.finish(&AgentExit::default())
        };
        let text = read("text", "Working.\n\nError: 429 is handled.\n");
        assert_eq!((text.ending, text.error), (Ending::Untold, None));
        assert_eq!(text.final_message.unwrap(), "Error: 429 is handled.");
        let events = "{\"type\":\"completed\"}\n";
        assert_eq!(read("patch", events).ending, Ending::Completed);
        assert!(OutputFormat::from_name("json").is_none());
    }
}
