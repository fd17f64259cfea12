"""The servers that are measured, each started anew for a measurement: this node, Kamailio, and the least that can be."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ADDRESS = "127.77.0.1"
DOMAIN = "bench.example"
USERS = 10_000
# Where the dispatcher test sends requests to; the load generator answers there.
TARGETS = (5081, 5082)


class NotServed(Exception):
    """A server cannot do what a test asks for."""


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
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((ADDRESS, 5060))  # Fails where another server is left over.
        with tempfile.TemporaryDirectory(prefix="sip-bench-") as folder:
            log = open(f"{HERE}/run/{self.name}.log", "w", encoding="utf-8")
            command = [f"{HERE}/pin.sh", "0", *self.command(variant.split(), folder)]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ, PINNED="1"),
                start_new_session=True)
            try:
                time.sleep(1.5)
                if process.poll() is not None:
                    raise SystemExit(f"{self.name} did not start: see {log.name}")
                yield process.pid
                if process.poll() is not None:
                    raise SystemExit(f"{self.name} died under load: see {log.name}")
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
    time.sleep(0.3)


class Node(Server):
    """This project's node, with everything on but passwords; for `digest` with those too."""

    name = "meshtone"

    def __init__(self, program):
        self.program = program
        self.accounts = f"{HERE}/run/accounts"
        self.passwords = f"{HERE}/run/passwords"

    def command(self, variant, folder):
        if "forward" in variant:
            raise NotServed("this node does not forward without state yet")
        config = f"{folder}/config.toml"
        with open(config, "w", encoding="utf-8") as file:
            # All the load comes from this machine, as if through the front stage of a farm.
            file.write('trusted_sources = "127.0.0.0/8"\n')
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
