#!/usr/bin/env python3
"""Tests of `cordon connect` against real peers.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/command_connect_test.py
"""

import json
import os
import signal
import socket
import ssl
import tempfile
import unittest

from command_lib import RealTree, Server, descendants, read_to_end, say_goodbye, wait_for_end
from real_tree import TIME_LIMIT_S


class ConnectTest(RealTree):
    def setUp(self):
        self.ca = os.path.join(self.folder.name, "ca.pem")
        self.where = ["--socket", self.cordon.socket]

    def server(self, talk, **options):
        server = Server(talk, self.folder.name, **options)
        self.addCleanup(server.stop)
        return "localhost:%d" % server.port

    def connect(self, address, *arguments, **kwargs):
        return self.command("connect", address, "--cacertfile", self.ca, *self.where, *arguments,
                            **kwargs)

    def answer_at_the_end(self, tls):
        data = read_to_end(tls)
        tls.sendall(data[::-1])
        say_goodbye(tls)

    def test_end_of_input_says_goodbye_and_reading_goes_on(self):
        address = self.server(self.answer_at_the_end)
        self.assertEqual(("olleh", ""), self.ends(self.connect(address), 0, b"hello"))
        self.assertEqual(("", ""), self.ends(self.connect(address), 0, b""))

    def test_every_byte_passes(self):
        data = bytes(range(256)) * 16
        process = self.connect(self.server(self.answer_at_the_end))
        out, _ = process.communicate(data, TIME_LIMIT_S)
        self.assertEqual((data[::-1], 0), (out, process.returncode))

    def test_much_both_ways_at_once_is_no_deadlock(self):
        def echo(tls):
            while True:
                part = tls.recv(65536)
                if not part:
                    break
                tls.sendall(part)
            say_goodbye(tls)

        data = os.urandom(1 << 20) * 16
        process = self.connect(self.server(echo))
        out, _ = process.communicate(data, TIME_LIMIT_S)
        self.assertEqual((len(data), data == out, 0), (len(out), True, process.returncode))

    def test_output_may_be_a_file_or_a_socket(self):
        address = self.server(self.answer_at_the_end)
        data = os.urandom(300000)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
            source.write(data)
            source.seek(0)
            self.ends(self.connect(address, stdin=source, stdout=sink), 0)
            sink.seek(0)
            self.assertEqual(data[::-1], sink.read())
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = self.connect(address, stdin=theirs, stdout=theirs)
            ours.sendall(data[:100000])
            ours.shutdown(socket.SHUT_WR)
            self.assertEqual(data[:100000][::-1], read_to_end(ours))
        self.ends(process, 0)

    def test_the_peers_goodbye_ends_it(self):
        def bye(tls):
            tls.sendall(b"bye\n")
            say_goodbye(tls)

        process = self.connect(self.server(bye))        # its input stays open
        self.assertEqual(b"bye\n", process.stdout.read())
        self.assertEqual(0, process.wait(TIME_LIMIT_S))

    def test_truncation_is_status_4_and_what_came_is_there(self):
        def truncate(tls):
            tls.sendall(b"half")
            with socket.socket(fileno=os.dup(tls.fileno())) as raw:
                raw.shutdown(socket.SHUT_WR)
            tls.recv(1)

        address = self.server(truncate)
        out, err = self.ends(self.connect(address), 4, b"")
        self.assertEqual("half", out)
        self.assertIn("without close_notify", err)
        out, err = self.ends(self.connect(address, "--json"), 4, b"")
        self.assertEqual(("half", "truncated"), (out, json.loads(err)["error"]["data"]["reason"]))

    def test_who_cannot_be_trusted_is_status_4(self):
        address = self.server(self.answer_at_the_end)
        other = address.replace("localhost", "127.0.0.1")
        for arguments, hint in (([address], "cacertfile"),
                                ([other, "--cacertfile", self.ca], "another name"),
                                ([address, "--cacertfile", self.ca, "--servername", "a.test"],
                                 "another name")):
            out, err = self.run_command(4, "connect", *arguments, *self.where)
            self.assertEqual("", out)
            self.assertIn(hint, err)
        _, err = self.run_command(4, "connect", address, *self.where, "--json")
        self.assertEqual("unknown_ca", json.loads(err)["error"]["data"]["alert"])
        self.ends(self.command("connect", other, "--insecure", *self.where), 0, b"x")
        self.ends(self.connect(other, "--servername", "localhost"), 0, b"x")

    def test_a_client_certificate_is_sent(self):
        def subject(tls):
            tls.sendall(str(tls.getpeercert()["subject"]).encode())
            say_goodbye(tls)

        server = Server(subject, self.folder.name)
        self.addCleanup(server.stop)
        server.context.load_verify_locations(self.ca)
        server.context.verify_mode = ssl.CERT_REQUIRED
        address = "localhost:%d" % server.port
        pem = os.path.join(self.folder.name, "web.pem")
        self.assertIn("web", self.ends(self.connect(address, "--certfile", pem), 0, b"")[0])
        self.assertIn("certificate_required", self.ends(self.connect(address), 4, b"")[1])

    def test_alpn_versions_and_info(self):
        def alpn(tls):
            tls.sendall(("%s %s" % (tls.selected_alpn_protocol(), tls.version())).encode())
            say_goodbye(tls)

        server = Server(alpn, self.folder.name)
        self.addCleanup(server.stop)
        server.context.set_alpn_protocols(["http/1.1"])
        address = "localhost:%d" % server.port
        arguments = ["--alpn", "h2,http/1.1", "--versions", "tlsv1.2", "--info"]
        out, err = self.ends(self.connect(address, *arguments), 0, b"")
        self.assertEqual("http/1.1 TLSv1.2", out)
        self.assertRegex(err, r"\nalpn +http/1\.1\n")
        _, err = self.ends(self.connect(address, *arguments, "--json"), 0, b"")
        self.assertEqual("tlsv1.2", json.loads(err)["protocol"])

    def test_what_keeps_it_from_connecting_is_status_1(self):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        self.assertIn("Connection refused", self.ends(self.connect("localhost:%d" % port), 1)[1])
        self.assertIn("resolve", self.ends(self.connect("host.invalid:1"), 1)[1])
        self.assertIn("/nowhere.pem: No such file", self.ends(
            self.connect("localhost:1", "--certfile", "/nowhere.pem"), 1)[1])
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = "localhost:%d" % silent.getsockname()[1]
            self.assertIn("time", self.ends(self.connect(address, "--timeout", "1"), 1)[1])

    def test_wrong_usage_is_status_2(self):
        for arguments in ([], ["localhost"], ["localhost:x"], ["localhost:0"], ["localhost:65536"],
                          [":443"], ["::1:443"], ["localhost:1", "--timeout", "0"],
                          ["localhost:1", "localhost:2"], ["localhost:1", "--cafile", "x"]):
            self.assertTrue(self.run_command(2, "connect", *arguments)[1].startswith("cordon: "))

    def test_a_named_manager_that_is_not_there_is_status_3(self):
        self.run_command(3, "connect", "localhost:1", "--socket", "/nowhere/control.sock")
        self.run_command(3, "connect", "localhost:1",
                         env=dict(os.environ, CORDON_SOCKET="/nowhere/control.sock"))

    def test_output_that_nobody_reads_any_more_ends_it(self):
        def forever(tls):
            while True:
                tls.sendall(b"x" * 65536)

        process = self.connect(self.server(forever))
        self.assertEqual(b"x", process.stdout.read(1))
        process.stdout.close()
        process.stdout = None
        self.assertEqual(1, process.wait(TIME_LIMIT_S))
        self.assertIn(b"standard output", process.stderr.read())

    def test_output_that_is_closed_while_nothing_comes_ends_it(self):
        process = self.connect(self.server(read_to_end), "--info")
        process.stderr.readline()
        process.stdout.close()
        process.stdout = None
        self.assertEqual(1, process.wait(TIME_LIMIT_S))

    def test_ctrl_c_ends_it(self):
        process = self.connect(self.server(read_to_end), "--info")
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        self.ends(process, 1)

    # Without a manager.

    def alone(self, address, *arguments, **kwargs):
        if os.path.exists("/run/cordon/control.sock"):
            self.skipTest("a manager may run on this machine")
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("CORDON_SOCKET", "XDG_RUNTIME_DIR")}
        environment["TMPDIR"] = self.folder.name
        return self.command("connect", address, "--cacertfile", self.ca, *arguments,
                            env=environment, **kwargs)

    def test_it_starts_a_manager_of_its_own(self):
        address = self.server(self.answer_at_the_end)
        files = os.listdir(self.folder.name)
        self.assertEqual(("olleh", ""), self.ends(self.alone(address), 0, b"hello"))
        self.assertEqual(files, os.listdir(self.folder.name))

    def test_its_manager_ends_with_it_however_that_ends(self):
        address = self.server(read_to_end)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process = self.alone(address, "--info")
            process.stderr.readline()
            tree = descendants(process.pid)
            self.assertLessEqual(5, len(tree))
            process.send_signal(number)
            process.wait(TIME_LIMIT_S)
            wait_for_end(tree)


if __name__ == "__main__":
    unittest.main()
