#!/usr/bin/env python3
"""Much data through a connect service, checksummed: a gigabyte each way with CORDON_FULL=1.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/transfer_test.py
"""

import hashlib
import os
import random
import socket
import ssl
import tempfile
import time
import unittest

import cordon
from backends import Backend
from real_tree import TIME_LIMIT_S, Cordon, count, give_folder, make_certificates, serve

BLOCK_SIZE = 1 << 20


def send_stream(sock, size):
    """Blocks that all differ; gives the digest of what was sent."""
    digest = hashlib.sha256()
    block = bytearray(random.Random(4711).randbytes(BLOCK_SIZE))
    sent = 0
    while sent < size:
        block[:8] = sent.to_bytes(8, "big")
        part = memoryview(block)[:size - sent]
        sock.sendall(part)
        digest.update(part)
        sent += len(part)
    return digest.hexdigest()


def receive_stream(sock):
    """To the clean end; gives size and digest."""
    digest = hashlib.sha256()
    received = 0
    while part := sock.recv(1 << 18):
        digest.update(part)
        received += len(part)
    return received, digest.hexdigest()


class TransferTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        make_certificates(cls.folder.name)
        give_folder(cls.folder.name)
        cls.cordon = Cordon(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        status = cls.cordon.stop()
        log = cls.cordon.log()
        cls.folder.cleanup()
        assert status == 0, "cordond ended with %r:\n%s" % (status, log[-10000:])

    def setUp(self):
        self.client = cordon.open(self.cordon.socket)
        self.addCleanup(self.client.close)
        self.size = count(64 << 20, 1 << 30) + 4711         # no multiple of anything

    def call(self, backend):
        port = serve(self.client, {"connect": backend.address},
                     certfile=os.path.join(self.folder.name, "web.pem"))
        context = ssl.create_default_context(cafile=os.path.join(self.folder.name, "ca.pem"))
        tcp = socket.create_connection(("127.0.0.1", port), TIME_LIMIT_S)
        return context.wrap_socket(tcp, server_hostname="localhost", suppress_ragged_eofs=False)

    def measured(self, what, start):
        took = time.monotonic() - start
        print("\nmeasured %s of %d bytes through a connect service: %.0f MB/s"
              % (what, self.size, self.size / took / 1e6), flush=True)

    def check_closed(self, events, **moved):
        closed = events.next(TIME_LIMIT_S)
        self.assertEqual(dict(moved, how="close_notify"),
                         {key: closed.get(key) for key in ("how", *moved)}, closed)

    def test_download(self):
        sent = []

        def backend(sock):
            sent.append(send_stream(sock, self.size))
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(b"", sock.recv(1))

        start = time.monotonic()
        with self.client.subscribe(["connection_closed"]) as events:
            with Backend(backend) as server, self.call(server) as tls:
                received = receive_stream(tls)
                tls.unwrap()
            self.check_closed(events, out=self.size)
        self.assertEqual((self.size, *sent), received)
        self.measured("a download", start)

    def test_upload(self):
        received = []

        def backend(sock):
            received.append(receive_stream(sock))

        start = time.monotonic()
        with self.client.subscribe(["connection_closed"]) as events:
            with Backend(backend) as server, self.call(server) as tls:
                sent = send_stream(tls, self.size)
                tls.unwrap()
            self.check_closed(events, **{"in": self.size})
        self.assertEqual([(self.size, sent)], received)
        self.measured("an upload", start)


if __name__ == "__main__":
    unittest.main()
