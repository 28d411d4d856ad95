//! What those who share a queue tell each other besides work: which agents are parked, and what
//! each has used up on a day.
//!
//! Times are by the clocks of those who tell them: they are compared with nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::model::caps::Spent;
use crate::model::parking::Parking;
use crate::queue::{Queue, QueueError, milliseconds, storable};

/// What is told of an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentNews {
    /// Its longest parking, which may be over.
    pub parking: Parking,
    /// When a person last ended a parking of it.
    pub unparked: DateTime<Utc>,
}

impl Queue {
    /// Tells that an agent is parked. A parking that ends later, or that a person has ended since
    /// it began, stays as it is.
    pub async fn park(&self, agent: &str, parking: &Parking) -> Result<(), QueueError> {
        let statement =
            "INSERT INTO agent_runner_parked (agent, since, until, run, reason, unparked_at)
             VALUES ($1, $2, $3, $4, $5, 0)
             ON CONFLICT (agent) DO UPDATE SET since = excluded.since, until = excluded.until,
                 run = excluded.run, reason = excluded.reason
             WHERE excluded.until > agent_runner_parked.until
                 AND excluded.since > agent_runner_parked.unparked_at";
        let query = sqlx::query(statement)
            .bind(agent)
            .bind(parking.since.timestamp_millis())
            .bind(parking.until.timestamp_millis())
            .bind(storable(&parking.run))
            .bind(storable(&parking.reason));
        self.changes("tell a parking", query).await.map(drop)
    }

    /// Tells that a person has ended the parking of an agent.
    pub async fn unpark(&self, agent: &str, now: DateTime<Utc>) -> Result<(), QueueError> {
        let statement =
            "INSERT INTO agent_runner_parked (agent, since, until, run, reason, unparked_at)
             VALUES ($1, 0, 0, '', '', $2)
             ON CONFLICT (agent) DO UPDATE SET until = 0, unparked_at = excluded.unparked_at";
        let query = sqlx::query(statement)
            .bind(agent)
            .bind(now.timestamp_millis());
        self.changes("end a parking", query).await.map(drop)
    }

    /// What is told of agents, by their names.
    pub async fn agent_news(&self) -> Result<BTreeMap<String, AgentNews>, QueueError> {
        let action = "read the parked agents";
        let query = sqlx::query(
            "SELECT agent, since, until, run, reason, unparked_at FROM agent_runner_parked",
        );
        let news = |row: &AnyRow| {
            let parking = Parking {
                since: time(row, "since")?,
                until: time(row, "until")?,
                run: row.try_get("run")?,
                reason: row.try_get("reason")?,
            };
            let unparked = time(row, "unparked_at")?;
            Ok((row.try_get("agent")?, AgentNews { parking, unparked }))
        };
        let rows = self.rows(action, query).await?;
        let news: Result<_, sqlx::Error> = rows.iter().map(news).collect();
        news.map_err(|source| self.error(action, source))
    }

    /// Tells what agents and tasks have used up on a day at a place, a log root somewhere, and forgets
    /// what was told a week ago.
    pub async fn tell_spent(
        &self,
        place: &str,
        day: &str,
        news: &[(String, Spent)],
    ) -> Result<(), QueueError> {
        let forget = self.statement("DELETE FROM agent_runner_spent WHERE told_at < {now} - $1");
        let statement = self.statement(
            "INSERT INTO agent_runner_spent
                 (place, day, subject, runs, tokens, usd, unknown_tokens, unknown_usd, told_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, {now})
             ON CONFLICT (place, day, subject) DO UPDATE SET runs = excluded.runs,
                 tokens = excluded.tokens, usd = excluded.usd,
                 unknown_tokens = excluded.unknown_tokens, unknown_usd = excluded.unknown_usd,
                 told_at = excluded.told_at",
        );
        let tell = async {
            let mut transaction = self.pool.begin_with(self.dialect.begin()).await?;
            sqlx::query(AssertSqlSafe(forget))
                .bind(milliseconds(Duration::from_secs(7 * 24 * 3600)))
                .execute(&mut *transaction)
                .await?;
            for (subject, spent) in news {
                sqlx::query(AssertSqlSafe(statement.clone()))
                    .bind(place)
                    .bind(day)
                    .bind(subject.as_str())
                    .bind(signed(spent.runs))
                    .bind(signed(spent.tokens))
                    .bind(spent.usd)
                    .bind(signed(spent.unknown_tokens))
                    .bind(signed(spent.unknown_usd))
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        };
        self.limited("tell what is used up", tell).await
    }

    /// What all other places have used up on a day, together, by agent or task.
    pub async fn spent_elsewhere(
        &self,
        place: &str,
        day: &str,
    ) -> Result<Vec<(String, Spent)>, QueueError> {
        let action = "read what is used up elsewhere";
        let statement = "SELECT subject, CAST(sum(runs) AS BIGINT) AS runs,
                 CAST(sum(tokens) AS BIGINT) AS tokens, sum(usd) AS usd,
                 CAST(sum(unknown_tokens) AS BIGINT) AS unknown_tokens,
                 CAST(sum(unknown_usd) AS BIGINT) AS unknown_usd
             FROM agent_runner_spent WHERE place <> $1 AND day = $2 GROUP BY subject";
        let query = sqlx::query(statement).bind(place).bind(day);
        let news = |row: &AnyRow| {
            let number = |column| -> Result<u64, sqlx::Error> {
                let number: i64 = row.try_get(column)?;
                Ok(u64::try_from(number).unwrap_or_default())
            };
            let spent = Spent {
                runs: number("runs")?,
                tokens: number("tokens")?,
                usd: row.try_get("usd")?,
                unknown_tokens: number("unknown_tokens")?,
                unknown_usd: number("unknown_usd")?,
            };
            Ok((row.try_get("subject")?, spent))
        };
        let rows = self.rows(action, query).await?;
        let news: Result<_, sqlx::Error> = rows.iter().map(news).collect();
        news.map_err(|source| self.error(action, source))
    }
}

fn time(row: &AnyRow, column: &str) -> Result<DateTime<Utc>, sqlx::Error> {
    let milliseconds: i64 = row.try_get(column)?;
    Ok(DateTime::from_timestamp_millis(milliseconds).unwrap_or_default())
}

/// A database's numbers are signed; a sum of many must fit, too.
fn signed(number: u64) -> i64 {
    const MOST: i64 = 1 << 53;
    i64::try_from(number).map_or(MOST, |number| number.min(MOST))
}
