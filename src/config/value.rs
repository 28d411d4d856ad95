//! The values of a configuration, checked where they are read: in the file and in the environment
//! by the same code.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::config::settings::OllamaMode;
use crate::model::duration;
use crate::model::ids::{AgentName, TaskName};
use crate::model::invocation::{PromptDelivery, StopSignal};
use crate::model::repository::{RepositoryName, RepositoryNameError};
use crate::model::secret::Secret;
use crate::model::task::{CatchUp, Containment, Isolation, Overlap};
use crate::model::text;
use crate::schedule::expression::Expression;

/// One key of a file: unset, or a value with its place.
pub(crate) struct Setting<T>(Option<Spanned<T>>);

impl<T> Setting<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn span(&self) -> Option<Range<usize>> {
        self.0.as_ref().map(Spanned::span)
    }
}

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Value> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole<T>(T);
        impl<'de, T: Value> Deserialize<'de> for Whole<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                T::take(deserializer).map(Self)
            }
        }
        let value = Spanned::<Whole<T>>::deserialize(deserializer)?;
        let span = value.span();
        Ok(Self(Some(Spanned::new(span, value.into_inner().0))))
    }
}

/// What a key can hold.
pub(crate) trait Value: Sized {
    /// Reads it from a file.
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// What may stand there, for `docs/config.md`.
    #[cfg(test)]
    fn words() -> String;
}

/// A value that is written as text, in the file and in the environment.
pub(crate) trait Text: Sized {
    /// What may stand there: "must be …".
    const EXPECTED: &'static str;
    /// A whole number may stand there without quotes.
    const NUMBER: bool = false;
    /// `false` may stand there and means `"off"`.
    const SWITCH: bool = false;

    /// Reads and checks it; the error says what would be right.
    fn read(text: &str) -> Result<Self, String>;
}

/// A [`Text`] as serde reads it.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Taken<T>(pub(crate) T);

impl<'de, T: Text> Deserialize<'de> for Taken<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<T>(PhantomData<T>);
        impl<T: Text> Visitor<'_> for TextVisitor<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                T::read(text).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
                if T::NUMBER {
                    return self.visit_str(&number.to_string());
                }
                Err(E::invalid_type(Unexpected::Signed(number), &self))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
                if T::SWITCH && !value {
                    return self.visit_str("off");
                }
                Err(E::invalid_type(Unexpected::Bool(value), &self))
            }
        }
        deserializer
            .deserialize_any(TextVisitor(PhantomData))
            .map(Self)
    }
}

impl<T: Text> Value for T {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Taken::deserialize(deserializer).map(|taken| taken.0)
    }

    #[cfg(test)]
    fn words() -> String {
        T::EXPECTED.to_owned()
    }
}

impl Value for bool {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    #[cfg(test)]
    fn words() -> String {
        "`true` or `false`".to_owned()
    }
}

impl Value for NonZeroU64 {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    #[cfg(test)]
    fn words() -> String {
        "a whole number from 1".to_owned()
    }
}

impl Value for u64 {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    #[cfg(test)]
    fn words() -> String {
        "a whole number".to_owned()
    }
}

/// What is inside of a value that was checked.
macro_rules! unwraps {
    ($($checked:ident => $inner:ty),+ $(,)?) => {
        $(impl From<$checked> for $inner {
            fn from(checked: $checked) -> Self {
                checked.0
            }
        })+
    };
}

unwraps! {
    Retries => u32,
    Dollars => f64,
    Token => Secret,
    Stall => Option<Duration>,
    Containing => Option<Containment>,
    Size => u64,
    KeepFor => Option<Duration>,
    KeepSize => Option<u64>,
    QueueUrl => Secret,
    Address => SocketAddr,
    Whole => NonZeroU64,
    PingUrl => Secret,
    Repository => RepositoryName,
}

/// How often something is tried again.
#[derive(Clone, Copy)]
pub(crate) struct Retries(u32);

