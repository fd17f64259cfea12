#!/usr/bin/env python3
"""What it costs a node to carry the sound of a call, by the packet, beside rtpengine in user space; and to relay it by TURN, beside coturn.

Calls are set up as phones do it (the node: SIP; rtpengine: its own protocol; both by TURN), then the load generator sends RTP of 172 bytes
each way of each call and counts what comes out of the relay. By TURN one side sends ChannelData, the other plain RTP.
"""

import argparse
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys

import turn
from servers import ADDRESS, DOMAIN, HERE, Broken, Control, Node, Server, settle

CALLS = 50
# Where the two sides of call i receive: apart from what the servers take.
CALLERS, CALLEES = 40_000, 44_000
SIGNALLING = 5090
TURN = 3478
PATIENCE_S = 5
SDP = """v=0\r
o=- 1 1 IN IP4 {address}\r
s=-\r
c=IN IP4 {address}\r
t=0 0\r
m=audio {port} RTP/AVP 8\r
a=rtpmap:8 PCMA/8000\r
a=sendrecv\r
"""
# Saturated, and 50,000 packets a second: 500 calls.
RATES = (0, 50_000)
LIMIT = 0.8


def description(port):
    return SDP.format(address=ADDRESS, port=port)


def place(text):
    """Where a description wants its media."""
    address, port = re.search(r"c=IN IP4 ([\d.]+)", text), re.search(r"m=audio (\d+)", text)
    if not address or not port:
        raise Broken(f"no media in {text!r}")
    return f"{address[1]}:{port[1]}"


class CarryingNode(Node):
    """This project's node, told to carry every call."""

    def command(self, variant, folder):
        command = super().command(variant, folder)
        with open(f"{folder}/config.toml", "a", encoding="utf-8") as file:
            file.write('[media]\nanchor = "always"\n')
        return command

    def flows(self):
        """Sets all calls up; yields a line for the generator of each side: its own address, and where the relay listens."""
        with Phone() as phone:
            for call in range(CALLS):
                yield from (f"{ADDRESS}:{local} {relay}" for local, relay in phone.call(call))


class RelayingNode(Node):
    """This project's node as a TURN server."""

    def command(self, variant, folder):
        command = super().command(variant, folder)
        self.data = f"{folder}/data"
        with open(f"{folder}/config.toml", "a", encoding="utf-8") as file:
            # All calls are one user's, on this machine, and as fast as they go.
            file.write(f'[turn]\nlisten = ["{ADDRESS}:{TURN}"]\nallow_private = true\nmbit = 100000\nuser_mbit = 100000\n'
                       'user_allocations = 1000\nsource_allocations = 1000\n')
        return command

    def flows(self):
        login = ("bench", Control(f"{self.data}/control.sock").add_user("bench"))
        return turn.flows(ADDRESS, TURN, login, CALLS, CALLERS, CALLEES)


class Coturn(Server):
    """coturn with one thread that relays, over UDP alone."""

    name = "coturn"

    def command(self, variant, folder):
        # It listens where the others do, so that it is known when it has started.
        return ["turnserver", "-n", f"--listening-ip={ADDRESS}", f"--relay-ip={ADDRESS}", "--listening-port=5060", "--relay-threads=1",
                "--no-tls", "--no-dtls", "--no-tcp", "--no-cli", "--log-file=/dev/null", "--lt-cred-mech", "--user=bench:bench",
                f"--realm={DOMAIN}", "--allow-loopback-peers", "--no-multicast-peers", f"--pidfile={folder}/pid",
                f"--userdb={folder}/db"]

    def flows(self):
        return turn.flows(ADDRESS, 5060, ("bench", "bench"), CALLS, CALLERS, CALLEES)


