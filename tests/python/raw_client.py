#!/usr/bin/env python3
"""raw_client.py CONTROL_SOCKET HOST PORT CACERTFILE: a TLS client without a library.

Connects to a server whose certificate must be valid for HOST, sends its standard
input, prints what comes back and says on standard error how the connection ended.
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


cacertfile = os.open(sys.argv[4], os.O_RDONLY)
send(1, "ssl.connect", {"host": sys.argv[2], "port": int(sys.argv[3]), "options": {
    "cacertfile": {"fd_index": 0}, "verify_hostname": sys.argv[2]}}, [cacertfile])
reply, fds = receive()
if "error" in reply:
    sys.exit(json.dumps(reply["error"]["data"]))
result = reply["result"]
with socket.socket(fileno=fds[result["data"]["fd_index"]]) as plain:
    plain.sendall(sys.stdin.buffer.read())
    plain.shutdown(socket.SHUT_WR)              # close_notify goes out
    while data := plain.recv(65536):
        sys.stdout.buffer.write(data)
event, _ = receive()                            # the one last event says why it ended
print(event["method"], event["params"].get("how"), result["info"]["protocol"], file=sys.stderr)