impl Value for Retries {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The pause doubles each time: the tenth is already hours long.
        const MOST: u64 = 10;
        let number = u64::deserialize(deserializer)?;
        u32::try_from(number)
            .ok()
            .filter(|_| number <= MOST)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("more than {MOST} retries make no sense")))
    }

    #[cfg(test)]
    fn words() -> String {
        "a whole number up to 10".to_owned()
    }
}

/// An amount of US dollars.
#[derive(Clone, Copy)]
pub(crate) struct Dollars(f64);

impl Value for Dollars {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = f64::deserialize(deserializer)?;
        if amount.is_finite() && amount >= 0.0 {
            return Ok(Self(amount));
        }
        Err(D::Error::custom("it is no amount of money"))
    }

    #[cfg(test)]
    fn words() -> String {
        "US dollars such as `2.50`".to_owned()
    }
}

impl<T: Text> Value for Vec<T> {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Vec::<Taken<T>>::deserialize(deserializer)?;
        Ok(elements.into_iter().map(|taken| taken.0).collect())
    }

    #[cfg(test)]
    fn words() -> String {
        format!("a list, each {}", T::EXPECTED)
    }
}

impl<K: Text + Ord, V: Text> Value for BTreeMap<K, V> {
    fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = BTreeMap::<Taken<K>, Taken<V>>::deserialize(deserializer)?;
        Ok(pairs
            .into_iter()
            .map(|(key, value)| (key.0, value.0))
            .collect())
    }

    #[cfg(test)]
    fn words() -> String {
        format!("a table from {} to {}", K::EXPECTED, V::EXPECTED)
    }
}

#[cfg(test)]
impl<T: Value> schemars::JsonSchema for Setting<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::words().into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "title": T::words() })
    }
}

fn not_blank(text: &str) -> Result<&str, String> {
    if text.trim().is_empty() {
        return Err("empty text says nothing".to_owned());
    }
    without_nul(text)
}

// No path, argument or variable can hold one; said here, it has a line.
fn without_nul(text: &str) -> Result<&str, String> {
    if text.contains('\0') {
        return Err("a NUL character cannot be passed on".to_owned());
    }
    Ok(text)
}

impl Text for String {
    const EXPECTED: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        not_blank(text).map(str::to_owned)
    }
}

impl Text for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn read(text: &str) -> Result<Self, String> {
        not_blank(text).map(Self::from)
    }
}

impl Text for Secret {
    const EXPECTED: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        without_nul(text).map(Self::new)
    }
}

/// A secret that is sent in a header. What a file puts around it, as a line feed, is no part of it.
#[derive(Clone)]
pub(crate) struct Token(Secret);

impl Text for Token {
    const EXPECTED: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        let token = not_blank(text)?.trim();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "a token has no blanks, line feeds, control or foreign characters inside";
            return Err(problem.to_owned());
        }
        Ok(Self(Secret::new(token)))
    }
}

impl Text for AgentName {
    const EXPECTED: &'static str = "an agent's name";

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: crate::model::ids::NameError| error.to_string())
    }
}

impl Text for TaskName {
    const EXPECTED: &'static str = "a task's name";

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: crate::model::ids::NameError| error.to_string())
    }
}

/// Longer ones are mistakes, and sums of them would overflow a clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

fn not_too_long(duration: Duration) -> Result<Duration, String> {
    if duration > LONGEST {
        return Err("more than a year is too long".to_owned());
    }
    Ok(duration)
}

impl Text for Duration {
    const EXPECTED: &'static str = "a duration such as `90s` or `15m`, or a number of seconds";
    const NUMBER: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        not_too_long(duration::parse(text).map_err(|error| error.to_string())?)
    }
}

