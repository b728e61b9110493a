#!/usr/bin/env bash
# A cluster whose nodes are known by a name that has an IPv6 address and no other. The name stands in a hosts file that
# only this script sees. Needs the programs under test on PATH, and to be root in a network namespace of its own.
set -euo pipefail

if [ "${1:-}" != inside ]; then
  exec unshare --mount bash "$0" inside
fi
folder=$(mktemp -d)
cd "$folder"
launcher=
finish() {
  code=$?
  trap - EXIT
  if [ -n "$launcher" ] && kill -TERM "$launcher" 2>/dev/null; then wait "$launcher" || code=1; fi
  [ "$code" = 0 ] || cat "$folder/err" >&2
  cd /
  rm -rf "$folder"
  exit "$code"
}
trap finish EXIT

ip link set lo up
{ cat /etc/hosts; echo "::1 six"; } >hosts
mount --bind hosts /etc/hosts

server_consumer --dev 2 --bind ::1 --advertise six >out 2>err &
launcher=$!
for _ in $(seq 600); do
  grep -q '^ready: 2 of 2 nodes' out && break
  kill -0 "$launcher"
  sleep 0.1
done
client_producer --mode hrw --count 200
client_producer add-node
client_producer --node six:2002 get key-7 >/dev/null
client_producer --count 200
grep '^ready: 3 of 3 nodes' out
