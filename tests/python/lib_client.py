#!/usr/bin/env python3
"""lib_client.py CONTROL_SOCKET HOST PORT CACERTFILE: raw_client.py with the library."""
import os
import socket
import sys

sys.path.insert(0, os.environ.get("CORDON_PYTHON", sys.path[0] + "/../../api/python"))
import cordon  # noqa: E402

with cordon.open(sys.argv[1]) as c:
    conn = c.connect(sys.argv[2], int(sys.argv[3]), cacertfile=sys.argv[4])
    with conn.socket() as s:
        s.sendall(sys.stdin.buffer.read())
        s.shutdown(socket.SHUT_WR)              # close_notify goes out
        while data := s.recv(65536):
            sys.stdout.buffer.write(data)
    ending = conn.wait_ending()
    print(ending["event"], ending.get("how"), conn.info["protocol"], file=sys.stderr)
