#!/usr/bin/env python3
"""Runs the programs beside this file against a real Cordon and real peers.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/programs_test.py

raw_*.py use a Unix socket, JSON and recvmsg alone; lib_*.py do the same with
cordon.py.  Peers are `openssl s_client` and Python's ssl.
"""

import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

from real_tree import TIME_LIMIT_S, Cordon, give_folder, make_certificates

HERE = os.path.dirname(os.path.abspath(__file__))


class ProgramsTest(unittest.TestCase):
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
        assert status == 0, "cordond ended with %r:\n%s" % (status, log)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, program, *arguments, **kwargs):
        process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, program), self.cordon.socket, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def ends(self, process, status, data=None):
        out, err = process.communicate(data, timeout=TIME_LIMIT_S)
        self.assertEqual(status, process.returncode,
                         (out, err.decode(errors="replace"), self.cordon.log()[-5000:]))
        return out.decode(), err.decode()

    # Servers.

    def check_server(self, program, peer):
        server = self.start(program, self.path("web.pem"))
        port = int(server.stdout.readline() or self.ends(server, 0)[1])
        peer(port)
        self.assertEqual("tlsv1.3\n", self.ends(server, 0)[0])

    def python_peer(self, port):
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        with socket.create_connection(("127.0.0.1", port), TIME_LIMIT_S) as tcp, \
                context.wrap_socket(tcp, server_hostname="localhost") as tls:
            for text in (b"hello", b"world" * 5000):
                tls.sendall(text)
                echo = b""
                while len(echo) < len(text):
                    echo += tls.recv(65536)
                self.assertEqual(text.upper(), echo)
            tls.unwrap()                # both directions end with close_notify

    def openssl_peer(self, port):
        client = subprocess.Popen(
            ["openssl", "s_client", "-quiet", "-verify_return_error", "-no_ign_eof",
             "-CAfile", self.path("ca.pem"), "-servername", "localhost",
             "-verify_hostname", "localhost", "-connect", "127.0.0.1:%d" % port],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with client:
            client.stdin.write(b"hello\n")
            client.stdin.flush()
            self.assertEqual(b"HELLO\n", client.stdout.readline())
            client.stdin.close()

    def test_raw_server(self):
        self.check_server("raw_server.py", self.python_peer)

    def test_raw_server_and_openssl(self):
        self.check_server("raw_server.py", self.openssl_peer)

    def test_lib_server(self):
        self.check_server("lib_server.py", self.python_peer)

    def test_lib_server_and_openssl(self):
        self.check_server("lib_server.py", self.openssl_peer)

    # Clients.

    def echo_server(self):
        """Serves one connection with Python's ssl; gives its port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("web.pem"))
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(TIME_LIMIT_S)

        def serve():
            with listener:
                tcp, _ = listener.accept()
            try:
                with context.wrap_socket(tcp, server_side=True) as tls:
                    while data := tls.recv(65536):
                        tls.sendall(data.upper())
                    tls.unwrap()
            except OSError:
                pass                    # the client refused us, as some tests want

        thread = threading.Thread(target=serve)
        thread.start()
        self.addCleanup(thread.join)
        return str(listener.getsockname()[1])

    def check_client(self, program):
        client = self.start(program, "localhost", self.echo_server(), self.path("ca.pem"),
                            stdin=subprocess.PIPE)
        out, err = self.ends(client, 0, b"hello")
        self.assertEqual(("HELLO", "ssl_closed close_notify tlsv1.3\n"), (out, err))

    def check_client_refuses_another_name(self, program):
        client = self.start(program, "127.0.0.1", self.echo_server(), self.path("ca.pem"),
                            stdin=subprocess.PIPE)
        out, err = self.ends(client, 1, b"secret")
        self.assertEqual("", out)
        self.assertRegex(err, "tls_alert|TLSAlert")

    def check_client_refuses_another_ca(self, program):
        client = self.start(program, "localhost", self.echo_server(),
                            "/etc/ssl/certs/ca-certificates.crt", stdin=subprocess.PIPE)
        out, err = self.ends(client, 1, b"secret")
        self.assertEqual("", out)
        self.assertRegex(err, "tls_alert|TLSAlert")

    def test_raw_client(self):
        self.check_client("raw_client.py")

    def test_raw_client_refuses_another_name(self):
        self.check_client_refuses_another_name("raw_client.py")

    def test_raw_client_refuses_another_ca(self):
        self.check_client_refuses_another_ca("raw_client.py")

    def test_lib_client(self):
        self.check_client("lib_client.py")

    def test_lib_client_refuses_another_name(self):
        self.check_client_refuses_another_name("lib_client.py")

    def test_lib_client_refuses_another_ca(self):
        self.check_client_refuses_another_ca("lib_client.py")

    # STARTTLS, both ends.

    def check_starttls(self, program):
        process = self.start(program, self.path("web.pem"), self.path("ca.pem"))
        self.assertEqual("HELLO\n", self.ends(process, 0)[0])

    def test_raw_starttls(self):
        self.check_starttls("raw_starttls.py")

    def test_lib_starttls(self):
        self.check_starttls("lib_starttls.py")


class SizeTest(unittest.TestCase):
    def test_programs_are_short_and_raw_ones_use_no_library(self):
        for name in ("server", "client", "starttls"):
            with open(os.path.join(HERE, "raw_%s.py" % name)) as f:
                raw = f.read()
            with open(os.path.join(HERE, "lib_%s.py" % name)) as f:
                lib = f.read()
            self.assertLessEqual(raw.count("\n"), 60, name)
            self.assertLess(lib.count("\n"), 20, name)
            imports = set(re.findall(r"^(?:import|from) (\w+)", raw, re.M))
            self.assertEqual({"array", "json", "os", "socket", "sys"}, imports)


if __name__ == "__main__":
    unittest.main()
