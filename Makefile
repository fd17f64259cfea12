# Everything that a person or a CI machine does with this repository. `make` or `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run web web-tools screens test test-tools test-web test-page test-openapi openapi threats build lint format deny-tool advisories fuzz bench bench-media histories links prices releases report

# What `meshtone run` is given: make run ARGS="--domain home.example"
ARGS ?=
# Tests start several nodes and phones each; more at once than this makes two cores stumble.
TEST_THREADS ?= 3
# What `cargo test` is given besides: make test ONLY="--test calls"
ONLY ?=
# What bench/sip.sh is given: make bench BENCH="--rounds 1 --tests register,call"
BENCH ?=
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

# The phones, servers and tools that the tests drive, as program:package.
TOOLS := ip:iproute2 nft:nftables baresip:baresip-core sipp:sip-tester chromium:chromium node:nodejs npm:npm svmap:sipvicious dnsmasq:dnsmasq-base \
	miniupnpd:miniupnpd-nftables kamailio:kamailio exim4:exim4-daemon-light turnutils_uclient:coturn pebble:pebble
# Outside of root, packages are installed through sudo.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo,)
DENY_VERSION := 0.20.2
SCHEMATHESIS_VERSION := 4.32.5
# For how long `make openapi` asks, each as an administrator and as a person.
OPENAPI_SECONDS ?= 60

# Histories that `make histories` plays, from this seed on.
HISTORIES ?= 2000
HISTORY_SEED ?= 1

# The commit whose program `make releases` runs beside this one.
OTHER ?= HEAD^

# Nodes of the largest overlay that the report simulates, and which of its experiments to make again; none: all.
REPORT_NODES ?= 1000
REPORT ?=

help: ## Show this list
	@echo "Meshtone: usage: make <target>"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/' | expand -t 14

run: web ## Build the program and start a node here (pass flags with ARGS="...")
	@echo "Building meshtone (the first time takes some minutes), then starting a node; Ctrl-C ends it."
	cargo build --release --locked --package meshtone
	"$${CARGO_TARGET_DIR:-target}"/release/meshtone run $(ARGS)

web: web-tools ## Build the page that nodes serve, into web/dist (npm packages into web)
	@if [ ! -e web/node_modules/.package-lock.json ] || [ web/package-lock.json -nt web/node_modules/.package-lock.json ]; then \
		echo "Installing the packages of web by npm: what the page is made of."; \
		npm --prefix web ci --ignore-scripts --no-progress; \
	fi
	@if [ ! -e web/dist/index.html ] || [ -n "$$(find web -newer web/dist/index.html -not -path 'web/node_modules*' -not -path 'web/dist*' -type f -print -quit)" ]; then \
		echo "Building the page."; npm --prefix web run --silent build; \
	fi

web-tools:
	@if ! command -v npm > /dev/null || ! command -v node > /dev/null; then \
		echo "Installing nodejs and npm: the page is built with them."; \
		$(SUDO) apt-get update -qq; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm; \
	fi
	@node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || major === 20 && minor >= 19 ? 0 : 1)' || { \
		echo "error: the page is built with Node.js 20.19 or newer, and this is $$(node --version)"; \
		echo "hint: Debian 13 has a newer one, and so does https://nodejs.org"; exit 1; }

threats: build ## Measure what an attacker would measure; wants a quiet machine
	@echo "Timing answers about users who exist and who do not."
	cargo test --workspace --locked --test enumeration -- --ignored --nocapture

build: web ## Build everything for the tests
	cargo build --workspace --all-targets --locked

test: test-tools test-web test-page test-openapi build ## Install what the tests need, then run every test, with real phones
	@echo "Running all tests; those in tests/ start nodes and phones on 127.0.0.1."
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --locked $(ONLY)

test-tools: ## Install the phones that the tests drive (Debian, Ubuntu)
	@# Their packages start a Kamailio, a TURN server and a mail server on ports that others want; the tests start their own. A mail server that is
	@# there already is not removed for this one: nothing is installed then.
	@missing=(); PATH="$$PATH:/usr/sbin"; \
	for tool in $(TOOLS); do command -v "$${tool%%:*}" > /dev/null || missing+=("$${tool##*:}"); done; \
	compgen -G "/usr/lib/*/kamailio/modules/tls.so" > /dev/null || missing+=(kamailio-tls-modules); \
	if [ "$${#missing[@]}" -gt 0 ]; then \
		echo "Installing $${missing[*]}: the phones of the end-to-end tests."; \
		$(SUDO) apt-get update -qq; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-remove --no-install-recommends "$${missing[@]}" || { \
			echo "hint: where Exim would take the place of another mail server, run the tests in a container"; exit 1; }; \
		case " $${missing[*]} " in *" kamailio "*) $(SUDO) systemctl disable --now --quiet kamailio 2> /dev/null || true;; esac; \
		case " $${missing[*]} " in *" coturn "*) $(SUDO) systemctl disable --now --quiet coturn 2> /dev/null || true;; esac; \
		case " $${missing[*]} " in *" exim4-daemon-light "*) $(SUDO) systemctl disable --now --quiet exim4 2> /dev/null || true;; esac; \
	fi

test-web: test-tools ## Build the page with which Chromium plays a phone (npm packages into tests/web)
	@if [ ! -e tests/web/node_modules/.package-lock.json ] || \
		[ tests/web/package-lock.json -nt tests/web/node_modules/.package-lock.json ]; then \
		echo "Installing the packages of tests/web by npm: JsSIP and SIP.js, the browser's phones."; \
		npm --prefix tests/web ci --ignore-scripts --no-progress; \
	fi
	@npm --prefix tests/web run --silent build

