//! `logs`: what an agent did and said, for people or byte by byte; also of a run that goes on.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use serde_json::json;

use crate::cli::args::LogsArguments;
use crate::cli::error::CliError;
use crate::cli::happenings::{self, Since, Weight};
use crate::cli::ui::Ui;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::record::Record;
use crate::model::{duration, text};
use crate::store::events::{Growing, GrowingLines, LoggedEvent};
use crate::store::reader::{self, Run};

/// How often a run that goes on is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// Shows a run's log, and with `--follow` what is added to it until the run has ended.
pub(crate) fn logs(world: &World, arguments: &LogsArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let run = wiring::find_run(&layout, &arguments.reference.run)?;
    let is_told = !(arguments.json || arguments.raw || arguments.stdout);
    let mut log: Box<dyn Log> = if arguments.json {
        Box::new(Lines::new(&run))
    } else if arguments.raw || arguments.stdout {
        Box::new(Raw::new(&run, arguments.stdout))
    } else {
        Box::new(Told::new(&run))
    };
    let ui = &world.ui;
    let failed = |error: io::Error| {
        let place = run.directory.path().display();
        CliError::failure(format!("the logs in `{place}` cannot be read")).because(error)
    };
    if !arguments.follow {
        while log.more(ui).map_err(failed)? == Read::More {}
        log.end(ui, &run).map_err(failed)?;
        return Ok(EXIT_SUCCESS);
    }
    let layout = run.layout();
    wiring::block_on(async {
        loop {
            // Looked at first: what was written before the end is read after it.
            let run = reader::read_run(&layout, run.path.clone());
            loop {
                match log.more(ui).map_err(failed)? {
                    Read::More => {}
                    Read::All => break,
                    Read::NobodyListens => return Ok(EXIT_SUCCESS),
                }
            }
            if run.record.outcome.is_final() {
                log.end(ui, &run).map_err(failed)?;
                if !is_told {
                    ui.talk(&ending(ui, &run.record));
                }
                return Ok(EXIT_SUCCESS);
            }
            tokio::time::sleep(PAUSE).await;
        }
    })?
}

fn ending(ui: &Ui, record: &Record) -> String {
    let took = record
        .elapsed
        .map(|took| record.outcome.took(duration::words(took)))
        .map(|took| format!(" after {took}"));
    let error = record.error.as_deref();
    let error = error.map(|error| format!(": {}", text::first_line(error, 300)));
    format!(
        "{} {}{}{}",
        record.path(),
        ui.outcome(record.outcome),
        took.unwrap_or_default(),
        error.unwrap_or_default()
    )
}

/// How far a log was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    /// There may be more at once.
    More,
    /// That is all for now.
    All,
    /// Whoever read the output went away.
    NobodyListens,
}

impl Read {
    fn after(is_heard: bool) -> Self {
        if is_heard {
            Self::More
        } else {
            Self::NobodyListens
        }
    }
}

/// A log in one of its forms.
trait Log {
    /// Prints what follows.
    fn more(&mut self, ui: &Ui) -> io::Result<Read>;

    /// Prints what is left at the end; the last line may have no end.
    fn end(&mut self, ui: &Ui, run: &Run) -> io::Result<()>;
}

/// The bytes as they came. A terminal gets them harmless.
struct Raw {
    bytes: Growing,
    lines: GrowingLines,
}

impl Raw {
    fn new(run: &Run, stdout: bool) -> Self {
        let path = if stdout {
            run.directory.stdout()
        } else {
            run.directory.transcript()
        };
        Self {
            bytes: Growing::new(path.clone()),
            lines: GrowingLines::new(path),
        }
    }

    fn lines_more(&mut self, ui: &Ui) -> io::Result<Read> {
        let lines = self.lines.more()?;
        Ok(if lines.is_empty() {
            Read::All
        } else {
            Read::after(ui.piece(harmless(&lines).as_bytes()))
        })
    }
}

impl Log for Raw {
    fn more(&mut self, ui: &Ui) -> io::Result<Read> {
        if ui.is_terminal() {
            return self.lines_more(ui);
        }
        let piece = self.bytes.more()?;
        Ok(if piece.is_empty() {
            Read::All
        } else {
            Read::after(ui.piece(&piece))
        })
    }

    fn end(&mut self, ui: &Ui, _run: &Run) -> io::Result<()> {
        let rest = self.lines.rest();
        if !rest.is_empty() {
            ui.data(&harmless(&rest));
        }
        Ok(())
    }
}

fn harmless(bytes: &[u8]) -> String {
    text::sanitize(&String::from_utf8_lossy(bytes))
}

/// The events as they are; of a run without any, what it printed.
struct Lines {
    events: GrowingLines,
    transcript: GrowingLines,
    has_events: bool,
}

impl Lines {
    fn new(run: &Run) -> Self {
        Self {
            events: GrowingLines::new(run.directory.events()),
            transcript: GrowingLines::new(run.directory.transcript()),
            has_events: false,
        }
    }
}

