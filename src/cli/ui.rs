//! The only mouth: data to standard output, talk to standard error, colour and a live line only on
//! a terminal.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::checkup::Level;
use crate::cli::actions::{self, Annotation, NeutralLines};
use crate::model::duration;
use crate::model::outcome::Outcome;
use crate::model::text;
use crate::triage::Status;

/// Prints for one command.
#[derive(Clone, Debug)]
pub struct Ui {
    terminal: bool,
    colour: bool,
    /// The columns of standard error, where that is a terminal.
    talk_width: Option<usize>,
    /// Whether GitHub Actions reads along, and obeys.
    in_actions: bool,
    /// What pieces have left of a line, in Actions.
    lines: Rc<RefCell<NeutralLines>>,
    width: u16,
    /// The first failure to print data.
    failure: Rc<RefCell<Option<io::Error>>>,
}

/// The width of tables where standard output is no terminal.
const PLAIN_WIDTH: u16 = 120;

impl Ui {
    /// A mouth for this process's standard streams. `no_colour`: the variable `NO_COLOR` is set,
    /// or the terminal knows none; `columns`: what `COLUMNS` says of a terminal that standard output
    /// is not; `in_actions`: this is a step of a workflow.
    pub fn new(no_colour: bool, columns: Option<&str>, in_actions: bool) -> Self {
        let stdout = io::stdout();
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
        let told = columns.and_then(|columns| columns.parse().ok());
        let width = if width == 0 { told.unwrap_or(0) } else { width };
        Self {
            terminal: stdout.is_terminal(),
            colour: stdout.is_terminal() && !no_colour,
            talk_width: talk_width(),
            in_actions,
            lines: Rc::default(),
            width: if width == 0 { PLAIN_WIDTH } else { width },
            failure: Rc::default(),
        }
    }