/// A duration that is not zero, and what zero would do.
macro_rules! above_zero {
    ($(#[$doc:meta])* $name:ident, $zero:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(Duration);

        impl $name {
            pub(crate) fn new(duration: Duration) -> Result<Self, String> {
                if duration.is_zero() {
                    return Err(concat!("zero would ", $zero).to_owned());
                }
                not_too_long(duration).map(Self)
            }
        }

        impl From<$name> for Duration {
            fn from(duration: $name) -> Self {
                duration.0
            }
        }

        impl Text for $name {
            const EXPECTED: &'static str = Duration::EXPECTED;
            const NUMBER: bool = true;

            fn read(text: &str) -> Result<Self, String> {
                Self::new(Duration::read(text)?)
            }
        }
    };
}

above_zero! {
    /// The longest run.
    Limit, "end a run before it starts"
}
above_zero! {
    /// The longest time for a command.
    CommandLimit, "end a command before it starts"
}
above_zero! {
    /// The time between two looks.
    Interval, "look again and again without a pause"
}
above_zero! {
    /// How long a claim holds.
    Lease, "end a claim as it is made"
}
above_zero! {
    /// The longest time without a success.
    Expectation, "leave no time for a success"
}

/// A limit that can be switched off.
#[derive(Clone, Copy)]
pub(crate) struct Stall(Option<Duration>);

impl Text for Stall {
    const EXPECTED: &'static str = "a duration such as `5m`, a number of seconds, or `off`";
    const NUMBER: bool = true;
    const SWITCH: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let duration = Duration::read(text).map_err(|problem| format!("{problem}; or `off`"))?;
        if duration.is_zero() {
            return Err(
                "zero would end a run before it starts; `off` switches the limit off".to_owned(),
            );
        }
        Ok(Self(Some(duration)))
    }
}

/// A way of holding processes together, or the choice between them.
#[derive(Clone, Copy)]
pub(crate) struct Containing(Option<Containment>);

impl Text for Containing {
    const EXPECTED: &'static str = "`auto`, `namespace`, `cgroup`, `subreaper` or `group`";

    fn read(text: &str) -> Result<Self, String> {
        let known = [
            Containment::Namespace,
            Containment::Cgroup,
            Containment::Subreaper,
            Containment::Group,
        ]
        .map(|known| (known.as_str(), Some(known)));
        choose(text, &[&[("auto", None)], &known[..]].concat()).map(Self)
    }
}

/// A number of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Size(u64);

impl Text for Size {
    const EXPECTED: &'static str = "a size such as `64MiB`, or a number of bytes";
    const NUMBER: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        duration::parse_size(text).map(Self)
    }
}

/// The age up to which something is kept; `None` keeps it for ever.
#[derive(Clone, Copy)]
pub(crate) struct KeepFor(Option<Duration>);

impl Text for KeepFor {
    const EXPECTED: &'static str = "a duration such as `30d`, or `off`";
    const NUMBER: bool = true;
    const SWITCH: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let duration = duration::parse(text).map_err(|error| format!("{error}; or `off`"))?;
        Ok(Self(Some(duration)))
    }
}

/// The size up to which something is kept; `None` keeps it all.
#[derive(Clone, Copy)]
pub(crate) struct KeepSize(Option<u64>);

impl Text for KeepSize {
    const EXPECTED: &'static str = "a size such as `5GiB`, a number of bytes, or `off`";
    const NUMBER: bool = true;
    const SWITCH: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let bytes = duration::parse_size(text).map_err(|problem| format!("{problem}; or `off`"))?;
        Ok(Self(Some(bytes)))
    }
}

/// One of a few words.
pub(crate) fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let words = || choices.iter().map(|(word, _)| *word);
    choices
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| format!("`{text}` is unknown; {}", text::suggest(text, words())))
}

impl Text for StopSignal {
    const EXPECTED: &'static str = "`SIGTERM`, `SIGINT` or `SIGHUP`";

    fn read(text: &str) -> Result<Self, String> {
        let choices = [
            ("SIGTERM", Self::Terminate),
            ("SIGINT", Self::Interrupt),
            ("SIGHUP", Self::Hangup),
        ];
        choose(text, &choices)
    }
}

