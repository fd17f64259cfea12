"""A TURN client that sets allocations up for the load generator: an allocation belongs to an address, not to a socket, so that the
generator can take the ports over once these are closed."""

import hashlib
import hmac
import os
import socket
import struct

from servers import Broken

MAGIC = 0x2112A442
ALLOCATE, CHANNEL_BIND = 3, 9
USERNAME, INTEGRITY, CHANNEL_NUMBER, LIFETIME, PEER, REALM, NONCE, RELAYED, TRANSPORT = (
    0x06, 0x08, 0x0C, 0x0D, 0x12, 0x14, 0x15, 0x16, 0x19)
# So that nothing has to be refreshed while it is measured.
AN_HOUR = struct.pack("!I", 3600)
OVER_UDP = b"\x11\0\0\0"


def flows(address, server, login, calls, clients, peers):
    """Sets all calls up; yields lines for the generator: of the client, with its channel, and of the peer."""
    for call in range(calls):
        client, peer, channel = clients + 2 * call, peers + 2 * call, 0x4000 + call
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.bind((address, client))
            sock.connect((address, server))
            _, challenge = exchange(sock, ALLOCATE, [attribute(TRANSPORT, OVER_UDP)])
            proof = (*login, challenge[REALM], challenge[NONCE])
            wanted = [attribute(TRANSPORT, OVER_UDP), attribute(LIFETIME, AN_HOUR)]
            code, allocated = exchange(sock, ALLOCATE, wanted, proof)
            if code != 0x103:
                raise Broken(f"no allocation: {code:#x} {allocated}")
            wanted = [attribute(CHANNEL_NUMBER, struct.pack("!HH", channel, 0)), attribute(PEER, mixed(address, peer))]
            code, bound = exchange(sock, CHANNEL_BIND, wanted, proof)
            if code != 0x109:
                raise Broken(f"no channel: {code:#x} {bound}")
        yield f"{address}:{client} {address}:{server} {channel}"
        yield f"{address}:{peer} {plain(allocated[RELAYED])}"


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def mixed(address, port):
    ip, = struct.unpack("!I", socket.inet_aton(address))
    return struct.pack("!BBHI", 0, 1, port ^ (MAGIC >> 16), ip ^ MAGIC)


def plain(value):
    port, ip = struct.unpack("!HI", value[2:8])
    return f"{socket.inet_ntoa(struct.pack('!I', ip ^ MAGIC))}:{port ^ (MAGIC >> 16)}"


def exchange(sock, method, attributes, proof=None):
    """A request and its answer: the type, and the attributes by their numbers."""
    transaction, body = os.urandom(12), b"".join(attributes)
    if proof:
        user, password, realm, nonce = proof
        key = hashlib.md5(b":".join([user.encode(), realm, password.encode()])).digest()
        body += attribute(USERNAME, user.encode()) + attribute(REALM, realm) + attribute(NONCE, nonce)
        head = struct.pack("!HHI", method, len(body) + 24, MAGIC) + transaction
        body += attribute(INTEGRITY, hmac.new(key, head + body, hashlib.sha1).digest())
    sock.send(struct.pack("!HHI", method, len(body), MAGIC) + transaction + body)
    answer, found, at = sock.recv(2048), {}, 20
    while at + 4 <= len(answer):
        kind, length = struct.unpack_from("!HH", answer, at)
        found[kind] = answer[at + 4:at + 4 + length]
        at += 4 + length + (-length % 4)
    return struct.unpack_from("!H", answer)[0], found
