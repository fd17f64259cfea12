#!/usr/bin/env bash
# media.sh [--rounds N] [--seconds S] [--tests rtp,turn]: a node that carries calls and rtpengine in user space, and a node that relays by
# TURN and coturn, measured in turn on this machine.
#
# Installs and builds what it needs (Debian, Ubuntu). Prints a line for each rate, `NAME RATIO`: the median of ours to theirs, CPU
# by the packet; fails when one is above 0.8. What is measured, and how: docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/.."

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
PATH="$PATH:/usr/sbin"
if ! command -v rtpengine > /dev/null; then
    echo "Installing rtpengine-daemon." >&2
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rtpengine-daemon python3 util-linux >&2
    # Its package starts one; the measurements start their own.
    "${sudo[@]}" systemctl disable --now --quiet rtpengine-daemon 2> /dev/null || true
fi
"${sudo[@]}" sysctl -q -w net.core.rmem_max=67108864 net.core.wmem_max=67108864 || true

if ! command -v turnserver > /dev/null; then
    echo "Installing coturn." >&2
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends coturn >&2
    "${sudo[@]}" systemctl disable --now --quiet coturn 2> /dev/null || true
fi
cargo build --release --locked --quiet --package meshtone
cargo build --release --locked --quiet --manifest-path bench/Cargo.toml
exec python3 bench/media.py --node "${CARGO_TARGET_DIR:-target}/release/meshtone" \
    --load "${CARGO_TARGET_DIR:-bench/target}/release/sipload" "$@"
