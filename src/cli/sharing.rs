//! The exchange of news with those who share the configured queue.

use std::cell::Cell;
use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::wiring::{self, SystemClock};
use crate::config::settings::Settings;
use crate::model::clock::Clock as _;
use crate::model::ids::AgentName;
use crate::model::text;
use crate::planner::RunPlan;
use crate::queue::{Queue, QueueUrl};
use crate::sharing::{self, SharingError};
use crate::store::layout::Layout;

/// A queue that takes longer is warned of, and what is known here is gone by.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those who share a queue that the configuration names; without one there is nobody.
#[derive(Debug)]
pub(crate) struct Sharing {
    url: QueueUrl,
    layout: Layout,
    agents: Vec<AgentName>,
    /// It did not answer; it is not waited for once more.
    is_away: Cell<bool>,
}

impl Sharing {
    pub(crate) fn new(settings: &Settings) -> Result<Option<Self>, CliError> {
        if settings.queue.url.is_none() {
            return Ok(None);
        }
        let layout = wiring::layout(settings);
        Ok(Some(Self {
            url: wiring::queue_url(settings, &layout)?,
            agents: settings.agents.keys().cloned().collect(),
            layout,
            is_away: Cell::new(false),
        }))
    }

    /// Hears and tells of parked agents, and of what the caps of plans leave today. Nothing fails
    /// because of it; `ui` tells what does, beside the log.
    pub(crate) async fn exchange(&self, ui: Option<&Ui>, plans: &[RunPlan]) {
        if self.is_away.get() {
            return;
        }
        if let Err(error) = in_time(self.news(plans)).await {
            self.is_away.set(true);
            let problem = text::chain(&error);
            tracing::warn!(problem, "no news of the queue");
            if let Some(ui) = ui {
                ui.talk(&format!(
                    "warning: other machines are not heard of, what is known here counts: {problem}"
                ));
            }
        }
    }

    async fn news(&self, plans: &[RunPlan]) -> Result<(), SharingError> {
        let queue = Queue::open(&self.url).await?;
        let now = SystemClock.now();
        let news = async {
            sharing::parkings(&queue, &self.layout, &self.agents, now).await?;
            sharing::spent(&queue, &self.layout, plans, now).await
        };
        let news = news.await;
        queue.close().await;
        news
    }

    /// Ends the parking of an agent everywhere.
    pub(crate) async fn unpark(&self, agent: &AgentName) -> Result<(), SharingError> {
        in_time(async {
            let queue = Queue::open(&self.url).await?;
            let ended = queue.unpark(agent.as_str(), SystemClock.now()).await;
            queue.close().await;
            Ok(ended?)
        })
        .await
    }
}

async fn in_time(news: impl Future<Output = Result<(), SharingError>>) -> Result<(), SharingError> {
    let answer = tokio::time::timeout(PATIENCE, news).await;
    answer.unwrap_or(Err(SharingError::Silence(PATIENCE)))
}
