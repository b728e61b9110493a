#!/usr/bin/env bash
# The five steps of the original, to the letter, with a real `consul agent -dev` and the stock command, on the
# default ports. Runs in a network namespace of its own, so those ports are free whatever else runs.
# Needs CONSUL_BIN and the programs under test on PATH.
set -euo pipefail
here=$(mktemp -d)
cd "$here"
mkdir bin
ln -s "$CONSUL_BIN" bin/consul
PATH=$PWD/bin:$PATH
ip link set lo up

fail() { echo "does not hold: $*" >&2; exit 1; }
# Awaits a condition, at most 60 seconds.
await() {
  local what=$1 end=$((SECONDS + 60)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "$what within 60 s"
    sleep 0.1
  done
}

start() { # the first three steps, and the fourth: wait
  consul agent -dev -log-level=warn >consul.log 2>&1 &
  consul=$!
  await "Consul has a leader" consul kv get -keys
  consul kv put cluster_size 4
  server_consumer >ready.log 2>server.log &
  server=$!
  await "ready: 4 of 4 nodes" grep -q '^ready: 4 of 4 nodes' ready.log
}

stop() { # SIGTERM: every node deregisters, the launcher ends with 0
  kill -TERM "$server"
  wait "$server" || fail "server_consumer ended with $?"
  consul catalog services | grep -q ringkv && fail "the nodes are still registered"
  kill -TERM "$consul"
  wait "$consul" || true
}
answered() { # awaits a signal's result, which must be that it was done
  await "an answer to the signal for $1" consul kv get "ringkv/results/$1"
  consul kv get "ringkv/results/$1" | grep -q '"outcome":"done"' || fail "$1: $(consul kv get "ringkv/results/$1")"
}
trap 'kill $(jobs -p) 2>/dev/null || true; [ "${ok:-}" = 1 ] || tail -n 40 server.log >&2; rm -rf "$here"' EXIT

start
client_producer --mode consistent
client_producer put greeting hello
[ "$(client_producer get greeting)" = hello ] || fail "put and get"
client_producer --mode hrw && fail "a chosen ring changed its mode without migrate"
client_producer migrate --mode hrw
[ "$(client_producer get greeting)" = hello ] || fail "a key after the migration"
client_producer --mode hrw
consul kv put ringkv/signals/node-4 add
answered node-4
[ "$(client_producer get greeting)" = hello ] || fail "a key after the add"
consul kv put ringkv/signals/node-0 remove
answered node-0
consul kv put ringkv/signals/node-100 add
await "node-100 is refused" consul kv get ringkv/results/node-100
consul kv get ringkv/results/node-100 | grep -q -- '--port' || fail "node-100 was not told of --port"
[ "$(client_producer get greeting)" = hello ] || fail "a key after the remove"
stop

rm -rf ringkv-data
start
client_producer --mode hrw
stop
ok=1
echo "the five steps hold"
