"""peer.py PORT VERSION CA [CERTIFICATE]: a TLS client that is a pipe, with Python's ssl.

stdin goes to web.localhost, whose echo goes to stdout.  Version and ALPN go to stderr.
"""
import os
import select
import socket
import ssl
import sys

port, version, ca = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = {
    "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
context.set_alpn_protocols(["other/1", "echo/1"])
if len(sys.argv) > 4:
    context.load_cert_chain(sys.argv[4])

with socket.create_connection(("127.0.0.1", port), 60) as tcp, \
        context.wrap_socket(tcp, server_hostname="web.localhost",
                            suppress_ragged_eofs=False) as tls:
    print(tls.version(), tls.selected_alpn_protocol(), file=sys.stderr, flush=True)
    while True:
        if tls in select.select([0, tls], [], [])[0]:
            tls.setblocking(False)
            try:
                if not tls.recv(1):
                    break               # the other side ends first
                sys.exit("more than an echo")
            except ssl.SSLWantReadError:
                tls.settimeout(60)
            continue
        data = os.read(0, 32768)
        if not data:
            break
        tls.sendall(data)
        missing = len(data)
        while missing > 0 and (data := tls.recv(missing)):
            missing -= len(data)
            sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    tls.settimeout(60)
    tls.unwrap()                        # waits for the other side's close_notify
