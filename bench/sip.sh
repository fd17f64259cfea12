#!/usr/bin/env bash
# sip.sh [--rounds N] [--tests NAME,...] [--raw FILE]: this node and a tuned Kamailio, measured in turn on this machine.
# sip.sh --publish [--phones N]: what an overlay of eight nodes spends on who is registered at one of them.
#
# Installs and builds what it needs (Debian, Ubuntu). Prints last one line for each test, `NAME RATIO`: the median of ours to
# Kamailio's. Fails when a test misses its number. `--help` lists the tests. What is measured, and how: docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/.."

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
PATH="$PATH:/usr/sbin"
missing=()
for tool in kamailio:kamailio python3:python3 taskset:util-linux gcc:gcc; do
    command -v "${tool%%:*}" > /dev/null || missing+=("${tool##*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
    echo "Installing ${missing[*]}." >&2
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
    # Its package starts one on the usual ports; the measurements start their own.
    case " ${missing[*]} " in *" kamailio "*) "${sudo[@]}" systemctl disable --now --quiet kamailio 2> /dev/null || true ;; esac
fi
# Both servers and the generator ask for large socket buffers; where the kernel grants less, bursts are lost for all of them.
"${sudo[@]}" sysctl -q -w net.core.rmem_max=67108864 net.core.wmem_max=67108864 || true

cargo build --release --locked --quiet --package meshtone
cargo build --release --locked --quiet --manifest-path bench/Cargo.toml
target=${CARGO_TARGET_DIR:-target}
load=${CARGO_TARGET_DIR:-bench/target}
mkdir -p bench/run
gcc -O2 -o bench/run/floor bench/floor/floor.c
script=bench/sip.py
if [ "${1:-}" = --publish ]; then
    script=bench/publish.py
    shift
fi
exec python3 "$script" --node "$target/release/meshtone" --load "$load/release/sipload" "$@"
