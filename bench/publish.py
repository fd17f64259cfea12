#!/usr/bin/env python3
"""What it costs to tell an overlay of eight nodes who is registered at one of them; run through sip.sh --publish.

One node takes all phones, seven hold records. Measured is CPU time alone, of each process: first while every address is announced
for the first time, then while the phones refresh every ten minutes, which is announced at half life and not at each refresh.
Five nodes hold each record, so that each announcement is one signature at the home, and one verification at each of them.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import tempfile
import time

from servers import DOMAIN, HERE, Broken, cpu_seconds, settle, stop, wait_until

REFRESH_EVERY_S = 600
# How many nodes hold a record.
REPLICAS = 5


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="sip-bench-") as folder, contextlib.ExitStack() as stack:
        nodes = [Member(options.node, folder, 0, None)]
        stack.callback(nodes[0].stop)
        for number in range(1, options.nodes + 1):
            nodes.append(Member(options.node, folder, number, nodes[0].invite()))
            stack.callback(nodes[-1].stop)
        for node in nodes:
            wait_until(lambda: len(node.status()["links"]) >= options.nodes, f"node {node.number} is not linked with all others")
        measured = measure(options, nodes)
    print(json.dumps(measured))


def measure(options, nodes):
    home, others = nodes[0], nodes[1:]
    began = [node.cpu() for node in nodes]
    register(options, home, "--count", options.phones)
    # The home may hold one of the copies. It is not asked: it would have to tell of all its phones.
    copies = (min(REPLICAS, len(nodes)) - 1) * options.phones
    wait_until(lambda: sum(node.records() for node in others) >= copies, "not every address is announced", 600, every=1)
    settle(home.process.pid)
    announced = [node.cpu() - before for node, before in zip(nodes, began)]
    began, at = [node.cpu() for node in nodes], time.monotonic()
    register(options, home, "--rate", options.phones / REFRESH_EVERY_S, "--warmup", 0, "--duration", options.seconds)
    elapsed = time.monotonic() - at
    steady = [(node.cpu() - before) / elapsed for node, before in zip(nodes, began)]
    return {
        "label": "publish", "nodes": options.nodes, "phones": options.phones,
        "home_us_announcement": announced[0] * 1e6 / options.phones,
        "others_us_announcement": sum(announced[1:]) * 1e6 / options.phones,
        "home_cpu_percent": steady[0] * 100, "other_cpu_percent": sum(steady[1:]) / len(others) * 100,
    }


def register(options, home, *words):
    command = [options.load, "register", "--server", home.sip, "--bind", "127.77.0.1:5070", "--domain", DOMAIN,
               "--users", options.phones, "--pid", home.process.pid, "--spin", 0, *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    if measured["failed"] + measured["lost"] > 0.001 * measured["started"]:
        raise Broken(f"registrations failed: {done.stdout}")


class Member:
    """One node of the overlay, with a loopback address of its own."""

    def __init__(self, program, folder, number, ticket):
        self.program, self.number = program, number
        self.data = f"{folder}/{number}"
        ip = f"127.77.1.{number + 1}"
        self.sip = f"{ip}:5060"
        config = f"{folder}/config.toml"
        with open(config, "w", encoding="utf-8") as file:
            file.write('trusted_sources = "127.0.0.0/8"\n')
        command = [program, "run", "--config", config, "--data", self.data, "--log", "warn", "--sip", self.sip,
                   "--link", f"{ip}:6084", "--workers", "1", "--dangerous-open-registration"]
        command += ["--join", ticket] if ticket else ["--domain", DOMAIN]
        os.makedirs(f"{HERE}/run", exist_ok=True)
        with open(f"{HERE}/run/publish-{number}.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: os.path.exists(f"{self.data}/control.sock"), f"node {number} does not start")

    def ask(self, *words):
        return subprocess.run([self.program, *words, "--data", self.data], capture_output=True, text=True, check=True).stdout

    def invite(self):
        return re.search(r"mt1-\S+", self.ask("invite"))[0]

    def status(self):
        return json.loads(self.ask("status", "--json"))

    def records(self):
        return self.status()["records"].get("sip-registration", 0)

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def stop(self):
        stop(self.process)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", required=True, help="the program under test")
    parser.add_argument("--load", required=True, help="the load generator")
    parser.add_argument("--nodes", type=int, default=7, help="nodes beside the one with the phones")
    parser.add_argument("--phones", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60, help="of the second measurement")
    return parser.parse_args()


if __name__ == "__main__":
    main()
