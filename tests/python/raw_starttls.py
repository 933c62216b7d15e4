#!/usr/bin/env python3
"""raw_starttls.py CONTROL_SOCKET CERTFILE CACERTFILE: STARTTLS on both ends, without a library.

Two ends of a TCP connection agree on TLS in plain text, then Cordon takes both.
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


def upgrade(role, sock, options, *files):
    send(role, "ssl.upgrade", {"fd_index": 0, "role": role, "options": options},
         [sock.fileno()] + [os.open(name, os.O_RDONLY) for name in files])
    sock.close()                                # it is Cordon's now


with socket.create_server(("127.0.0.1", 0)) as listener:
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
client.sendall(b"STARTTLS\n")
server.sendall(b"220 go ahead\n" if server.recv(100) == b"STARTTLS\n" else b"500 what?\n")
assert client.recv(100) == b"220 go ahead\n"
upgrade("server", server, {"certfile": {"fd_index": 1}}, sys.argv[2])
upgrade("client", client, {"cacertfile": {"fd_index": 1}, "verify_hostname": "localhost"},
        sys.argv[3])
ends = {}
for reply, fds in (receive(), receive()):       # the replies come in any order
    ends[reply["id"]] = socket.socket(fileno=fds[0]) if fds else sys.exit(json.dumps(reply))
ends["client"].sendall(b"hello")
ends["server"].sendall(ends["server"].recv(100).upper())
print(ends["client"].recv(100).decode())