impl Text for Overlap {
    const EXPECTED: &'static str = "`skip` or `wait`";

    fn read(text: &str) -> Result<Self, String> {
        choose(text, &[("skip", Self::Skip), ("wait", Self::Wait)])
    }
}

impl Text for Isolation {
    const EXPECTED: &'static str = "`none` or `worktree`";

    fn read(text: &str) -> Result<Self, String> {
        choose(text, &[("none", Self::None), ("worktree", Self::Worktree)])
    }
}

impl Text for CatchUp {
    const EXPECTED: &'static str = "`skip` or `once`";

    fn read(text: &str) -> Result<Self, String> {
        choose(text, &[("skip", Self::Skip), ("once", Self::Once)])
    }
}

impl Text for PromptDelivery {
    const EXPECTED: &'static str = "`stdin`, `argument` or `file`";

    fn read(text: &str) -> Result<Self, String> {
        let choices = [
            ("stdin", Self::Stdin),
            ("argument", Self::Argument),
            ("file", Self::File),
        ];
        choose(text, &choices)
    }
}

impl Text for OllamaMode {
    const EXPECTED: &'static str = "`launch` or `chat`";

    fn read(text: &str) -> Result<Self, String> {
        choose(text, &[("launch", Self::Launch), ("chat", Self::Chat)])
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
        pub(crate) struct $name(pub(crate) String);

        impl Text for $name {
            const EXPECTED: &'static str = $expected;

            fn read(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(without_nul(text)?)?;
                Ok(Self(text.to_owned()))
            }
        }

        unwraps! { $name => String }
    };
}

checked_text! {
    /// An argument of a program; it may be empty.
    Argument, "text", |_text| Ok(())
}
checked_text! {
    /// The name of an environment variable.
    VariableName, "a variable's name", |text| {
        if text.is_empty() || text.contains('=') {
            return Err(format!("`{text}` is no name of a variable"));
        }
        Ok(())
    }
}
checked_text! {
    /// A file below the prompts directory.
    PromptFile, "a path below the prompts directory", |text| {
        not_blank(text)?;
        below(text, "the prompts directory")
    }
}
checked_text! {
    /// A pattern for paths in the repository.
    Glob, "a glob such as `docs/**`", |text| {
        not_blank(text)?;
        glob::Pattern::new(text).map_err(|error| format!("`{text}` is no glob: {}", error.msg))?;
        if text.starts_with("./") || text.ends_with('/') {
            return Err(format!("`{text}` matches no file; write `docs/**` for all below `docs`"));
        }
        below(text, "the repository")
    }
}
checked_text! {
    /// An ntfy server.
    Server, "a URL such as `https://ntfy.sh`", |text| {
        let shown = text::without_secrets(text);
        let refused = |reason: &str| Err(format!("`{shown}` is no URL{reason}: write `https://HOST`"));
        // By the parser that publishing uses: what it does not take never arrives.
        match reqwest012::Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => refused(""),
            Ok(_) if text.contains(char::is_whitespace) => refused(""),
            Ok(_) => Ok(()),
            Err(error) if text.starts_with("http") => refused(&format!(" ({error})")),
            Err(_) => refused(""),
        }
    }
}
checked_text! {
    /// An ntfy topic. The characters are the server's own rule.
    Topic, "a topic of letters, digits, `_` and `-`", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(format!(
                "`{text}` is no topic: 1 to 64 letters, digits, `_` and `-` make one"
            ));
        }
        Ok(())
    }
}
checked_text! {
    /// A time zone of the IANA database.
    Zone, "a time zone such as `Europe/Berlin`", |text| {
        text.parse::<chrono_tz::Tz>().map(|_zone| ()).map_err(|_source| {
            let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let near = text::nearest(text, names).unwrap_or("Europe/Berlin");
            format!("`{text}` is no time zone; did you mean `{near}`?")
        })
    }
}
checked_text! {
    /// The name under which the worker speaks: it stands in comments and commits.
    AgentLabel, "a name of letters, digits, space, `_`, `-` and `.`", |text| {
        let allowed = |c: char| c.is_alphanumeric() || " _-.".contains(c);
        if text.trim() != text || text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(format!("`{text}` is no name of at most 64 letters, digits, ` _-.`"));
        }
        Ok(())
    }
}
checked_text! {
    /// Repositories that may be changed.
    Target, "a repository such as `owner/name`, or `owner/*`", |text| {
        let repository = match text.strip_suffix("/*") {
            Some(owner) => format!("{owner}/any"),
            None => text.to_owned(),
        };
        let parsed: Result<RepositoryName, _> = repository.parse();
        parsed.map(drop).map_err(|_source| format!("`{text}` is neither `owner/name` nor `owner/*`"))
    }
}
checked_text! {
    /// What a result may contain although it is refused otherwise.
    Allowance, "one of `workflows`, `agent_config`, `attributes`, `submodules`, `symlinks`", |text| {
        let known = ["workflows", "agent_config", "attributes", "submodules", "symlinks"];
        if known.contains(&text) {
            return Ok(());
        }
        Err(format!("`{text}` is nothing that can be allowed; {}", text::suggest(text, known.into_iter())))
    }
}

