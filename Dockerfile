# One image with every program of Watchfold; the command says which one runs.
#
#   docker build -t watchfold .

FROM node:22-bookworm-slim AS node

FROM rust:1.95-slim-bookworm AS build
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN apt-get update && apt-get install -y --no-install-recommends libpcap-dev && rm -rf /var/lib/apt/lists/*
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /build
COPY . .
RUN cargo build --release --locked --workspace --bins \
    && mkdir /programs \
    && find target/release -maxdepth 1 -type f -executable -name 'watchfold*' -exec cp {} /programs/ \;

# The broker of compose.yaml: with a directory for its streams that its user may write.
FROM nats:2.12-alpine AS nats
RUN install -d -o 10001 -g 10001 /var/lib/nats
USER 10001

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpcap0.8 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/watchfold --create-home watchfold
COPY --from=build /programs/ /usr/local/bin/
USER 10001
WORKDIR /var/lib/watchfold
VOLUME /var/lib/watchfold
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["watchfold", "up", "--config", "/etc/watchfold/watchfold.toml", "--data", "/var/lib/watchfold"]
