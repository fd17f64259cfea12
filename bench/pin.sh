#!/usr/bin/env bash
# pin.sh CORE COMMAND...: runs a command on one core, before everything else that runs on this machine.
set -euo pipefail

core=$1
shift
# A session of its own is a scheduling group of its own, whose weight counts against that of other sessions.
if [ -z "${PINNED:-}" ]; then PINNED=1 exec setsid -w "$0" "$core" "$@"; fi
unset PINNED
first=()
if [ "$(id -u)" = 0 ]; then
    echo -20 > /proc/self/autogroup 2> /dev/null || true
    first=(nice -n -20)
fi
exec "${first[@]}" taskset -c "$core" "$@"
