//! `notify`: a message of one's own to the configured topic.

use crate::cli::args::{NotifyArguments, PriorityName};
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::model::clock::Clock as _;
use crate::model::message::{Message, Priority};
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::text;
use crate::notify::Notifier as _;
use crate::notify::wording::MAX_BODY_BYTES;
use crate::redact::Redactor;

/// Publishes a message; exits 1 when the server did not take it.
pub(crate) fn notify(world: &World, arguments: &NotifyArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let notifier = wiring::notifier(&settings).ok_or_else(|| {
        CliError::usage("no ntfy topic is configured")
            .hint("set AGENT_RUNNER_NTFY_TOPIC, or `topic` in the table [ntfy] of config.toml")
    })?;
    let is_blank =
        |given: &Option<String>| given.as_ref().is_some_and(|given| given.trim().is_empty());
    if is_blank(&arguments.title) && is_blank(&arguments.body) {
        return Err(CliError::usage("a notification needs a title or a body")
            .hint("leave out --title and --body for a test notification"));
    }
    let now = SystemClock.now().to_rfc3339();
    let secrets = wiring::secrets(world, &settings);
    let redactor = Redactor::new(secrets.iter().map(String::as_str));
    let given = |given: &Option<String>| given.as_ref().map(|given| redactor.text(given));
    let body = given(&arguments.body).unwrap_or_else(|| format!("notify-test at {now}"));
    let message = Message {
        title: given(&arguments.title).unwrap_or_else(|| "[notify-test]".to_owned()),
        body: text::cut_middle(&body, MAX_BODY_BYTES),
        priority: priority(arguments.priority),
        tags: arguments.tags.clone(),
    };
    let server = text::without_secrets(&settings.ntfy.server.value);
    wiring::block_on(notifier.publish(&message))?
        .map_err(|error| CliError::failure(format!("not published to {server}")).because(error))?;
    world.ui.talk(&format!("published to {server}"));
    Ok(EXIT_SUCCESS)
}

fn priority(name: PriorityName) -> Priority {
    match name {
        PriorityName::Min => Priority::Min,
        PriorityName::Low => Priority::Low,
        PriorityName::Default => Priority::Default,
        PriorityName::High => Priority::High,
        PriorityName::Urgent => Priority::Max,
    }
}
