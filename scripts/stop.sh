#!/usr/bin/env bash
# Ends every launcher of this checkout's server_consumer by SIGTERM, and waits for it; launchers end their nodes.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
found=0
for proc in /proc/[0-9]*; do
  exe=$(readlink "$proc/exe" 2>/dev/null) || continue
  case $exe in "$here"/*/server_consumer | "${CARGO_TARGET_DIR:-$here/target}"/*/server_consumer) ;; *) continue ;; esac
  # Nodes and agents have a word of their own as first argument; launchers end those.
  first=$(tr '\0' '\n' <"$proc/cmdline" 2>/dev/null | sed -n 2p)
  case $first in node | agent) continue ;; esac
  pid=${proc#/proc/}
  echo "ending server_consumer, pid $pid"
  kill -TERM "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  found=1
done
[ "$found" = 1 ] || echo "no server_consumer of this checkout runs"
