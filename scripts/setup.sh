#!/usr/bin/env bash
# Installs what a fresh Debian 12 with git and a Rust toolchain lacks for building and testing ringkv, and says what.
# Usage: scripts/setup.sh [build|test]   (build: what a build needs; test: that, and what the tests need)
set -euo pipefail

what=${1:-build}
case $what in build | test) ;; *) echo "usage: scripts/setup.sh [build|test]" >&2; exit 2 ;; esac

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install a Rust toolchain of at least $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml" | head -n 1), see https://rustup.rs" >&2
  exit 1
fi

missing=()
need() { # a package, and the test that shows it is there
  local package=$1; shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
has_header() { echo "#include <$1>" | cc -E -x c - ; }

need gcc command -v cc
need libc6-dev has_header stdio.h
need libzmq3-dev has_header zmq.h
if [ "$what" = test ]; then
  need python3 command -v python3
  need python3-venv python3 -c 'import venv, ensurepip'
  need procps command -v ps
  need curl command -v curl
  need iproute2 command -v ip
fi
# A test loads the records of all packages; without lists, as in a fresh container, apt knows only the installed ones.
lists=there
if [ "$what" = test ] && command -v apt-cache >/dev/null && [ "$(apt-cache pkgnames | wc -l)" -lt 10000 ]; then
  lists=missing
fi
[ ${#missing[@]} -eq 0 ] && [ "$lists" = there ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "these are missing, and there is no apt-get to install them with: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "as root, please: apt-get update && apt-get install ${missing[*]}" >&2
    [ ${#missing[@]} -eq 0 ] && exit 0
    exit 1
  fi
  as_root=(sudo)
fi
echo "updating Debian's package lists" >&2
# Where this fails, what matters fails below, or the one test says so.
"${as_root[@]}" apt-get update -qq || true
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing from Debian: ${missing[*]}" >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
