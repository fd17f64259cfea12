#!/usr/bin/env python3
"""Measures this node against Kamailio in turn, and judges every ratio by its number; run through sip.sh.

The server has core 0 and the load generator core 1. Only numbers of one interleaved run are compared: a shared machine drifts.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

from servers import ADDRESS, DOMAIN, HERE, USERS, Broken, Floor, Kamailio, Node, settle

MANY = 500_000
# What a REGISTER's transaction takes is no part of what a registration takes: it lasts 64 times T1 (RFC 3261, Timer J). Meanwhile a
# few phones a second go on registering, as they always do.
TRANSACTION_S = 32 + 3
TRICKLE = 100
# Calls made at once for the memory that finished transactions take: two transactions each, the INVITE's and the BYE's.
CALLS = 20_000


class Bench:
    """One server, measured once for each test."""

    def __init__(self, options, server, raw):
        self.options = options
        self.server = server
        self.raw = raw
        self.round = 0

    def load(self, pid, label, mode, *words):
        """Runs the load generator and returns what it measured."""
        command = [f"{HERE}/pin.sh", "1", self.options.load, mode, "--server", f"{ADDRESS}:5060",
                   "--bind", f"{ADDRESS}:5070", "--domain", DOMAIN, "--label", label, "--pid", pid, *words]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        if done.returncode != 0 or not lines or done.stderr:
            raise Broken(f"{self.server.name}, {label}: {done.stderr.strip() or 'the load generator said nothing'}")
        measured = json.loads(lines[-1])
        measured |= {"server": self.server.name, "round": self.round, "load1": os.getloadavg()[0], "at": time.time()}
        self.raw.write(json.dumps(measured) + "\n")
        self.raw.flush()
        lost = sum(measured.get(key, 0) for key in ("failed", "lost"))
        if lost > 0.001 * measured.get("started", 0):
            # What it cost to fail is no figure.
            raise Broken(f"{label}: {lost} of {measured['started']} failed or were lost")
        return measured

    def run(self, variant, label, mode, *words, warm=1):
        """Starts the server and puts it under one load."""
        with self.server.running(variant) as pid:
            return self.load(pid, label, mode, *words, "--warmup", warm, "--duration", self.options.seconds)

    def registers(self, label, variant="", *words):
        return {label: self.refreshed(label, variant, *words)["cpu_us_op"]}

    def refreshed(self, label, variant, *words):
        """Registers all users, lets the server come to rest, and measures that they register again, out of order."""
        with self.server.running(variant) as pid:
            self.load(pid, f"{label}-fill", "register", "--users", USERS, "--count", USERS, *words)
            settle(pid)
            return self.load(pid, label, "register", "--users", USERS, "--shuffle", 1, *words,
                             "--warmup", 1, "--duration", self.options.seconds)

    def register(self):
        return self.registers("register")

    def register_tcp(self):
        return self.registers("register-tcp", "tcp", "--transport", "tcp")

    def register_digest(self):
        return self.registers("register-digest", "digest", "--passwords", self.server.passwords)

    def register_many(self):
        """500,000 registrations: what each takes, and what refreshing them at random costs."""
        with self.server.running() as pid:
            before = self.load(pid, "memory-empty", "mem")["pss_kb"]
            self.load(pid, "fill", "register", "--users", MANY, "--count", MANY)
            self.calm(pid, MANY)
            after = self.load(pid, "memory-full", "mem")["pss_kb"]
            refresh = self.load(pid, "register-500k", "register", "--users", MANY, "--shuffle", 1,
                                "--duration", self.options.seconds)
        return {"register-500k": refresh["cpu_us_op"], "memory-registration": (after - before) * 1024 / MANY}

    def calm(self, pid, users):
        """Lets the transactions of a storm of registrations end."""
        self.load(pid, "calm", "register", "--users", users, "--shuffle", 1, "--rate", TRICKLE,
                  "--warmup", 0, "--duration", TRANSACTION_S)
        settle(pid)

    def call(self):
        return {"call": self.run("", "call", "call", warm=self.options.warm)["cpu_us_op"]}

    def call_tcp(self):
        tcp = ("--transport", "tcp")
        return {"call-tcp": self.run("tcp", "call-tcp", "call", *tcp, warm=self.options.warm)["cpu_us_op"]}

    def message(self):
        return {"message": self.run("", "message", "message", warm=self.options.warm)["cpu_us_op"]}

    def forward(self):
        return {"forward": self.run("forward", "forward", "forward", "--uas", "5081,5082")["cpu_us_op"]}

    def paced(self):
        register = self.refreshed("paced-register", "", "--rate", 10_000)
        call = self.run("", "paced-call", "call", "--rate", 2000, warm=self.options.warm)
        return {
            "paced-register-cpu": register["cpu_us_op"], "paced-register-p99": register["p99_us"],
            "paced-call-cpu": call["cpu_us_op"], "paced-call-p99": call["p99_us"],
        }

    def transaction(self):
        """What a finished transaction takes while it is kept for retransmissions."""
        with self.server.running() as pid:
            # The callees register first, and the first calls fill what is allocated once.
            warm = self.load(pid, "transactions-warm", "call", "--count", 200)
            full = self.load(pid, "transactions", "call", "--count", CALLS)
        return {"memory-transaction": (full["pss_kb"] - warm["pss_kb"]) * 1024 / (2 * CALLS)}

    def workers(self):
        """What a second worker costs a call, where there is no more to do than for one."""
        paced = {
            variant: self.run(variant, f"workers-{variant or 'two'}", "call", "--rate", 2000, warm=self.options.warm)
            for variant in ("", "one")
        }
        return {"workers-call": paced[""]["cpu_us_op"] / paced["one"]["cpu_us_op"]}

    def start(self):
        """From the start of the process to its first answer, milliseconds; the data folder is there already."""
        with tempfile.TemporaryDirectory(prefix="sip-bench-") as folder:
            command = ["taskset", "-c", "0", *self.server.start_command(folder)]
            load = [f"{HERE}/pin.sh", "1", self.options.load, "startup", "--server", f"{ADDRESS}:5060", "--domain", DOMAIN,
                    "--bind", f"{ADDRESS}:5070", "--label", "start", "--", *command]
            with open(f"{HERE}/run/start.log", "w", encoding="utf-8") as log:
                # Once unmeasured: the first run of a node makes its keys.
                for _ in range(2):
                    done = subprocess.run(load, stdout=subprocess.PIPE, stderr=log, text=True, check=True)
        measured = json.loads(done.stdout.strip().splitlines()[-1])
        self.raw.write(json.dumps(measured | {"server": self.server.name, "round": self.round}) + "\n")
        return {"start": measured["startup_ms_median"]}

    def ramp(self):
        """CPU and latency at rising rates, for the plots; nothing is judged."""
        def register(rate):
            return self.refreshed("ramp-register", "", "--rate", rate)

        def call(rate):
            return self.run("", "ramp-call", "call", "--rate", rate, warm=3)

        for measure, rates in ((register, (5_000, 10_000, 20_000, 40_000, 60_000, 80_000)),
                               (call, (500, 1000, 2000, 4000, 8000, 12_000))):
            for rate in rates:
                try:
                    measure(rate)
                except Broken as error:
                    # Its line ends at what it can do.
                    print(f"ramp, {self.server.name}, {measure.__name__} at {rate} a second: {error}", file=sys.stderr)
                    break
        with self.server.running() as pid:
            for count in (0, 100_000, 200_000, 300_000, 400_000, 500_000):
                if count:
                    first = count - 100_000
                    self.load(pid, "ramp-fill", "register", "--users", 100_000, "--first", first, "--count", 100_000)
                    self.calm(pid, count)
                settle(pid)
                self.load(pid, f"ramp-memory-{count}", "mem")
        return {}


# What is measured together, the limits by name, and whether they are ratios to Kamailio or hold for us alone.
TESTS = {
    "register": (Bench.register, {"register": 0.65}),
    "register-tcp": (Bench.register_tcp, {"register-tcp": 0.7}),
    "register-digest": (Bench.register_digest, {"register-digest": 0.65}),
    "register-500k": (Bench.register_many, {"register-500k": 0.6, "memory-registration": 0.42}),
    "call": (Bench.call, {"call": 0.6}),
    "call-tcp": (Bench.call_tcp, {"call-tcp": 0.65}),
    "message": (Bench.message, {"message": 0.5}),
    "forward": (Bench.forward, {"forward": 0.7}),
    "paced": (Bench.paced, {"paced-register-cpu": 0.9, "paced-register-p99": 1.0,
                            "paced-call-cpu": 0.9, "paced-call-p99": 1.0}),
    "transaction": (Bench.transaction, {"memory-transaction": 0.07}),
    "workers": (Bench.workers, {"workers-call": 1.15}),
    "start": (Bench.start, {"start": 50}),
    "ramp": (Bench.ramp, {}),
}
ALONE = ("workers", "start")
UNITS = {"memory-registration": "bytes", "memory-transaction": "bytes", "paced-register-p99": "us",
         "paced-call-p99": "us", "start": "ms", "workers-call": ""}


def main():
    options = arguments()
    os.makedirs(f"{HERE}/run", exist_ok=True)
    found = {}
    with open(options.raw, "w", encoding="utf-8") as raw:
        servers = [Bench(options, server, raw) for server in (Node(options.node), Kamailio())]
        if options.floor:
            servers.append(Bench(options, Floor(), raw))
        if "register-digest" in options.tests:
            for bench in servers:
                bench.server.prepare()
        for turn in range(options.rounds):
            for test in options.tests:
                for bench in servers:
                    if (test in ALONE and bench is not servers[0]) or (bench.server.name == "floor" and test != "register"):
                        continue
                    bench.round = turn
                    try:
                        measured = TESTS[test][0](bench)
                    except (Broken, subprocess.CalledProcessError) as error:
                        print(f"{test}, {bench.server.name}: {error}", file=sys.stderr)
                        # No ratio is small enough for what cannot be done.
                        measured = {name: math.inf for name in TESTS[test][1]}
                    for name, value in measured.items():
                        found.setdefault(name, {}).setdefault(bench.server.name, []).append(value)
            print(f"round {turn + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    return judge(found, options.tests)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", required=True, help="the program under test")
    parser.add_argument("--load", required=True, help="the load generator")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tests", default=",".join(test for test in TESTS if test != "ramp"), help=", ".join(TESTS))
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--warm", type=float, default=8, help="seconds until the memory of transactions is steady")
    parser.add_argument("--raw", default=f"{HERE}/run/results.jsonl", help="where every measurement is written")
    parser.add_argument("--floor", action="store_true", help="measure the least that a server can cost, too")
    options = parser.parse_args()
    options.tests = options.tests.split(",")
    unknown = [test for test in options.tests if test not in TESTS]
    if unknown:
        parser.error(f"there is no test {', '.join(unknown)}; the tests are {', '.join(TESTS)}")
    return options


def judge(found, tests):
    """Prints medians, then the ratios; 1 if one is above its number."""
    limits = {name: limit for test in tests for name, limit in TESTS[test][1].items()}
    failed = False
    lines = []
    for name, by_server in found.items():
        medians = {server: statistics.median(values) for server, values in by_server.items()}
        unit = UNITS.get(name, "us CPU")
        for server, values in by_server.items():
            print(f"{name:20} {server:9} {medians[server]:9.2f} {unit:6}  [{min(values):.2f}-{max(values):.2f}]")
        ours = medians["meshtone"]
        figure = ours / medians["kamailio"] if "kamailio" in medians else ours
        # What could not be measured, of either server, misses too.
        if math.inf in medians.values():
            figure = math.inf
        missed = not figure <= limits[name]
        failed = failed or missed
        if missed:
            print(f"{name} misses its number: {figure:.2f}, and {limits[name]} at most", file=sys.stderr)
        lines.append(f"{name} {figure:.2f}")
    sys.stderr.flush()
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
