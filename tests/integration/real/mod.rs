//! The program against real components: the agents' own CLIs with a local model server, a real
//! ntfy server, a real cron. `tests/install` installs them, `tests/real/README.md` describes them.
//!
//! Names of these tests contain `real_`: nextest runs those of the heavy CLIs one at a time.

mod agents;
pub mod components;
mod cron;
pub mod http;
mod model_server;
mod ntfy;
pub mod ntfy_server;
mod ollama_chat;
mod readers;