class Phone:
    """Both sides of every call, at one address."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE_S)
        self.socket.bind((ADDRESS, SIGNALLING))
        self.socket.connect((ADDRESS, 5060))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def call(self, number):
        ends = {"caller": CALLERS + 2 * number, "callee": CALLEES + 2 * number}
        user = f"sip:u{number}@{DOMAIN}"
        contact = f"<sip:u{number}@{ADDRESS}:{SIGNALLING}>"
        self.send(f"REGISTER sip:{DOMAIN}", f"r{number}", user, f"<{user}>", 1, "REGISTER", contact)
        self.answer("REGISTER")
        invite = description(ends["caller"])
        self.send(f"INVITE {user}", f"i{number}", f"sip:c{number}@{DOMAIN}", f"<{user}>", 1, "INVITE", contact, invite)
        offer = self.receive(lambda head: head.startswith("INVITE "))
        self.reply(offer, contact, description(ends["callee"]))
        answer = self.answer("INVITE")
        to = re.search(r"^To: *(.*)$", answer, re.MULTILINE | re.IGNORECASE)[1].strip()
        target = re.search(r"^Contact: *<([^>]*)>", answer, re.MULTILINE | re.IGNORECASE)[1]
        routes = re.findall(r"^Record-Route: *(.*)$", answer, re.MULTILINE | re.IGNORECASE)
        route = "".join(f"Route: {line.strip()}\r\n" for line in reversed(routes))
        self.send(f"ACK {target}", f"i{number}", f"sip:c{number}@{DOMAIN}", to, 1, "ACK", contact, extra=route)
        yield ends["caller"], place(answer)
        yield ends["callee"], place(offer)

    def send(self, start, call, sender, to, number, method, contact, body="", extra=""):
        kind = "Content-Type: application/sdp\r\n" if body else ""
        self.socket.send((
            f"{start} SIP/2.0\r\nVia: SIP/2.0/UDP {ADDRESS}:{SIGNALLING};branch=z9hG4bK-{call}-{method};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <{sender}>;tag=f{call}\r\nTo: {to}\r\nCall-ID: {call}@{DOMAIN}\r\n"
            f"CSeq: {number} {method}\r\nContact: {contact}\r\n{extra}{kind}Content-Length: {len(body)}\r\n\r\n{body}").encode())

    def reply(self, request, contact, body):
        head = request.partition("\r\n\r\n")[0].split("\r\n")[1:]
        copied = [line for line in head if re.match(r"(Via|From|Call-ID|CSeq|Record-Route) *:", line, re.IGNORECASE)]
        to = next(line for line in head if re.match(r"To *:", line, re.IGNORECASE))
        self.socket.send("\r\n".join([
            "SIP/2.0 200 OK", *copied, f"{to};tag=t", f"Contact: {contact}", "Content-Type: application/sdp",
            f"Content-Length: {len(body)}", "", body]).encode())

    def answer(self, method):
        answer = self.receive(lambda head: head.startswith("SIP/2.0 ") and not head.startswith("SIP/2.0 1")
                              and re.search(rf"^CSeq: *\d+ {method}\b", head, re.MULTILINE | re.IGNORECASE))
        if not answer.startswith("SIP/2.0 200 "):
            raise Broken(f"{method} was answered {answer.splitlines()[0]}")
        return answer

    def receive(self, is_wanted):
        while True:
            text = self.socket.recv(65_535).decode()
            if is_wanted(text.partition("\r\n\r\n")[0]):
                return text


class RtpEngine(Server):
    """rtpengine without its kernel module: its table is off."""

    name = "rtpengine"

    def command(self, variant, folder):
        # What it is controlled by stands where the others listen, so that it is known when it has started.
        return ["rtpengine", "--table=-1", f"--interface={ADDRESS}", f"--listen-ng={ADDRESS}:5060", "--port-min=30000",
                "--port-max=39999", "--foreground", "--log-stderr", "--log-level=1", "--num-threads=2"]

    def flows(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            control.settimeout(PATIENCE_S)
            control.connect((ADDRESS, 5060))
            for call in range(CALLS):
                caller, callee = CALLERS + 2 * call, CALLEES + 2 * call
                words = {"call-id": f"c{call}", "from-tag": "a", "ICE": "remove", "flags": ["trust-address"]}
                to_callee = ask(control, words | {"command": "offer", "sdp": description(caller)})
                to_caller = ask(control, words | {"command": "answer", "to-tag": "b", "sdp": description(callee)})
                yield f"{ADDRESS}:{caller} {place(to_caller)}"
                yield f"{ADDRESS}:{callee} {place(to_callee)}"


def ask(control, words):
    """A request of rtpengine's `ng` protocol: a cookie, then a bencoded dictionary."""
    control.send(b"1" + os.urandom(4).hex().encode() + b" " + bencoded(words))
    return control.recv(65_535).decode()


def bencoded(value):
    if isinstance(value, dict):
        return b"d" + b"".join(bencoded(key) + bencoded(value[key]) for key in sorted(value)) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(map(bencoded, value)) + b"e"
    return b"%d:%s" % (len(value.encode()), value.encode())


def measure(test, server, rate, options):
    """CPU of the relay for each packet that came through, microseconds."""
    with server.running() as pid:
        path = f"{HERE}/run/flows"
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in server.flows())
        settle(pid)
        command = [f"{HERE}/pin.sh", "1", options.load, "flood", "--flows", path, "--pid", pid, "--rate", rate,
                   "--duration", options.seconds, "--label", f"{test}-{rate or 'saturated'}"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout:
        raise Broken(f"{server.name}: {done.stderr.strip() or 'the load generator said nothing'}")
    measured = json.loads(done.stdout)
    with open(options.raw, "a", encoding="utf-8") as raw:
        raw.write(json.dumps(measured | {"server": server.name}) + "\n")
    if measured["lost_share"] > 0.01:
        raise Broken(f"{server.name} lost {measured['lost_share']:.1%} of the packets")
    return measured["cpu_us_op"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", required=True, help="the program under test")
    parser.add_argument("--load", required=True, help="the load generator")
    parser.add_argument("--tests", default="rtp,turn", help="which of rtp and turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--raw", default=f"{HERE}/run/media.jsonl", help="where every measurement is written")
    options = parser.parse_args()
    os.makedirs(f"{HERE}/run", exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(options.raw)
    node = options.node
    pairs = {"rtp": (CarryingNode(node), RtpEngine()), "turn": (RelayingNode(node), Coturn())}
    pairs = {test: servers for test, servers in pairs.items() if test in options.tests.split(",")}
    found = {(test, rate, server.name): [] for test, servers in pairs.items() for rate in RATES for server in servers}
    for number in range(options.rounds):
        for test, servers in pairs.items():
            for rate in RATES:
                for server in servers:
                    try:
                        found[test, rate, server.name].append(measure(test, server, rate, options))
                    except (Broken, TimeoutError) as error:
                        print(f"{server.name}: {error}", file=sys.stderr)
                        return 1
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    failed = False
    for test, servers in pairs.items():
        for rate in RATES:
            ours, theirs = (statistics.median(found[test, rate, server.name]) for server in servers)
            name = f"{test}-{rate or 'saturated'}"
            print(f"{name:15} meshtone {ours:6.2f} us CPU, {servers[1].name} {theirs:6.2f}")
            failed |= ours / theirs > LIMIT
            print(f"{name} {ours / theirs:.2f}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
