//! The runner's own log: JSON lines in the run's `runner.log` and in a log rolled by day.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::NaiveDate;
use tracing::Level;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, Layer, layer};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::actions::{self, Annotation};
use crate::cli::wiring::SystemClock;
use crate::model::clock::Clock as _;
use crate::redact::Redactor;

/// Days for which the rolled log is kept.
const KEPT_DAYS: usize = 14;

/// Turns on the log: rolled files in `directory`, which must exist, and the file of the run at hand.
///
/// A rolled log that cannot be written is left away: a missing log about the runner must not keep
/// it from running.
pub fn begin(directory: &Path) -> RunLog {
    let run_log = RunLog::default();
    let shared = run_log.clone();
    let followed = json().with_writer(move || shared.clone());
    set(Registry::default()
        .with(followed.with_filter(LevelFilter::INFO))
        .with(rolled(directory)));
    run_log
}

/// Turns on the log of a command that works for long: rolled files in `directory`, and talk.
pub fn begin_talking(directory: &Path, talk: Talk) {
    let Talk {
        level,
        format,
        redactor,
        in_actions,
    } = talk;
    let for_actions = in_actions.then(|| Arc::clone(&redactor));
    // Lines are harmless already, and may be annotations.
    let is_neutral = in_actions && format == TalkFormat::Json;
    let mouth = move || Mouth {
        redactor: Arc::clone(&redactor),
        is_neutral,
    };
    let (text, lines) = match format {
        TalkFormat::Text => {
            let lines = layer().event_format(Lines { for_actions });
            (Some(lines.with_writer(mouth)), None)
        }
        TalkFormat::Json => (None, Some(json().with_writer(mouth))),
    };
    set(Registry::default()
        .with(text.with_filter(level))
        .with(lines.with_filter(level))
        .with(rolled(directory)));
}

fn set(subscriber: impl tracing::Subscriber + Send + Sync) {
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        // Only a second call could fail, and what it would log is logged by the first.
    }
}

fn json<S>() -> Layer<S, JsonFields, Format<Json>> {
    let lines = layer().json().with_target(false).flatten_event(true);
    lines.with_span_list(false)
}

/// Files rolled by day.
fn rolled<S>(directory: &Path) -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let files = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("runner")
        .filename_suffix("log")
        .max_log_files(KEPT_DAYS)
        .build(directory)
        .ok();
    let private = |files| {
        let mut private = Private {
            files,
            directory: directory.to_owned(),
            day: None,
        };
        private.make_private();
        json().with_writer(Mutex::new(private))
    };
    files.map(private).with_filter(LevelFilter::INFO)
}

/// Rolled files that become their owner's alone, which they are not made.
struct Private {
    files: RollingFileAppender,
    directory: PathBuf,
    /// The day whose file is.
    day: Option<NaiveDate>,
}

impl Private {
    fn make_private(&mut self) {
        let day = SystemClock.now().date_naive();
        if self.day == Some(day) {
            return;
        }
        let file = self.directory.join(format!("runner.{day}.log"));
        // Around midnight the file may be still of the day before: the next line sees to it.
        if fs::set_permissions(file, Permissions::from_mode(0o600)).is_ok() {
            self.day = Some(day);
        }
    }
}

impl Write for Private {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.files.write(bytes);
        self.make_private();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.files.flush()
    }
}

/// The level of that name, as the original and as Rust programs call it.
pub fn level(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "off" => LevelFilter::OFF,
        "critical" | "error" => LevelFilter::ERROR,
        "warning" | "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

/// What a command that works for long says on standard error.
#[derive(Debug)]
pub struct Talk {
    /// What is worth saying.
    pub level: LevelFilter,
    /// In which form.
    pub format: TalkFormat,
    /// What must not be said.
    pub redactor: Arc<Redactor>,
    /// Whether GitHub Actions reads along: errors become annotations, and nothing else is obeyed.
    pub in_actions: bool,
}

/// The form of talk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TalkFormat {
    /// `2026-11-21 12:00:00 UTC - INFO - message`.
    Text,
    /// One JSON object a line, with the task, the issue and the run it is about.
    Json,
}

/// Standard error, where no secret is said.
struct Mouth {
    redactor: Arc<Redactor>,
    is_neutral: bool,
}

impl Write for Mouth {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.redactor.text(&String::from_utf8_lossy(bytes));
        if self.is_neutral {
            text = actions::neutral(&text).into_owned();
        }
        // A log that nobody reads does not end the work.
        match io::stderr().lock().write_all(text.as_bytes()) {
            Ok(()) | Err(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Events as lines for people; in Actions what went wrong as annotations.
struct Lines {
    for_actions: Option<Arc<Redactor>>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let now = SystemClock.now().format("%F %T UTC");
        let level = *event.metadata().level();
        let Some(redactor) = &self.for_actions else {
            write!(writer, "{now} - {level} - ")?;
            context.format_fields(writer.by_ref(), event)?;
            return writeln!(writer);
        };
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        // An escaped secret would not be found.
        let message = redactor.text(&message);
        let kind = match level {
            Level::ERROR => Annotation::Error,
            Level::WARN => Annotation::Warning,
            _ => {
                return writeln!(
                    writer,
                    "{}",
                    actions::neutral(&format!("{now} - {level} - {message}"))
                );
            }
        };
        writeln!(writer, "{}", actions::annotation(kind, &message))
    }
}

/// Writes to the log of the run at hand; to nowhere between runs.
#[derive(Clone, Debug, Default)]
pub struct RunLog {
    file: Arc<Mutex<Option<File>>>,
}

impl RunLog {
    /// Directs the log to a run's file.
    pub fn follow(&self, file: Option<File>) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }
}

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
