#!/usr/bin/env python3
"""raw_server.py CONTROL_SOCKET CERTFILE: echoes one TLS connection, in capitals, without a library.

Prints the port; then accepts, shakes hands, receives the descriptor, echoes, closes.
"""
import array
import json
import os
import socket
import sys

control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
received, descriptors = bytearray(), []         # not yet a line, not yet anybody's


def send(id, method, params, fds=()):
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params, "fds": len(fds)}
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    line = json.dumps(message).encode() + b"\n"
    control.sendall(line[control.sendmsg([line], rights):])


def receive():
    """The next line, a reply or an event, and its descriptors: first in, first out."""
    while b"\n" not in received:
        data, controls, flags, _ = control.recvmsg(65536, 4096, socket.MSG_CMSG_CLOEXEC)
        if not data or flags & socket.MSG_CTRUNC:
            sys.exit("the control connection has ended")
        received.extend(data)
        for _, _, rights in controls:
            descriptors.extend(array.array("i", rights))
    line, _, rest = bytes(received).partition(b"\n")
    received[:] = rest
    message = json.loads(line)
    return message, [descriptors.pop(0) for _ in range(message.get("fds", 0))]


def call(method, params, fds=()):
    send(method, method, params, fds)
    while True:
        message, its_fds = receive()
        if message.get("id") == method:
            return message["result"] if "result" in message else sys.exit(message["error"]), its_fds


certfile = os.open(sys.argv[2], os.O_RDONLY)
listener, _ = call("ssl.listen", {"listen": {"address": "127.0.0.1", "port": 0},
                                  "options": {"certfile": {"fd_index": 0}}}, [certfile])
print(listener["port"], flush=True)
conn = call("ssl.transport_accept", {"listener": listener["listener"]})[0]["conn"]
result, fds = call("ssl.handshake", {"conn": conn, "timeout": 10000})
print(result["info"]["protocol"], flush=True)
with socket.socket(fileno=fds[result["data"]["fd_index"]]) as plain:
    while data := plain.recv(65536):
        plain.sendall(data.upper())
call("ssl.close", {"conn": conn})
call("ssl.close", {"listener": listener["listener"]})