impl Log for Lines {
    fn more(&mut self, ui: &Ui) -> io::Result<Read> {
        let lines = self.events.more()?;
        if lines.is_empty() {
            return Ok(Read::All);
        }
        self.has_events = true;
        Ok(Read::after(ui.piece(&lines)))
    }

    fn end(&mut self, ui: &Ui, _run: &Run) -> io::Result<()> {
        if self.has_events {
            return Ok(());
        }
        loop {
            let mut lines = self.transcript.more()?;
            let is_end = lines.is_empty();
            if is_end {
                lines = self.transcript.rest();
            }
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let text = String::from_utf8_lossy(line);
                let value = json!({"type": "output", "text": text.trim_end_matches('\n')});
                ui.data(&value.to_string());
            }
            if is_end {
                return Ok(());
            }
        }
    }
}

/// What happened, for people. An agent that tells no events is told by what it printed.
struct Told {
    events: GrowingLines,
    transcript: GrowingLines,
    /// Events that were read and are not told yet.
    waiting: VecDeque<LoggedEvent>,
    since: Since,
    /// The agent told something of itself, so what it printed is not for people.
    has_events: bool,
    /// What it printed looks like events that are not whole yet.
    is_structured: Option<bool>,
    /// The last line is a message that may go on.
    is_open: bool,
    /// The last message; most agents repeat it at their end.
    said: String,
}

/// Before the second line of a message.
const INDENT: &str = "\n         ";

impl Told {
    fn new(run: &Run) -> Self {
        Self {
            events: GrowingLines::new(run.directory.events()),
            transcript: GrowingLines::new(run.directory.transcript()),
            waiting: VecDeque::new(),
            since: Since(run.record.start_time),
            has_events: false,
            is_structured: None,
            is_open: false,
            said: String::new(),
        }
    }

    fn tell(&mut self, event: &LoggedEvent, page: &mut String) {
        let weight = happenings::weight(event);
        if weight == Weight::Quiet && event.kind != "session" {
            return;
        }
        let indented = |text: &str| text::sanitize(text).replace('\n', INDENT);
        if self.is_open && weight == Weight::Message && event.is("continued") {
            page.push_str(&indented(event.text("text")));
            return;
        }
        if weight == Weight::Message {
            if event.text("text") == self.said {
                return;
            }
            event.text("text").clone_into(&mut self.said);
        }
        self.close(page);
        page.push_str(&self.since.tell(event));
        page.push_str("  ");
        self.is_open = weight == Weight::Message;
        if self.is_open {
            page.push_str(&indented(event.text("text").trim_end_matches('\n')));
        } else {
            page.push_str(&happenings::words(event));
            page.push('\n');
        }
    }

    fn close(&mut self, page: &mut String) {
        if self.is_open {
            page.push('\n');
            self.is_open = false;
        }
    }

    /// Whether a piece of what the agent printed is for people.
    fn is_text(&mut self, printed: &[u8]) -> bool {
        let looks = || printed.trim_ascii_start().starts_with(b"{");
        !*self.is_structured.get_or_insert_with(looks)
    }
}

impl Log for Told {
    fn more(&mut self, ui: &Ui) -> io::Result<Read> {
        // What was printed is read first, so that the events in it are there already.
        let printed = if self.has_events {
            Vec::new()
        } else {
            self.transcript.more()?
        };
        let events = self.events.more()?;
        let events = events.split(|byte| *byte == b'\n');
        self.waiting.extend(events.filter_map(LoggedEvent::read));
        let is_of_agent = |event: &LoggedEvent| happenings::weight(event) != Weight::Lifecycle;
        self.has_events |= self.waiting.iter().any(is_of_agent);
        if printed.is_empty() && self.waiting.is_empty() {
            return Ok(Read::All);
        }
        let mut page = String::new();
        if !self.has_events && !printed.is_empty() {
            // The start comes before what was printed, everything else after it.
            let is_start = |event: &mut LoggedEvent| event.text("phase") == "started";
            if let Some(start) = self.waiting.pop_front_if(is_start) {
                self.tell(&start, &mut page);
            }
            if self.is_text(&printed) {
                page.push_str(&harmless(&printed));
            }
        } else {
            for event in std::mem::take(&mut self.waiting) {
                self.tell(&event, &mut page);
            }
        }
        Ok(Read::after(ui.piece(page.as_bytes())))
    }

    fn end(&mut self, ui: &Ui, run: &Run) -> io::Result<()> {
        let mut page = String::new();
        self.close(&mut page);
        let rest = self.transcript.rest();
        let is_text = !self.has_events && self.is_text(&rest);
        if is_text && !rest.is_empty() {
            page.push_str(&harmless(&rest));
            page.push('\n');
        }
        ui.piece(page.as_bytes());
        if !self.has_events && !is_text {
            // It looked like events, and nobody could read them.
            let mut whole = Raw::new(run, false);
            while whole.lines_more(ui)? == Read::More {}
            whole.end(ui, run)?;
        }
        ui.prose(&ending(ui, &run.record));
        Ok(())
    }
}