    /// Prints data: a text that ends in a line feed, which is added where it is missing.
    ///
    /// A reader that went away (`| head -1`) is no error: the command goes on to its end. Any other
    /// failure is kept for [`Ui::failure`].
    pub fn data(&self, text: &str) {
        match print(&mut io::stdout().lock(), &self.harmless(text)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.failure.borrow_mut().get_or_insert(error);
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Prints data that is running text: a terminal gets it broken between words.
    pub fn prose(&self, text: &str) {
        if self.terminal {
            self.data(&text::fill(text, self.width()));
        } else {
            self.data(text);
        }
    }

    /// Why data was not printed, where it was not.
    pub fn failure(&self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Prints bytes as they are; tells whether somebody reads them.
    pub fn piece(&self, bytes: &[u8]) -> bool {
        let lines = self.in_actions.then(|| self.lines.borrow_mut().take(bytes));
        let bytes = lines.as_deref().unwrap_or(bytes);
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .is_ok()
    }

    /// Prints what is held of a last line without an end.
    pub fn finish(&self) {
        let rest = self.lines.borrow_mut().finish();
        if !rest.is_empty() {
            self.data(&String::from_utf8_lossy(&rest));
        }
    }

    /// Whether data goes to a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints talk; a terminal gets it broken between words.
    pub fn talk(&self, text: &str) {
        print_talk(&self.harmless(text), self.talk_width);
    }

    /// Prints why the command failed; in Actions on the page of the workflow run, too.
    pub fn error(&self, text: &str) {
        if self.in_actions {
            print_talk(&actions::annotation(Annotation::Error, text), None);
        } else {
            print_talk(&format!("error: {text}"), self.talk_width);
        }
    }

    /// Shows a text on the page of the workflow run; outside of Actions nothing.
    pub fn annotate(&self, kind: Annotation, text: &str) {
        if self.in_actions {
            print_talk(&actions::annotation(kind, text), None);
        }
    }

    /// Whether this is a step of a workflow, whose runner obeys what is printed.
    pub fn is_in_actions(&self) -> bool {
        self.in_actions
    }

    fn harmless<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.in_actions {
            actions::neutral(text)
        } else {
            Cow::Borrowed(text)
        }
    }

    /// How many columns a line may take.
    pub fn width(&self) -> usize {
        self.width.into()
    }

    /// An outcome in its colour.
    pub fn outcome(&self, outcome: Outcome) -> String {
        self.painted(outcome, outcome.as_str())
    }

    /// A text about an outcome in that one's colour.
    pub fn painted(&self, outcome: Outcome, text: &str) -> String {
        let colour = match outcome {
            Outcome::Success | Outcome::NoChange => 32,
            Outcome::Running | Outcome::Skipped => 36,
            Outcome::RateLimited | Outcome::Interrupted { .. } => 33,
            Outcome::AgentError
            | Outcome::StartFailed
            | Outcome::CommitMissing
            | Outcome::VerifyFailed
            | Outcome::PolicyBlocked
            | Outcome::Timeout
            | Outcome::Stalled
            | Outcome::LostLease
            | Outcome::Crashed => 31,
        };
        self.paint(text, colour)
    }

    /// How much a finding matters, in its colour.
    pub fn level(&self, level: Level) -> String {
        let colour = match level {
            Level::Ok => 32,
            Level::Note => 36,
            Level::Warning => 33,
            Level::Error => 31,
        };
        self.paint(&format!("{:<7}", level.as_str()), colour)
    }

    /// The columns of a page of running text, at most 80.
    pub fn page_width(&self) -> usize {
        usize::from(self.width.min(80))
    }

    /// A text in the colour of what became of a fire or a run.
    pub fn status(&self, status: Status, text: &str) -> String {
        self.paint(
            text,
            match status {
                Status::Ok => 32,
                Status::Running | Status::Skipped => 36,
                Status::Limited => 33,
                Status::Silent
                | Status::Crashed
                | Status::Missed
                | Status::Failed
                | Status::Overdue => 31,
            },
        )
    }

    /// A text that stands out.
    pub fn strong(&self, text: &str) -> String {
        self.paint(text, 1)
    }

    fn paint(&self, text: &str, code: u8) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// A live line for a run; without a terminal, or when it is not `wanted`, an invisible one.
    pub fn live_line(&self, title: &str, wanted: bool) -> LiveLine {
        let target = if self.talk_width.is_some() && wanted {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(one_line());
        LiveLine {
            title: title.to_owned(),
            bar,
            talk_width: self.talk_width,
        }
    }
}

/// What does not fit is cut off: a line that wraps would not be one line.
fn one_line() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is right")
}

/// The columns of standard error; `None` where it is no terminal.
fn talk_width() -> Option<usize> {
    let stderr = io::stderr();
    let size = rustix::termios::tcgetwinsize(&stderr).ok()?;
    let columns = usize::from(size.ws_col);
    // A terminal that tells no size.
    Some(if columns == 0 { usize::MAX } else { columns })
}

fn print_talk(text: &str, columns: Option<usize>) {
    let text = columns.map_or(Cow::Borrowed(text), |columns| {
        text::fill(text, columns).into()
    });
    match print(&mut io::stderr().lock(), &text) {
        // There is nobody left to tell.
        Ok(()) | Err(_) => {}
    }
}

fn print(stream: &mut dyn io::Write, text: &str) -> io::Result<()> {
    let line_feed = if text.ends_with('\n') { "" } else { "\n" };
    write!(stream, "{text}{line_feed}")?;
    stream.flush()
}

/// The line that shows a run's progress on a terminal.
pub struct LiveLine {
    title: String,
    bar: ProgressBar,
    talk_width: Option<usize>,
}

impl fmt::Debug for LiveLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LiveLine").finish_non_exhaustive()
    }
}

impl LiveLine {
    /// Shows how far the run is.
    pub fn show(&self, elapsed: Duration, events: u64, tokens: Option<u64>, action: &str) {
        let tokens = tokens.map_or(String::new(), |tokens| format!("  {tokens} tokens"));
        let action = text::first_line(action, 60);
        let (title, elapsed) = (&self.title, duration::elapsed(elapsed));
        self.bar.set_message(format!(
            "{title}  {elapsed}  {events} events{tokens}  {action}"
        ));
    }

    /// Shows what is done meanwhile.
    pub fn note(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// Prints talk above the line.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| print_talk(text, self.talk_width));
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
