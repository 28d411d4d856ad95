//! What a run asks the worker that started it, before its record is final: whether what it left is
//! refused. So a result that may not be published has one record and one notification.
//!
//! The run's standard input is a socket:
//!
//! ```text
//! ?                                               the run asks
//! {"refused":"not published: `CLAUDE.md` …"}      the worker answers; without an objection {}
//! ```
//!
//! The worker trusts nothing that comes of it: it publishes what it has judged itself, whatever a
//! run says of its end.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The longest wait for an answer: the largest repository that is judged takes minutes.
const PATIENCE: Duration = Duration::from_hours(1);

#[derive(Default, Deserialize, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Asks the worker at the other end of standard input why it refuses what the run left; `None` when
/// it does not, or cannot be asked. Call it within a runtime.
pub fn ask() -> Pin<Box<dyn Future<Output = Option<String>>>> {
    Box::pin(async {
        let asked = async { hear(io::stdin().as_fd().try_clone_to_owned()?.into()).await };
        let heard = timeout(PATIENCE, asked).await;
        match heard.unwrap_or_else(|late| Err(late.into())) {
            Ok(refused) => refused,
            Err(error) => {
                tracing::warn!(%error, "the worker does not say whether it takes the result");
                None
            }
        }
    })
}

async fn hear(stream: StdStream) -> io::Result<Option<String>> {
    let mut stream = connected(stream)?;
    stream.write_all(b"?").await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    let answer: Answer = serde_json::from_str(&line)?;
    Ok(answer.refused)
}

/// The worker's end of a run's standard input, and the run's.
pub(super) fn pair() -> io::Result<(UnixStream, StdStream)> {
    let (ours, theirs) = StdStream::pair()?;
    Ok((connected(ours)?, theirs))
}

/// Answers what a run asks; for ever, also when it asks nothing more.
pub(super) async fn answer(
    mut stream: UnixStream,
    objection: impl AsyncFn() -> Option<String>,
) -> ! {
    let mut question = [0];
    while let Ok(1) = stream.read(&mut question).await {
        let refused = objection().await;
        let mut line = serde_json::to_vec(&Answer { refused }).expect("a text is JSON");
        line.push(b'\n');
        if let Err(error) = stream.write_all(&line).await {
            tracing::debug!(%error, "a run does not hear what became of its result");
        }
    }
    std::future::pending().await
}

fn connected(stream: StdStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_run_hears_why_its_result_is_refused_each_time_it_asks() {
        let (ours, theirs) = pair().unwrap();
        let number = Cell::new(0);
        let answering = answer(ours, async || {
            number.set(number.get() + 1);
            (number.get() == 1).then(|| "a\nb".to_owned())
        });
        let asking = async {
            let theirs = || theirs.try_clone().unwrap();
            assert_eq!(hear(theirs()).await.unwrap(), Some("a\nb".to_owned()));
            assert_eq!(hear(theirs()).await.unwrap(), None);
        };
        tokio::select! {
            never = answering => never,
            () = asking => {}
        }
        assert_eq!(number.get(), 2);
        // The worker is gone.
        hear(theirs).await.unwrap_err();
    }
}
