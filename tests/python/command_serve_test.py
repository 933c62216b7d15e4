#!/usr/bin/env python3
"""Tests of `cordon serve`: its services, its end, its files.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/command_serve_test.py
"""

import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import cordon
from command_lib import (
    CommandTest, Server, children, descendants, read_to_end, say_goodbye, wait_for_end)
from real_tree import TIME_LIMIT_S, give_folder, make_certificates


class ServeTest(CommandTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.certificates = os.path.join(cls.folder.name, "first")
        cls.others = os.path.join(cls.folder.name, "second")
        for folder in (cls.certificates, cls.others):
            os.mkdir(folder)
            make_certificates(folder)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        sockets = tempfile.TemporaryDirectory()
        self.addCleanup(sockets.cleanup)
        give_folder(sockets.name)
        self.sockets = sockets.name
        self.socket = os.path.join(sockets.name, "control.sock")
        self.pem = os.path.join(self.certificates, "web.pem")

    def serve(self, *arguments, where=None, env=None):
        """Starts it; its port is self.port, its control socket self.control."""
        where = ["--socket", self.socket] if where is None else where
        process = self.command("serve", "--listen", "127.0.0.1:0", *where, *arguments, env=env)
        first = process.stdout.readline().decode()
        match = re.fullmatch(r"listening 127\.0\.0\.1:(\d+) control (/\S+)\n", first)
        if not match:
            self.fail((first, process.communicate(timeout=TIME_LIMIT_S)))
        self.port, self.control = int(match.group(1)), match.group(2)
        return process

    def tls(self, ca=None, port=None):
        context = ssl.create_default_context(
            cafile=os.path.join(ca or self.certificates, "ca.pem"))
        tcp = socket.create_connection(("127.0.0.1", port or self.port), TIME_LIMIT_S)
        tls = context.wrap_socket(tcp, server_hostname="localhost")
        self.addCleanup(tls.close)
        return tls

    def serves(self, ca=None, port=None):
        """A connection that begins, echoes and ends."""
        with self.tls(ca, port) as tls:
            self.echoes(tls)

    def echoes(self, tls):
        tls.sendall(b"hello")
        data = b""
        while len(data) < 5:
            part = tls.recv(5)
            self.assertTrue(part)
            data += part
        self.assertEqual(b"hello", data)

    def trusts(self, ca):
        try:
            self.serves(ca)
        except ssl.SSLCertVerificationError:
            return False
        return True

    def stop(self, process, number=signal.SIGTERM):
        process.send_signal(number)
        return self.ends(process, 0)

    def test_echo(self):
        process = self.serve("--certfile", self.pem, "--echo")
        self.assertEqual(self.socket, self.control)
        self.serves()
        out, _ = self.run_command(0, "list", "--services", "--socket", self.control)
        self.assertRegex(out, r"\nserve +l1\.\d+ +127\.0\.0\.1:%d +echo " % self.port)
        self.stop(process)
        self.assertEqual([], os.listdir(self.sockets))

    def test_key_in_a_file_of_its_own(self):
        process = self.serve("--certfile", os.path.join(self.certificates, "web.crt"), "--keyfile",
                             os.path.join(self.certificates, "web.key"), "--echo")
        self.serves()
        self.stop(process, signal.SIGINT)

    def backend(self, family, address):
        """Answers one HTTP request a connection."""
        listener = socket.socket(family)
        listener.bind(address)
        listener.listen()
        stopped, stop = socket.socketpair()

        def answer():
            while select.select([listener, stopped], [], [])[0] == [listener]:
                conn, _ = listener.accept()
                with conn:
                    request = part = conn.recv(4096)
                    while part and b"\r\n\r\n" not in request:
                        part = conn.recv(4096)
                        request += part
                    conn.sendall(b"HTTP/1.0 200 OK\r\n\r\nfrom the backend\n")

        thread = threading.Thread(target=answer)
        thread.start()
        for cleanup in (listener.close, stopped.close, thread.join, stop.close):
            self.addCleanup(cleanup)
        return listener.getsockname()

    def curl(self):
        return subprocess.run(
            ["curl", "-sS", "--max-time", str(TIME_LIMIT_S), "--noproxy", "*", "--cacert",
             os.path.join(self.certificates, "ca.pem"), "--resolve",
             "localhost:%d:127.0.0.1" % self.port, "https://localhost:%d/" % self.port],
            capture_output=True, text=True)

    def test_connect_and_curl(self):
        _, port = self.backend(socket.AF_INET, ("127.0.0.1", 0))
        process = self.serve("--certfile", self.pem, "--alpn", "http/1.1", "--connect",
                             "127.0.0.1:%d" % port)
        for _ in range(3):
            answer = self.curl()
            self.assertEqual(("from the backend\n", ""), (answer.stdout, answer.stderr))
        out, _ = self.run_command(0, "list", "--services", "--socket", self.control)
        self.assertIn(" connect 127.0.0.1:%d " % port, out)
        self.stop(process)

    def test_connect_to_a_unix_socket(self):
        path = os.path.join(self.sockets, "backend.sock")
        self.backend(socket.AF_UNIX, path)
        os.chmod(path, 0o777)
        process = self.serve("--certfile", self.pem, "--connect", path)
        self.assertEqual("from the backend\n", self.curl().stdout)
        self.stop(process)

    def test_exec_takes_all_that_stands_behind_it(self):
        user = ["--user", "nobody"] if os.geteuid() == 0 else []
        process = self.serve("--certfile", self.pem, *user, "--exec", "/bin/sh", "-c",
                             'read line; echo "$line, $2"', "sh", "--echo", "--json")
        with self.tls() as tls:
            tls.sendall(b"hello\n")
            self.assertEqual(b"hello, --json\n", read_to_end(tls))
        out, _ = self.run_command(0, "list", "--services", "--socket", self.control)
        self.assertIn(" exec /bin/sh ", out)
        self.stop(process)

    def test_plain_in_and_tls_out(self):
        def echo(tls):
            tls.sendall(tls.recv(100).upper())
            say_goodbye(tls)

        server = Server(echo, self.certificates)
        self.addCleanup(server.stop)
        process = self.serve("--client", "localhost:%d" % server.port, "--cacertfile",
                             os.path.join(self.certificates, "ca.pem"))
        with socket.create_connection(("127.0.0.1", self.port), TIME_LIMIT_S) as plain:
            plain.sendall(b"hello")
            self.assertEqual(b"HELLO", plain.recv(100))
        self.stop(process)

    def test_client_certificates(self):
        process = self.serve("--certfile", self.pem, "--echo", "--require-certificate",
                             "--cacertfile", os.path.join(self.certificates, "ca.pem"),
                             "--drain-timeout", "0")
        with self.assertRaises(OSError):
            self.serves()
        where = ["--socket", self.control, "--servername", "localhost", "--cacertfile",
                 os.path.join(self.certificates, "ca.pem"), "--certfile", self.pem]
        self.assertEqual(("hi", ""), self.ends(
            self.command("connect", "127.0.0.1:%d" % self.port, *where), 0, b"hi"))
        self.stop(process)

    # The end.

    def refuses(self):
        """Until the listening socket is closed; who waits in its queue then is reset."""
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), TIME_LIMIT_S).close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                pass

    def test_sigterm_lets_connections_end(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.serve("--certfile", self.pem, "--echo", "--drain-timeout", "600")
            tls = self.tls()
            process.send_signal(number)
            self.refuses()
            self.echoes(tls)
            self.assertIsNone(process.poll())
            tls.close()
            self.ends(process, 0)

    def test_a_second_signal_closes_what_is_open(self):
        process = self.serve("--certfile", self.pem, "--echo", "--drain-timeout", "600")
        tls = self.tls()
        process.send_signal(signal.SIGTERM)
        self.refuses()
        process.send_signal(signal.SIGTERM)
        self.ends(process, 0)
        self.assertEqual(b"", tls.recv(1))

    def test_a_third_signal_kills_what_is_left(self):
        process = self.serve("--certfile", self.pem, "--echo", "--drain-timeout", "600")
        self.tls()                              # reads nothing, so does not see the end
        tree = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        self.refuses()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        self.assertIn("cordond ended with status 1", self.ends(process, 1)[1])
        wait_for_end(tree)

    def test_draining_is_bounded(self):
        process = self.serve("--certfile", self.pem, "--echo", "--drain-timeout", "1")
        tls = self.tls()
        self.stop(process)
        self.assertEqual(b"", tls.recv(1))

    def test_cordon_stop_stops_it(self):
        process = self.serve("--certfile", self.pem, "--echo")
        self.run_command(0, "stop", "--socket", self.control)
        self.ends(process, 0)

    def test_a_tree_that_dies_is_status_1_with_the_reason(self):
        process = self.serve("--certfile", self.pem, "--echo")
        tree = descendants(process.pid)
        [cordond] = children(process.pid)
        os.kill(cordond, signal.SIGKILL)
        self.assertIn("cordond was ended by SIGKILL", self.ends(process, 1)[1])
        wait_for_end(tree)

    def test_sigkill_leaves_no_process(self):
        process = self.serve("--certfile", self.pem, "--echo")
        self.echoes(self.tls())
        tree = descendants(process.pid)
        self.assertLessEqual(5, len(tree))
        process.kill()
        process.wait(TIME_LIMIT_S)
        wait_for_end(tree)

    # Its files, again.

    def test_sighup_takes_up_new_files(self):
        pem = os.path.join(self.sockets, "web.pem")
        shutil.copy(self.pem, pem)
        process = self.serve("--certfile", pem, "--echo", "--drain-timeout", "0")
        before = self.tls()
        shutil.copy(os.path.join(self.others, "web.pem"), pem)
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + TIME_LIMIT_S
        while not self.trusts(self.others):
            self.assertLess(time.monotonic(), deadline, "the new certificate does not come")
        self.echoes(before)
        with open(pem, "w") as f:
            f.write("nonsense")
        process.send_signal(signal.SIGHUP)
        for line in process.stderr:             # where a wall cannot stand, that is said before
            if b"certfile" in line:
                break
        else:
            self.fail("nothing is said of the file")
        self.echoes(before)
        self.serves(self.others)
        before.close()
        self.stop(process)

    def hang_up(self, process):
        """SIGHUP, taken by the command."""
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + TIME_LIMIT_S
        while True:
            with open("/proc/%d/status" % process.pid) as f:
                if re.search(r"^ShdPnd:\s*0+$", f.read(), re.MULTILINE):
                    return
            self.assertLess(time.monotonic(), deadline, "the signal is not taken")

    def test_a_sighup_while_files_are_read_is_not_lost(self):
        pem, new = (os.path.join(self.sockets, name) for name in ("web.pem", "new.pem"))
        shutil.copy(self.pem, pem)
        shutil.copy(os.path.join(self.others, "web.pem"), new)
        process = self.serve("--certfile", pem, "--echo", "--drain-timeout", "600")
        with cordon.open(self.control) as client:
            [manager] = [row["pid"] for row in client.call("cordon.status", {})["processes"]
                         if row["name"] == "manager"]
        os.kill(manager, signal.SIGSTOP)
        try:
            self.hang_up(process)
            os.rename(new, pem)
            self.hang_up(process)
        finally:
            os.kill(manager, signal.SIGCONT)
        deadline = time.monotonic() + TIME_LIMIT_S
        while not self.trusts(self.others):
            self.assertLess(time.monotonic(), deadline, "the new certificate does not come")
        self.says_nothing(self.stop(process)[1])

    def test_sigterm_while_files_are_read_ends_it(self):
        for _ in range(5):
            process = self.serve("--certfile", self.pem, "--echo", "--drain-timeout", "600")
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            self.says_nothing(self.ends(process, 0)[1])

    # The beginning.

    def test_what_is_wrong_is_said(self):
        other_key = os.path.join(self.others, "web.key")
        for arguments, text in (
                (["--certfile", "/nowhere.pem"], "certfile /nowhere.pem: No such file"),
                (["--certfile", os.path.join(self.certificates, "names")], "certfile"),
                (["--certfile", self.pem, "--keyfile", other_key], "does not belong to"),
                ([], "certfile"),
                (["--certfile", self.pem, "--versions", "tlsv9"], "versions")):
            arguments = ["serve", "--listen", "127.0.0.1:0", "--echo", "--socket", self.socket,
                         "--log-level", "error", *arguments]
            out, err = self.run_command(1, *arguments)
            self.assertEqual("", out)
            self.assertIn(text, err)
            self.assertIn(self.json_error(1, *arguments)["reason"], ("options", "invalid_params"))

    def test_an_address_in_use_is_said(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            where = "127.0.0.1:%d" % taken.getsockname()[1]
            arguments = ["serve", "--listen", where, "--certfile", self.pem, "--echo", "--socket",
                         self.socket]
            self.assertIn("in use", self.run_command(1, *arguments)[1])
            self.assertEqual("eaddrinuse", self.json_error(1, *arguments)["posix"])

    def test_wrong_usage_is_status_2(self):
        for arguments in ([], ["--echo"], ["--listen", "x", "--echo"], ["--listen", ":0"],
                          ["--listen", ":0", "--echo", "--connect", "a:1"],
                          ["--listen", ":0", "--client", "nonsense"],
                          ["--listen", ":0", "--echo", "word"],
                          ["--listen", ":0", "--echo", "--drain-timeout", "x"]):
            self.assertTrue(self.run_command(2, "serve", *arguments)[1].startswith("cordon: "))
            self.assertEqual("usage", self.json_error(2, "serve", *arguments)["reason"])

    def test_json_says_where(self):
        process = self.command("serve", "--listen", "127.0.0.1:0", "--certfile", self.pem, "--echo",
                               "--json", "--socket", self.socket)
        first = json.loads(process.stdout.readline())
        self.assertEqual(self.socket, first["control"])
        self.serves(port=first["listening"]["port"])
        self.stop(process)

    def test_the_usual_place_if_it_is_free_else_one_of_its_own(self):
        usual = dict(os.environ, CORDON_SOCKET=self.socket, TMPDIR=self.sockets)
        usual.pop("XDG_RUNTIME_DIR", None)
        first = self.serve("--certfile", self.pem, "--echo", where=[], env=usual)
        self.assertEqual(self.socket, self.control)
        second = self.serve("--certfile", self.pem, "--echo", where=[], env=usual)
        self.assertRegex(self.control,
                         "^%s/cordon-[A-Za-z0-9]{6}/control.sock$" % re.escape(self.sockets))
        self.assertEqual(0o700, os.stat(os.path.dirname(self.control)).st_mode & 0o777)
        self.serves()
        for process in (first, second):
            self.stop(process)
        self.assertEqual([], os.listdir(self.sockets))


if __name__ == "__main__":
    unittest.main()
