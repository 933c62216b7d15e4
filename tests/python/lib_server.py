#!/usr/bin/env python3
"""lib_server.py CONTROL_SOCKET CERTFILE: raw_server.py with the library."""
import os
import sys

sys.path.insert(0, os.environ.get("CORDON_PYTHON", sys.path[0] + "/../../api/python"))
import cordon  # noqa: E402

with cordon.open(sys.argv[1]) as c:
    with c.listen(port=0, address="127.0.0.1", certfile=sys.argv[2]) as listener:
        print(listener.port, flush=True)
        conn = listener.accept()                # its handshake is complete
        print(conn.info["protocol"], flush=True)
        with conn, conn.socket() as s:
            while data := s.recv(65536):
                s.sendall(data.upper())
