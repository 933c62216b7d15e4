#!/usr/bin/env python3
"""owner.py CONTROL_SOCKET CERTFILE...: an owner program that echoes every connection.

Prints the ports as a JSON list; ends with its standard input.  One loop, no library: what it
costs is not what is measured, but it must not be what is waited for either.
"""
import array
import collections
import json
import os
import select
import socket
import sys

control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
received, descriptors = bytearray(), collections.deque()
epoll = select.epoll()
data = {}               # number of a descriptor -> socket


def send(method, params, fds=()):
    message = {"jsonrpc": "2.0", "id": method, "method": method, "params": params,
               "fds": len(fds)}
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    line = json.dumps(message).encode() + b"\n"
    control.sendall(line[control.sendmsg([line], rights):])


def receive():
    """Yields the messages of one recvmsg, with their descriptors."""
    chunk, controls, _, _ = control.recvmsg(65536, 4096, socket.MSG_CMSG_CLOEXEC)
    if not chunk:
        sys.exit("the control connection has ended")
    for _, _, rights in controls:
        descriptors.extend(array.array("i", rights))
    received.extend(chunk)
    *lines, rest = bytes(received).split(b"\n")
    received[:] = rest
    for line in lines:
        message = json.loads(line)
        yield message, [descriptors.popleft() for _ in range(message.get("fds", 0))]


def listen(certfile):
    fd = os.open(certfile, os.O_RDONLY)
    send("ssl.listen", {"listen": {"address": "127.0.0.1", "port": 0},
                        "options": {"certfile": {"fd_index": 0}}, "accept": "auto"}, [fd])
    os.close(fd)
    while True:
        for message, _ in receive():
            if message.get("id") == "ssl.listen":
                return message["result"]["port"] if "result" in message else sys.exit(message)


def handle_event(message, fds):
    if message.get("method") == "ssl_accepted":
        s = socket.socket(fileno=fds[0])
        data[s.fileno()] = s
        epoll.register(s, select.EPOLLIN)
    elif message.get("method") in ("ssl_closed", "ssl_error"):
        # The handle is kept for questions until it is closed.
        send("ssl.close", {"conn": message["params"]["conn"]})


def echo(s):
    try:
        chunk = s.recv(65536)
        s.sendall(chunk)
    except OSError:         # the load has gone in the middle of it
        chunk = b""
    if not chunk:
        del data[s.fileno()]
        s.close()


print(json.dumps([listen(name) for name in sys.argv[2:]]), flush=True)
epoll.register(control, select.EPOLLIN)
epoll.register(sys.stdin, select.EPOLLIN)
while True:
    for number, _ in epoll.poll():
        if number == control.fileno():
            for message, fds in receive():
                handle_event(message, fds)
        elif number == sys.stdin.fileno():
            sys.exit(0)
        elif number in data:
            echo(data[number])
