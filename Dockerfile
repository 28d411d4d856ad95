# agent-runner with git, for `dispatch` and for runs. Agents are added by name:
#
#   docker build -t agent-runner .
#   docker build -t agent-runner --build-arg AGENTS="@anthropic-ai/claude-code@2.1.197" .

# The Rust that Cargo.toml asks for, and the Debian that the program will run on.
ARG RUST=1.95
ARG NODE=22

FROM rust:${RUST}-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# What `--version` says, such as "0.1.0 (COMMIT)".
ARG AGENT_RUNNER_VERSION_TEXT
RUN cargo build --locked --release --bin agent-runner

FROM node:${NODE}-bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap ca-certificates git tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 --shell /usr/sbin/nologin agent-runner \
    && install -d -o agent-runner -g agent-runner /data
# npm packages with their versions, such as "@openai/codex@0.169.0"; without any, `patch` and agents
# that you mount work.
ARG AGENTS=""
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3016
RUN if [ -n "$AGENTS" ]; then read -r -a agents <<<"$AGENTS" && npm install --global "${agents[@]}" && npm cache clean --force; fi
COPY --from=build /source/target/release/agent-runner /usr/local/bin/agent-runner

USER 10001:10001
WORKDIR /data
ENV AGENT_RUNNER_LOG_ROOT=/data/logs \
    AGENT_RUNNER_REPO_ROOT=/data/repository \
    AGENT_RUNNER_METRICS=127.0.0.1:9464
VOLUME ["/data"]
# The program asks itself; the image needs no curl.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["agent-runner", "dispatch", "--health"]
# An agent's children need a parent that takes them in; the program is asked to end by SIGTERM.
ENTRYPOINT ["/usr/bin/tini", "--", "agent-runner"]
CMD ["dispatch"]
