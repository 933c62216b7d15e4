"""The load generator of scripts/bench counts what happens, and says what does not."""

import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

LOAD = os.path.join(os.environ["CORDON_ROOT"], "tests/bench_load")


def load(*arguments):
    return subprocess.run([LOAD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)


@unittest.skipUnless(os.path.exists(LOAD), "built where OpenSSL's headers are (libssl-dev)")
class LoadTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.pem = os.path.join(folder.name, "pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=a",
                        "-keyout", self.pem, "-out", self.pem + ".cert"],
                       check=True, stderr=subprocess.DEVNULL)

    def serve(self, serve_one):
        """Serves one connection after the other; its port."""
        listener = socket.create_server(("127.0.0.1", 0))

        def run():
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return          # the test is over
                try:
                    serve_one(plain)
                except OSError:
                    pass            # the load has what it wanted
                finally:
                    plain.close()

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(listener.close)
        self.addCleanup(thread.join)
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)
        return str(listener.getsockname()[1])

    def serve_tls_echo(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem + ".cert", self.pem)

        def serve_one(plain):
            with context.wrap_socket(plain, server_side=True) as s:
                while data := s.recv(100):
                    s.sendall(data)

        return self.serve(serve_one)

    def test_counts_its_handshakes(self):
        for version, name in (("1.3", "TLSv1.3"), ("1.2", "TLSv1.2")):
            with self.subTest(version):
                done = load("handshakes", "--port", self.serve_tls_echo(), "--count", "20",
                            "--clients", "3", "--tls", version)
                self.assertEqual("", done.stderr)
                result = json.loads(done.stdout)
                self.assertEqual((20, 0, 0), (result["done"], result["resumed"], result["failed"]))
                self.assertEqual((name, "X25519"), (result["protocol"], result["group"]))

    def test_resumes_when_told_to(self):
        done = load("handshakes", "--port", self.serve_tls_echo(), "--count", "20", "--resume")
        result = json.loads(done.stdout)
        self.assertEqual((20, 19), (result["done"], result["resumed"]))

    def test_backend_echoes(self):
        backend = subprocess.Popen([LOAD, "backend"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        with backend, socket.create_connection(
                ("127.0.0.1", json.loads(backend.stdout.readline())["port"])) as s:
            s.sendall(b"Echo this")
            self.assertEqual(b"Echo this", s.recv(100))
            backend.stdin.close()
        self.assertEqual(0, backend.returncode)

    def test_peer_that_speaks_no_tls_is_named(self):
        def serve_one(plain):
            plain.recv(1000)
            plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = self.serve(serve_one)
        done = load("handshakes", "--port", port, "--count", "3")
        self.assertEqual(1, done.returncode)
        self.assertIn("127.0.0.1:%s: handshake: wrong version number" % port, done.stderr)

    def test_nobody_listens_is_said(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            done = load("handshakes", "--port", str(s.getsockname()[1]), "--count", "3")
        self.assertEqual(1, done.returncode)
        self.assertIn("connect: Connection refused", done.stderr)

    def test_number_that_is_none_is_refused(self):
        done = load("handshakes", "--port", "many")
        self.assertEqual(2, done.returncode)
        self.assertIn("many: a number of at least 1 is needed", done.stderr)


if __name__ == "__main__":
    unittest.main()
