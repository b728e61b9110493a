#!/usr/bin/env bash
# The main job from nothing: what is missing is installed, ringkv is built, an embedded Consul agent and four nodes
# start, the producer shards records over them, a node is added, one is removed, the mode is changed, each under a
# check, and a running cluster is left to play with until Ctrl-C. With --once it ends there.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh build
cargo build --release --quiet --bin server_consumer --bin client_producer
bin=${CARGO_TARGET_DIR:-target}/release
# A folder of its own, so that every demo begins with an empty cluster, and ringkv-data is left alone.
data=$(mktemp -d)
log=$data/server.log
server=

finish() {
  trap - EXIT INT TERM
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
    kill -TERM "$server"
    wait "$server" || true
  fi
  rm -rf "$data"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

show() { echo; echo "\$ client_producer $*"; "$bin/client_producer" "$@"; }

echo "\$ server_consumer --dev 4"
"$bin/server_consumer" --dev 4 --data-dir "$data/nodes" >"$data/ready" 2>"$log" &
server=$!
until grep -q '^ready: ' "$data/ready"; do
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; echo "server_consumer ended before it was ready" >&2; exit 1; }
  sleep 0.1
done
cat "$data/ready"

show --mode consistent
show add-node node-4
show remove-node node-0
show --mode consistent
show status

if [ "${1:-}" = --once ]; then
  echo "done"
  exit 0
fi
cat <<TEXT

The cluster goes on running; what its nodes say is in $log. In another terminal:
  target/release/client_producer put hello world
  target/release/client_producer explain hello
  target/release/client_producer migrate --mode hrw
  target/release/client_producer shell
Ctrl-C here ends it.
TEXT
wait "$server"
