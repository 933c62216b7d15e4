#!/usr/bin/env python3
"""lib_starttls.py CONTROL_SOCKET CERTFILE CACERTFILE: raw_starttls.py with the library."""
import concurrent.futures
import os
import socket
import sys
sys.path.insert(0, os.environ.get("CORDON_PYTHON", sys.path[0] + "/../../api/python"))
import cordon  # noqa: E402

client, server = socket.socketpair()
client.sendall(b"STARTTLS\n")
server.sendall(b"220 go ahead\n" if server.recv(100) == b"STARTTLS\n" else b"500 what?\n")
assert client.recv(100) == b"220 go ahead\n"
with cordon.open(sys.argv[1]) as c, concurrent.futures.ThreadPoolExecutor() as threads:
    accepted = threads.submit(c.upgrade, server, "server", certfile=sys.argv[2])
    conn = c.upgrade(client, "client", cacertfile=sys.argv[3], verify_hostname="localhost")
    with conn.socket() as near, accepted.result().socket() as far:
        near.sendall(b"hello"), far.sendall(far.recv(100).upper())
        print(near.recv(100).decode())
