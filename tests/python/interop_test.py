#!/usr/bin/env python3
"""Other people's TLS clients, through services of a real Cordon, in TLS 1.2 and 1.3.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/interop_test.py

Each verifies the certificate, sends its server name, agrees on ALPN, has a few hundred KB echoed
and sees a clean end, whoever ends first; and each says what is wrong when one does not trust the
other.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

import cordon
from backends import Backend, read_all, read_head
from real_tree import (TIME_LIMIT_S, Cordon, give_folder, make_ca, make_certificate, serve)

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
VERSIONS = ("1.2", "1.3")
# Lines of digits: s_client takes some letters for commands.
DATA = b"".join(b"%063d\n" % n for n in range(300_000 // 64))


class Peer:
    """A client program that is a pipe: how it is called, and what it says.

    established     when all is well
    distrusts       when it does not know the CA of the server
    alert           the alert that it sends then; None: it just leaves, before or after the end of
                    the handshake
    is_refused      when the server does not want its certificate
    says_goodbye    it answers a close_notify with one
    """

    alert = "unknown_ca"
    is_refused = r"alert unknown ca"
    says_goodbye = True

    def serve(self, sock, server_ends_first):
        """The backend: echoes."""
        echoed = 0
        while part := sock.recv(65536):
            sock.sendall(part)
            echoed += len(part)
            if server_ends_first and echoed == len(DATA):
                sock.shutdown(socket.SHUT_WR)

    def talk(self, process, data, server_ends_first):
        """What it printed, while data goes into its stdin."""
        def feed():
            try:
                process.stdin.write(data)
                process.stdin.flush()
            except BrokenPipeError:
                pass                    # its exit status says more

        feeder = threading.Thread(target=feed)
        feeder.start()
        answer = process.stdout.read(-1 if server_ends_first else len(data))
        feeder.join()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        return answer + process.stdout.read()


class Python(Peer):
    established = r"TLSv{version} echo/1"
    distrusts = r"CERTIFICATE_VERIFY_FAILED.*unable to get local issuer certificate"

    def command(self, port, version, ca, pem):
        return [sys.executable, os.path.join(PEERS, "peer.py"), str(port), version, ca,
                *([pem] if pem else [])]


class Node(Peer):
    established = r"true TLSv{version} echo/1"
    distrusts = r"unable to (get local issuer certificate|verify the first certificate)"
    alert = None

    def command(self, port, version, ca, pem):
        return ["node", os.path.join(PEERS, "peer.js"), str(port), version, ca,
                *([pem] if pem else [])]


class Java(Peer):
    """Keeps its certificate to itself when the server does not name the CA of it."""

    established = r"TLSv{version} echo/1"
    distrusts = r"SSLHandshakeException.*PKIX path building failed"
    alert = "certificate_unknown"
    is_refused = r"Received fatal alert: (handshake_failure|certificate_required)"

    def command(self, port, version, ca, pem):
        return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                os.path.join(PEERS, "Peer.java"), str(port), version, ca, *([pem] if pem else [])]


class OpenSSL(Peer):
    established = r"Protocol version: TLSv{version}\n(?s:.*)Verification: OK\n" \
                  r"Verified peername: web.localhost\n"
    distrusts = r"verify error:num=20:unable to get local issuer certificate"

    def command(self, port, version, ca, pem):
        return ["openssl", "s_client", "-brief", "-no_ign_eof", "-verify_return_error",
                "-tls" + version.replace(".", "_"), "-alpn", "other/1,echo/1",
                "-servername", "web.localhost", "-verify_hostname", "web.localhost", "-CAfile", ca,
                "-connect", "127.0.0.1:%d" % port, *(["-cert", pem, "-key", pem] if pem else [])]


class GnuTLS(Peer):
    established = r"- Status: The certificate is trusted. \n(?s:.*)- Description: \(TLS{version}" \
                  r"(?s:.*)- Application protocol: echo/1\n"
    distrusts = r"The certificate issuer is unknown"
    alert = "bad_certificate"
    is_refused = r"CA is unknown"
    says_goodbye = False

    def command(self, port, version, ca, pem):
        return ["gnutls-cli", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS" + version,
                "--alpn", "other/1", "--alpn", "echo/1", "--sni-hostname", "web.localhost",
                "--verify-hostname", "web.localhost", "--x509cafile", ca,
                "--logfile", "/dev/stderr", "--port", str(port), "127.0.0.1",
                *(["--x509certfile", pem, "--x509keyfile", pem] if pem else [])]


class Curl(Peer):
    """Speaks HTTP: the backend answers with the body, as long as it says or up to its end."""

    established = r"SSL connection using TLSv{version} (?s:.*)ALPN: server accepted http/1\.1" \
                  r"(?s:.*)SSL certificate verify ok"
    distrusts = r"SSL certificate problem: unable to get local issuer certificate"

    def command(self, port, version, ca, pem):
        return ["curl", "--silent", "--show-error", "--verbose", "--fail", "--http1.1",
                "--tlsv" + version, "--tls-max", version, "--cacert", ca, "--data-binary", "@-",
                "--header", "Expect:", *(["--cert", pem] if pem else []),
                "--resolve", "web.localhost:%d:127.0.0.1" % port,
                "https://web.localhost:%d/" % port]

    def serve(self, sock, server_ends_first):
        head, body = read_head(sock)
        while len(body) < len(DATA):
            body += sock.recv(65536)
        length = b"" if server_ends_first else b"Content-Length: %d\r\n" % len(body)
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body)
        if server_ends_first:
            sock.shutdown(socket.SHUT_WR)
        if read_all(sock):
            raise AssertionError("more than a request")

    def talk(self, process, data, server_ends_first):
        process.stdin.write(data)
        process.stdin.close()
        return process.stdout.read()


class InteropTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        make_ca(cls.folder.name, "ca")
        make_certificate(cls.folder.name, "web", "ca", "DNS:web.localhost,DNS:localhost")
        make_ca(cls.folder.name, "other_ca")
        make_certificate(cls.folder.name, "stranger", "other_ca")
        give_folder(cls.folder.name)
        cls.cordon = Cordon(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        status = cls.cordon.stop()
        log = cls.cordon.log()
        cls.folder.cleanup()
        assert status == 0, "cordond ended with %r:\n%s" % (status, log)

    def setUp(self):
        self.client = cordon.open(self.cordon.socket)
        self.addCleanup(self.client.close)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def service(self, backend, **options):
        return serve(self.client, {"connect": backend.address}, certfile=self.path("web.pem"),
                     alpn_preferred_protocols=["echo/1", "http/1.1"], **options)

    def start(self, command):
        errors = tempfile.TemporaryFile()
        self.addCleanup(errors.close)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=errors, cwd=self.folder.name)
        timer = threading.Timer(TIME_LIMIT_S, process.kill)
        timer.start()
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(timer.join)
        self.addCleanup(timer.cancel)

        def said():
            errors.seek(0)
            return errors.read().decode(errors="replace")

        return process, said

    def next_event(self, events, type):
        event = events.next(TIME_LIMIT_S)
        self.assertEqual(type, event["type"], (event, self.cordon.log()[-3000:]))
        return event

    def check_echo(self, peer, version, server_ends_first):
        is_clean = peer.says_goodbye or not server_ends_first

        def serve(sock):
            try:
                peer.serve(sock, server_ends_first)
                self.assertTrue(is_clean)
            except ConnectionResetError:
                self.assertFalse(is_clean)

        with Backend(serve) as backend, \
                self.client.subscribe(["connection_established", "connection_failed",
                                       "connection_closed"]) as events:
            port = self.service(backend)
            process, said = self.start(peer.command(port, version, self.path("ca.pem"), None))
            answer = peer.talk(process, DATA, server_ends_first)
            status = process.wait()
            self.assertEqual((0, True), (status, answer == DATA), (len(answer), said()[-3000:]))
            self.assertRegex(said(), peer.established.format(version=version.replace(".", r"\.")))
            info = self.next_event(events, "connection_established")["info"]
            alpn = "http/1.1" if isinstance(peer, Curl) else "echo/1"
            self.assertEqual(("tlsv" + version, "web.localhost", alpn),
                             (info["protocol"], info["sni_hostname"], info["alpn"]))
            closed = self.next_event(events, "connection_closed")
            self.assertEqual("close_notify" if is_clean else "truncated", closed.get("how"), closed)
            self.assertGreaterEqual(closed["in"], len(DATA))
            self.assertGreaterEqual(closed["out"], len(DATA))

    def check_delivery(self, deliver):
        """What Cordon does without a backend of ours."""
        for peer in (Python(), OpenSSL(), GnuTLS()):
            with self.subTest(peer=type(peer).__name__):
                port = serve(self.client, deliver, certfile=self.path("web.pem"),
                             alpn_preferred_protocols=["echo/1"])
                process, said = self.start(peer.command(port, "1.3", self.path("ca.pem"), None))
                answer = peer.talk(process, DATA, False)
                self.assertEqual((0, True), (process.wait(), answer == DATA),
                                 (len(answer), said()[-3000:]))

    def check_refusal(self, peer, version, ca, **options):
        """Neither side sees a byte of the other's; gives what the peer said and Cordon's event."""
        heard = []

        def serve(sock):
            try:
                heard.append(sock.recv(1))
            except ConnectionResetError:
                pass

        with Backend(serve) as backend, \
                self.client.subscribe(["connection_failed", "connection_closed"]) as events:
            port = self.service(backend, **options)
            process, said = self.start(peer.command(port, version, self.path(ca),
                                                    self.path("stranger.pem")))
            self.assertEqual(b"", peer.talk(process, b"secret\n", True))
            self.assertGreater(process.wait(), 0, (said(), self.cordon.log()[-3000:]))
            event = events.next(TIME_LIMIT_S)
        self.assertEqual([], heard)
        return said(), event

    def check_distrust(self, peer, version):
        said, event = self.check_refusal(peer, version, "other_ca.pem")
        self.assertRegex(said, peer.distrusts)
        if peer.alert:
            self.assertEqual(("connection_failed", "peer", peer.alert),
                             (event["type"], event.get("sent_by"), event.get("alert")), event)
        else:
            self.assertIn((event["type"], event.get("reason") or event.get("how")),
                          (("connection_failed", "closed"), ("connection_closed", "truncated")))

    def check_mistrust(self, peer, version):
        said, event = self.check_refusal(peer, version, "ca.pem", verify="verify_peer",
                                         cacertfile=self.path("ca.pem"), fail_if_no_peer_cert=True)
        self.assertRegex(said, peer.is_refused)
        self.assertEqual(("connection_failed", "local"), (event["type"], event.get("sent_by")),
                         event)

    def check(self, peer):
        for version in VERSIONS:
            for server_ends_first in (False, True):
                with self.subTest("echo", version=version, server_ends_first=server_ends_first):
                    self.check_echo(peer, version, server_ends_first)
            with self.subTest("the client does not know the CA", version=version):
                self.check_distrust(peer, version)
            with self.subTest("Cordon does not know the CA", version=version):
                self.check_mistrust(peer, version)

    def s_server(self, version):
        """`openssl s_server` for one connection, sends each line back reversed; gives its port."""
        process, said = self.start(
            ["openssl", "s_server", "-rev", "-naccept", "1", "-accept", "127.0.0.1:0",
             "-tls" + version.replace(".", "_"), "-cert", self.path("web.pem")])
        while not (line := process.stdout.readline()).startswith(b"ACCEPT"):
            self.assertNotEqual(b"", line, said())
        return process, said, int(line.rpartition(b":")[2])

    def call_outwards(self, port, ca):
        """A plain connection to a service that calls this port of localhost with TLS."""
        with open(self.path(ca), "rb") as file:
            listener = self.client.call(
                "ssl.listen", {"listen": {"address": "127.0.0.1", "port": 0}, "deliver": {
                    "client": {"host": "localhost", "port": port,
                               "options": {"cacertfile": {"fd_index": 0}}}}}, [file.fileno()])
        plain = socket.create_connection(("127.0.0.1", listener["port"]), TIME_LIMIT_S)
        self.addCleanup(plain.close)
        return plain

    def test_plain_in_and_tls_out_to_openssl(self):
        for version in VERSIONS:
            with self.subTest(version=version), \
                    self.client.subscribe(["connection_established"]) as events:
                process, said, port = self.s_server(version)
                plain = self.call_outwards(port, "ca.pem")
                with plain.makefile("rb") as lines:
                    for line in DATA.splitlines(True)[:1000]:
                        plain.sendall(line)
                        self.assertEqual(line[-2::-1] + b"\n", lines.readline())
                info = self.next_event(events, "connection_established")["info"]
                self.assertEqual(("client", "tlsv" + version), (info["role"], info["protocol"]))
                plain.shutdown(socket.SHUT_WR)
                self.assertEqual(b"", plain.recv(1))
                self.assertEqual(0, process.wait())
                self.assertIn("Protocol version: TLSv" + version, said())

    def test_tls_out_to_an_openssl_that_is_not_trusted(self):
        for version in VERSIONS:
            with self.subTest(version=version), \
                    self.client.subscribe(["connection_failed"]) as events:
                process, said, port = self.s_server(version)
                plain = self.call_outwards(port, "other_ca.pem")
                with self.assertRaises(ConnectionResetError):
                    plain.sendall(b"secret\n")
                    plain.recv(1)
                event = self.next_event(events, "connection_failed")
                self.assertEqual(("local", "unknown_ca"), (event["sent_by"], event["alert"]), event)
                process.wait()
                self.assertIn("alert unknown ca", said())

    def test_echo(self):
        self.check_delivery({"echo": True})

    def test_exec(self):
        self.check_delivery({"exec": ["/bin/cat"]})

    def test_curl(self):
        self.check(Curl())

    def test_openssl(self):
        self.check(OpenSSL())

    def test_gnutls(self):
        self.check(GnuTLS())

    def test_python(self):
        self.check(Python())

    def test_node(self):
        self.check(Node())

    def test_java(self):
        self.check(Java())


if __name__ == "__main__":
    unittest.main()