test-page: web test-tools ## Test the page's logic, and install what drives browsers at it (npm packages into tests/page)
	@npm --prefix web run --silent test
	@if [ ! -e tests/page/node_modules/.package-lock.json ] || \
		[ tests/page/package-lock.json -nt tests/page/node_modules/.package-lock.json ]; then \
		echo "Installing the packages of tests/page by npm: Playwright and axe."; \
		npm --prefix tests/page ci --ignore-scripts --no-progress; \
	fi

test-openapi: ## Install what asks the page's interface for all that it describes (a Python package into target)
	@if [ ! -x target/schemathesis/bin/schemathesis ]; then \
		if ! python3 -c 'import ensurepip' 2> /dev/null; then \
			$(SUDO) apt-get update -qq; \
			$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; \
		fi; \
		echo "Installing Schemathesis below target: it compares the interface with its description."; \
		python3 -m venv target/schemathesis; \
		target/schemathesis/bin/pip --quiet --disable-pip-version-check install schemathesis==$(SCHEMATHESIS_VERSION); \
	fi

openapi: test-openapi build ## Ask the page's interface for all that it describes, with values by chance (OPENAPI_SECONDS=60)
	OPENAPI_SECONDS=$(OPENAPI_SECONDS) cargo test --workspace --locked --test openapi

screens: test-tools test-page build ## Draw every view of the page into docs/screens, narrow and wide, light and dark
	@mkdir -p docs/screens
	MESHTONE_SCREENS="$(CURDIR)/docs/screens" cargo test --workspace --locked --test page every_view

lint: deny-tool ## Check format, Clippy, purity of the cores, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	scripts/purity.sh
	cargo deny --all-features check --allow duplicate bans licenses sources

format: ## Format all code
	cargo fmt --all

deny-tool:
	@cargo deny --version > /dev/null 2>&1 || { \
		echo "Installing cargo-deny (a minute): it checks licences and dependencies."; \
		cargo install --locked --debug --quiet --version $(DENY_VERSION) cargo-deny; }

advisories: deny-tool ## Check the dependencies against the RustSec database (needs github.com)
	cargo deny --all-features check advisories

fuzz: ## Feed every parser random input (FUZZ_SECONDS=600 each; FUZZ_TARGETS="sdp ticket" for some)
	@cargo fuzz --version > /dev/null 2>&1 || { \
		echo "Installing cargo-fuzz."; cargo install --locked --debug --quiet cargo-fuzz; }
	@# Sanitizers are unstable; the stable compiler has them when told that it may. What is found on the way is kept out
	@# of the committed corpus.
	@for target in $(FUZZ_TARGETS); do \
		echo "Fuzzing $$target for $(FUZZ_SECONDS) s."; \
		mkdir -p "fuzz/grown/$$target"; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run "$$target" "fuzz/grown/$$target" "fuzz/corpus/$$target" -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048; \
	done

bench: ## Measure a node against Kamailio, core by core (BENCH="--rounds 1 --tests register" for some)
	@echo "Measuring on cores 0 and 1; leave the machine alone meanwhile. All tests take about an hour."
	bench/sip.sh $(BENCH)

bench-media: ## Measure a node that carries calls against rtpengine, and one that relays against coturn (BENCH="--rounds 1")
	bench/media.sh $(BENCH)

releases: test-tools build ## Call between nodes of this program and of another commit's (OTHER=HEAD^)
	@echo "Building the program of $(OTHER) (some minutes)."
	@target="$$(realpath "$${CARGO_TARGET_DIR:-target}")"; other="$$target/other"; \
	git worktree prune; rm -rf "$$other"; git worktree add --quiet --detach "$$other" $(OTHER); \
	trap 'git worktree remove --force "$$other"' EXIT; \
	CARGO_TARGET_DIR="$$target/other-build" cargo build --locked --manifest-path "$$other/Cargo.toml" --package meshtone; \
	MESHTONE_OTHER_BIN="$$target/other-build/debug/meshtone" \
		cargo test --workspace --locked --test releases -- --ignored --nocapture

links: test-tools ## Cut and heal 32 nodes over real links, judged like histories; two minutes of a quiet machine
	cargo test --workspace --locked --test overlay_cut -- --ignored --nocapture

prices: test-tools ## Measure what signatures cost a registration and a call between two nodes; two minutes of a quiet machine
	@echo "Building the program, then measuring with signatures and without, in turn."
	cargo build --release --locked --package meshtone
	MESHTONE_BIN="$$(realpath "$${CARGO_TARGET_DIR:-target}")/release/meshtone" PRICES="$(CURDIR)/docs/report/prices.csv" \
		cargo test --workspace --locked --test prices -- --ignored --nocapture

histories: ## Play seeded histories of a small overlay and judge what was read (HISTORIES=2000 HISTORY_SEED=1)
	HISTORIES=$(HISTORIES) HISTORY_SEED=$(HISTORY_SEED) \
		cargo test --release --locked --package meshtone-sim --test histories -- --nocapture

report: ## Measure the overlay in virtual time and write docs/report (REPORT_NODES=10000 for all, REPORT="silent nat" for some)
	@echo "Simulating overlays of up to $(REPORT_NODES) nodes; this takes some minutes."
	cargo run --release --locked --package meshtone-sim --example report -- docs/report $(REPORT_NODES) $(REPORT)
