"""The servers that are measured, each started anew for a measurement: this node, Kamailio, and the least that can be.

Nothing here waits for a time alone: a server is ready when it has its socket and uses no more processor, and gone when its port
is free.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ADDRESS = "127.77.0.1"
DOMAIN = "bench.example"
USERS = 10_000
# Where the dispatcher test sends requests to; the load generator answers there.
TARGETS = (5081, 5082)
# A server is quiet when it takes less of a core than this, over this many seconds. This node writes refreshed bindings down for
# a while after a storm: 512 a second, which is below it.
QUIET = 0.03
QUIET_OVER = 0.5
# How long it may take to start, to become quiet and to stop; longer is worth looking into before anything is measured.
PATIENCE = 60


class Broken(Exception):
    """A server, or the load generator, did not do what it should."""


class Server:
    """A server under test, and the process whose tree is accounted for."""

    name = ""

    def command(self, variant, folder):
        """The command line for a variant: words of `digest`, `tcp`, `forward`, `one`."""
        raise NotImplementedError

    def prepare(self):
        """Does once what need not be done for each start."""

    @contextlib.contextmanager
    def running(self, variant=""):
        """Runs the server on core 0 and yields its process id."""
        if not is_free():
            raise Broken(f"{ADDRESS}:5060 is taken: another server is left over")
        with tempfile.TemporaryDirectory(prefix="sip-bench-") as folder:
            log = open(f"{HERE}/run/{self.name}.log", "w", encoding="utf-8")
            command = [f"{HERE}/pin.sh", "0", *self.command(variant.split(), folder)]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ, PINNED="1"),
                start_new_session=True)
            try:
                wait_until(lambda: process.poll() is not None or not is_free(), f"{self.name} does not listen")
                if process.poll() is not None:
                    raise Broken(f"{self.name} did not start: see {log.name}")
                settle(process.pid)
                yield process.pid
                if process.poll() is not None:
                    raise Broken(f"{self.name} died under load: see {log.name}")
            finally:
                stop(process)
                log.close()

    def start_command(self, folder):
        """What the start-up test runs: the bare command, in a folder that a first run has filled."""
        return self.command([], folder)


def stop(process):
    """Ends a server and all that it started."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(is_free, "the port of a server that has ended stays taken")


def is_free():
    """Whether nobody listens where the servers do."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ADDRESS, 5060))
        except OSError:
            return False
    return True


def wait_until(condition, what, patience=PATIENCE, every=0.02):
    """Looks again and again whether something has come true."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"{what}, after {patience} s")
        time.sleep(every)


def settle(pid):
    """Waits until a server has done what it does of itself: what was announced, written or grown is no part of the measurement."""
    deadline = time.monotonic() + PATIENCE
    before, at = cpu_seconds(pid), time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(QUIET_OVER)
        now, elapsed = cpu_seconds(pid), time.monotonic() - at
        if now - before < QUIET * elapsed:
            return
        before, at = now, time.monotonic()
    print(f"the server is still at work {PATIENCE} s after it was left alone", file=sys.stderr)


def cpu_seconds(root):
    """What all threads of a process and of its descendants have used so far."""
    parents = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{int(entry)}/stat", encoding="utf-8") as file:
                parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
    tree = [root]
    for parent in tree:
        tree.extend(child for child, of in parents.items() if of == parent)
    total = 0
    for pid in tree:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="utf-8") as file:
                    total += int(file.read().split()[0])
    return total / 1e9


class Node(Server):
    """This project's node, with everything on but passwords; for `digest` with those too."""

    name = "meshtone"

    def __init__(self, program):
        self.program = program
        self.accounts = f"{HERE}/run/accounts"
        self.passwords = f"{HERE}/run/passwords"

    def command(self, variant, folder):
        config = f"{folder}/config.toml"
        with open(config, "w", encoding="utf-8") as file:
            # All the load comes from this machine, as if through the front stage of a farm.
            file.write('trusted_sources = "127.0.0.0/8"\n')
            if "forward" in variant:
                servers = ", ".join(f'"{ADDRESS}:{port}"' for port in TARGETS)
                file.write(f'[first_stage]\nservers = [{servers}]\nspread = "call-id"\n')
        data = f"{folder}/data"
        if "digest" in variant:
            shutil.copytree(self.accounts, data, ignore=shutil.ignore_patterns("*.sock"))
        command = [self.program, "run", "--config", config, "--data", data, "--domain", DOMAIN, "--log", "warn",
                   "--sip", f"{ADDRESS}:5060", "--link", f"{ADDRESS}:6084", "--workers", "1" if "one" in variant else "2"]
        return command if "digest" in variant else [*command, "--dangerous-open-registration"]

    def prepare(self):
        """Makes the accounts of the digest test, as an administrator would: the node chooses the passwords."""
        shutil.rmtree(self.accounts, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="sip-bench-") as folder:
            os.symlink(self.accounts, f"{folder}/data")
            os.makedirs(self.accounts, 0o700)
            command = [word for word in self.command([], folder) if word != "--dangerous-open-registration"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                control = Control(f"{self.accounts}/control.sock")
                with open(self.passwords, "w", encoding="utf-8") as file:
                    for user in range(USERS):
                        file.write(control.add_user(f"u{user}") + "\n")
            finally:
                stop(process)


class Control(http.client.HTTPConnection):
    """The administration socket of a node."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        for _ in range(200):
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                return self.sock.connect(self.path)
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"the node did not open {self.path}")

    def add_user(self, user):
        """Adds a user and returns the password."""
        self.request("POST", "/users", json.dumps({"user": user}))
        answer = json.load(self.getresponse())
        return answer["password"]


class Kamailio(Server):
    """Kamailio, as lean as its configuration allows: see peers/kamailio.cfg."""

    name = "kamailio"
    passwords = f"{HERE}/run/passwords-kamailio"

    def prepare(self):
        """Its configuration knows one password for everybody."""
        with open(self.passwords, "w", encoding="utf-8") as file:
            file.write("pw\n" * USERS)

    def command(self, variant, folder):
        with open(f"{folder}/dispatcher.list", "w", encoding="utf-8") as file:
            file.writelines(f"1 sip:{ADDRESS}:{port}\n" for port in TARGETS)
        with open(f"{HERE}/peers/kamailio.cfg", encoding="utf-8") as source:
            text = source.read().replace("@FOLDER@", folder)
        with open(f"{folder}/kamailio.cfg", "w", encoding="utf-8") as file:
            file.write(text)
        defines = [("digest", "WITH_AUTH"), ("tcp", "WITH_TCP"), ("forward", "WITH_DISP")]
        options = [option for word, define in defines if word in variant for option in ("-A", define)]
        listen = ["-l", f"udp:{ADDRESS}:5060"] + (["-l", f"tcp:{ADDRESS}:5060"] if "tcp" in variant else [])
        children = "1" if "one" in variant else "2"
        return ["kamailio", "-DD", "-m", "6144", "-M", "16", "-x", "fm", "-X", "fm", "-Y", folder,
                "-A", f"CHILDREN={children}", *options, *listen, "-f", f"{folder}/kamailio.cfg"]


class Floor(Server):
    """The least that a server can cost: it answers 200 without looking. `batch`: with recvmmsg and sendmmsg."""

    name = "floor"

    def command(self, variant, folder):
        return [f"{HERE}/run/floor", ADDRESS, "5060", "64" if "batch" in variant else "1"]