/// Where claims are kept. It may hold a password.
#[derive(Clone)]
pub(crate) struct QueueUrl(Secret);

impl Text for QueueUrl {
    const EXPECTED: &'static str = "`postgres://USER:PASSWORD@HOST/NAME` or `sqlite:PATH`";

    fn read(text: &str) -> Result<Self, String> {
        let known = ["postgres://", "postgresql://", "sqlite:"];
        if known
            .iter()
            .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
        {
            return Secret::read(text).map(Self);
        }
        Err(format!("it must be {}", Self::EXPECTED))
    }
}

/// Where metrics are served.
#[derive(Clone, Copy)]
pub(crate) struct Address(SocketAddr);

impl Text for Address {
    const EXPECTED: &'static str = "an address with a port such as `127.0.0.1:9464`";

    fn read(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("it must be {}", Self::EXPECTED);
        text.parse().map(Self).map_err(wrong)
    }
}

/// A whole number from 1, as a variable has it.
#[derive(Clone, Copy)]
pub(crate) struct Whole(NonZeroU64);

impl Text for Whole {
    const EXPECTED: &'static str = "a whole number from 1";

    fn read(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("it must be {}", Self::EXPECTED);
        text.trim().parse().map(Self).map_err(wrong)
    }
}

/// A URL that is a secret, since whoever knows it can use it.
#[derive(Clone)]
pub(crate) struct PingUrl(Secret);

impl Text for PingUrl {
    const EXPECTED: &'static str = "a URL such as `https://hc-ping.com/UUID`";

    fn read(text: &str) -> Result<Self, String> {
        let plain = Server::read(text).is_ok() && !text.contains(['?', '#']);
        if plain {
            return Secret::read(text).map(Self);
        }
        Err(format!(
            "it must be {}, without `?` and `#`",
            Self::EXPECTED
        ))
    }
}

/// A repository on GitHub.
#[derive(Clone)]
pub(crate) struct Repository(RepositoryName);

impl Text for Repository {
    const EXPECTED: &'static str = "a repository such as `owner/name`";

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error: RepositoryNameError| error.to_string())
    }
}

checked_text! {
    /// A cron expression.
    Schedule, "a cron expression such as `30 6 * * 1-5` or `@daily`", |text| {
        if Expression::parse(text)?.has_a_day() {
            return Ok(());
        }
        Err(format!("`{text}` is never due: no month of it has such a day"))
    }
}

fn below(text: &str, place: &str) -> Result<(), String> {
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if Path::new(text).components().all(plain) {
        return Ok(());
    }
    Err(format!(
        "`{text}` leads out of {place}; write it relative to that, without `..`"
    ))
}
