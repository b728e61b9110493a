#!/usr/bin/env bash
# Runs every test: format, lints, documentation, unit, property, contract and end-to-end tests, and seeds of the simulator.
# With a real Consul (CONSUL_BIN, or consul on PATH) the tests run against it too; without one they say what they skip.
# RINGKV_REQUIRE_CONSUL=1 makes its absence a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh test
if [ -z "${CONSUL_BIN:-}" ] && ! command -v consul >/dev/null; then
  [ "${RINGKV_REQUIRE_CONSUL:-}" = 1 ] && { echo "no Consul: set CONSUL_BIN" >&2; exit 1; }
  echo "no real Consul here (CONSUL_BIN or consul on PATH): its tests are skipped, each says so by name" >&2
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
step() { echo "== $*" >&2; "$@"; }

step cargo fmt --all --check
step cargo clippy --workspace --all-targets -- -D warnings
# A build of its own: together with the others the feature would reach the nodes.
step cargo clippy -p ringkv-sim --features bugs --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --workspace --no-deps --quiet
failed=0
step cargo test --workspace --no-fail-fast 2>&1 | tee "$log" || failed=1
step cargo test -p ringkv-sim --features bugs --test bugs 2>&1 | tee -a "$log" || failed=1

# One line at the end: the sum of what cargo's runners counted.
awk '/^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) == "passed;") p += $i; if ($(i+1) == "failed;") f += $i; if ($(i+1) == "ignored;") s += $i } }
     END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0 || p == 0) }' "$log" || failed=1
exit "$failed"
