#!/usr/bin/env bash
# Fails when a room knows what it must not know (ARCHITECTURE.md, "Rooms"): a runtime or a socket in a pure crate, a
# sibling, a second crypto provider. What Clippy can see (clocks, sockets, sleeps) is in each pure crate's clippy.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

failures=0
fail() {
    echo "purity: $1" >&2
    failures=$((failures + 1))
}

# keeps_out CRATE REGEX WHY: no normal dependency of CRATE, at any depth and with all features, may match REGEX.
keeps_out() {
    local found
    # Not `cargo tree -i`: it fails both when the crate is absent, which is wanted, and when cargo could not look.
    found=$(cargo tree --locked -e normal --all-features --prefix none --format '{p}' -p "$1" | cut -d ' ' -f 1 | sort -u)
    found=$(grep -xE "$2" <<<"$found" || true)
    if [ -n "$found" ]; then fail "$1 depends on $(tr '\n' ' ' <<<"$found")- $3"; fi
}

io='tokio|mio|iroh|quinn|socket2|hyper|axum|async-std|smol|async-io|redb'
keeps_out meshtone-sip "$io" 'the SIP engine owns no I/O'
keeps_out meshtone-sip 'meshtone-(overlay|identity|media|node|sim)' 'siblings do not import each other'
keeps_out meshtone-identity "$io" 'identities own no I/O'
keeps_out meshtone-identity 'meshtone-(sip|overlay|media|node|sim)' 'siblings do not import each other'
keeps_out meshtone-overlay 'meshtone-(sip|media|node|sim)' 'the overlay imports identity only'
keeps_out meshtone-media 'iroh|quinn|hyper|axum|redb' 'media needs tokio for its sockets and nothing else'
keeps_out meshtone-media 'meshtone-(sip|overlay|identity|node|sim)' 'siblings do not import each other'
keeps_out meshtone-node 'meshtone-sim' 'the simulator is for tests'
keeps_out meshtone-tests 'meshtone|meshtone-(sip|overlay|identity|media|node|sim)' 'end-to-end tests see the program from outside'
keeps_out meshtone 'openssl-sys|native-tls' 'aws-lc-rs is the only crypto provider that is used'
# iroh-relay's server forces ring upon what it shares with us (ARCHITECTURE.md, "Relays"); no room that does not know it has it.
for crate in sip identity media; do
    keeps_out "meshtone-$crate" 'ring' 'aws-lc-rs is the only crypto provider'
done
if grep -rnE '\bring::|ServerConfig::builder\(\)|ClientConfig::builder\(\)' crates/*/src --include='*.rs'; then
    fail 'TLS takes whatever provider is there: name aws-lc-rs (builder_with_provider)'
fi

# The pure folders of crates that do I/O elsewhere.
names_no_runtime() {
    local found
    found=$(grep -rnE '\b(tokio|iroh|async fn|\.await)\b' "$1" --include='*.rs' | grep -vE '^[^:]+:[0-9]+:\s*//' || true)
    if [ -n "$found" ]; then fail "$1 is a pure room, but names a runtime:
$found"; fi
}
names_no_runtime crates/overlay/src/dht
names_no_runtime crates/overlay/src/record
for entry in crates/media/src/*; do
    if [ "$(basename "$entry" .rs)" != io ]; then names_no_runtime "$entry"; fi
done

for crate in sip identity overlay media sim; do
    cmp -s scripts/pure-clippy.toml "crates/$crate/clippy.toml" ||
        fail "crates/$crate/clippy.toml is not scripts/pure-clippy.toml"
done

if [ "$failures" -gt 0 ]; then
    echo "purity: $failures finding(s)" >&2
    exit 1
fi
echo "purity: every room keeps to itself"
