#!/usr/bin/env python3
"""Tests of the `cordon` command against a real Cordon and real peers.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/command_test.py
"""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import cordon
from fake_manager import FakeManager, line
from real_tree import ROOT, TIME_LIMIT_S, Cordon, give_folder, make_certificates

CORDON = os.path.join(ROOT, "bin", "cordon")


class CommandTest(unittest.TestCase):
    """Starts the command; each test's processes end with it."""

    def command(self, *arguments, **kwargs):
        for stream in ("stdin", "stdout", "stderr"):
            kwargs.setdefault(stream, subprocess.PIPE)
        process = subprocess.Popen([CORDON, *arguments], **kwargs)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()

    def ends(self, process, status, data=None):
        out, err = ((text or b"") for text in process.communicate(data, timeout=TIME_LIMIT_S))
        self.assertEqual(status, process.returncode, (out[-2000:], err[-2000:]))
        return out.decode(), err.decode()

    def run_command(self, status, *arguments, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return self.ends(self.command(*arguments, **kwargs), status)

    def json_error(self, status, *arguments, **kwargs):
        """Runs it with --json; the data of its error."""
        out, err = self.run_command(status, "--json", *arguments, **kwargs)
        self.assertEqual("", err)
        error = json.loads(out)["error"]
        self.assertTrue(error["message"])
        return error["data"]


class UsageTest(CommandTest):
    def commands(self):
        out, _ = self.run_command(0, "--help")
        return re.findall(r"^  ([a-z]+) +[A-Z]", out, re.M)

    def test_help_names_every_command_and_each_has_its_own(self):
        commands = self.commands()
        self.assertLessEqual({"list", "info", "events", "call", "kill", "reload", "stop"},
                             set(commands))
        for name in commands:
            for arguments in ((name, "--help"), ("help", name), ("--help", name)):
                out, err = self.run_command(0, *arguments)
                self.assertTrue(out.startswith("Usage: cordon %s " % name), out)
                self.assertIn("--json", out)
                self.assertEqual("", err)

    def test_help_fits_a_terminal(self):
        for name in self.commands():
            for text in self.run_command(0, name, "--help")[0].splitlines():
                self.assertLessEqual(len(text), 100, text)

    def test_the_version(self):
        self.assertRegex(self.run_command(0, "--version")[0], r"^cordon \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_status_2(self):
        for arguments in ([], ["lst"], ["--what"], ["list", "x"], ["list", "--limit"], ["info"],
                          ["list", "--limit", "x"], ["list", "--limit", "0"], ["info", "a", "b"],
                          ["kill"], ["events", "--json=1"], ["stop", "--now"]):
            out, err = self.run_command(2, *arguments)
            self.assertEqual("", out)
            self.assertTrue(err.startswith("cordon: "), err)
            self.assertEqual("usage", self.json_error(2, *arguments)["reason"])

    def test_a_typo_gets_did_you_mean(self):
        for arguments, meant in ((["lits"], "list"), (["evnets"], "events"),
                                 (["list", "--clints"], "--clients"), (["--jsno"], "--json")):
            self.assertIn("did you mean %s?" % meant, self.run_command(2, *arguments)[1])
        self.assertNotIn("did you mean", self.run_command(2, "xyzzy")[1])

    def test_no_manager_is_status_3(self):
        for arguments in (["list"], ["info", "c1.1"], ["events"], ["call", "ssl.versions"],
                          ["kill", "c1.1"], ["reload"], ["stop"]):
            where = ["--socket", "/nowhere/control.sock"]
            out, err = self.run_command(3, *arguments, *where)
            self.assertEqual("", out)
            self.assertIn("/nowhere/control.sock: No such file", err)
            self.assertEqual("no_manager", self.json_error(3, *arguments, *where)["reason"])

    def test_a_full_disk_is_no_success(self):
        with open("/dev/full", "wb") as full:
            self.assertIn("No space left", self.run_command(1, "--help", stdout=full)[1])


class FakeTest(CommandTest):
    """Against a manager that the test plays."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = os.path.join(self.folder.name, "control.sock")
        self.server = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.server.close)
        self.server.settimeout(TIME_LIMIT_S)
        self.server.bind(self.path)
        self.server.listen()

    def start(self, *arguments):
        process = self.command(*arguments, env=dict(os.environ, CORDON_SOCKET=self.path))
        manager = FakeManager(self.server.accept()[0])
        self.addCleanup(manager.hang_up)
        return process, manager

    def row(self, number, **members):
        return dict({"conn": "c1.%d" % number, "role": "server", "state": "connection", "in": 0,
                     "out": 0, "opened": 0, "protocol": None, "sni_hostname": None,
                     "peername": {"address": "192.0.2.7", "port": 443}}, **members)

    def test_what_a_peer_wrote_cannot_move_the_cursor(self):
        process, manager = self.start("list")
        manager.serve("cordon.connections", {"next": None, "connections": [
            self.row(1, sni_hostname="\x1b[2Jevil\x07\u009b\u202e", peername={"path": "/\n\x7f"})]})
        out, _ = self.ends(process, 0)
        self.assertTrue(out.isascii())
        self.assertEqual("", re.sub(r"[\n -~]", "", out))
        self.assertIn(r"\x1b[2Jevil\x07", out)
        self.assertEqual(2, out.count("\n"))

    def test_nor_can_it_in_events_information_and_errors(self):
        nasty = "\x1b]0;evil\x07\u009b\x7f"
        for text in (True, False):
            flag = [] if text else ["--json"]
            process, manager = self.start("events", *flag)
            manager.serve("cordon.subscribe", {"subscription": "s1.1"})
            manager.event("cordon.event", type="log", time=1, text=nasty, **{nasty: nasty})
            manager.hang_up()
            shown = [*self.ends(process, 3)]
            process, manager = self.start("info", "c1.1", *flag)
            manager.serve("cordon.connections",
                          {"next": None, "connections": [self.row(1, **{nasty: nasty})]})
            manager.serve("ssl.connection_information", {"info": {"alpn": nasty}})
            shown += self.ends(process, 0)
            process, manager = self.start("kill", "c1.1", *flag)
            manager.refuse(manager.request(), nasty, hint=nasty)
            shown += self.ends(process, 1)
            for out in shown:
                self.assertEqual("", re.sub(r"[\n -~]", "", out))

    def test_pages_are_put_together(self):
        process, manager = self.start("list", "--quiet", "--role", "server")
        request = manager.request("cordon.connections")
        self.assertEqual({"role": "server", "limit": 1000}, request["params"])
        manager.reply(request, {"connections": [self.row(1)], "next": "c1.1"})
        request = manager.request("cordon.connections")
        self.assertEqual("c1.1", request["params"]["after"])
        manager.reply(request, {"connections": [self.row(2)], "next": None})
        self.assertEqual("c1.1\nc1.2\n", self.ends(process, 0)[0])

    def test_a_limit_ends_the_pages(self):
        process, manager = self.start("list", "--quiet", "--limit", "2")
        request = manager.request("cordon.connections")
        self.assertEqual(2, request["params"]["limit"])
        manager.reply(request, {"connections": [self.row(1), self.row(2)], "next": "c1.2"})
        self.assertEqual("c1.1\nc1.2\n", self.ends(process, 0)[0])

    def test_columns_are_aligned(self):
        process, manager = self.start("list")
        manager.serve("cordon.connections", {"next": None, "connections": [
            self.row(1, **{"in": 999, "out": 1000}), self.row(2000, **{"in": 12345678})]})
        lines = self.ends(process, 0)[0].splitlines()
        self.assertEqual(1, len({line.index(word) for line, word in
                                 zip(lines, ("ROLE", "server", "server"))}))
        self.assertEqual(3, len({len(line) for line in lines} | {0, 1}))
        self.assertRegex(lines[1], r"^c1.1 +server +192\.0\.2\.7:443 +connection +- +- +999 +1\.0K ")
        self.assertRegex(lines[2], r" 12M +0 ")

    def test_reload_says_what_was_swapped(self):
        process, manager = self.start("reload")
        manager.serve("cordon.reload", {"reloaded": {"listeners": 3, "services_added": 1}})
        self.assertEqual("reloaded: 3 listeners, 1 services_added\n", self.ends(process, 0)[0])
        process, manager = self.start("reload", "--json")
        manager.serve("cordon.reload", {"reloaded": {"listeners": 3}})
        self.assertEqual({"reloaded": {"listeners": 3}}, json.loads(self.ends(process, 0)[0]))

    def test_stop_waits_until_the_manager_hangs_up(self):
        process, manager = self.start("stop")
        manager.serve("cordon.stop")
        manager.write(line(method="ssl_closed", params={}))
        self.assertIsNone(process.poll())
        manager.hang_up()
        self.ends(process, 0)

    def test_a_restart_before_the_answer_is_an_error(self):
        process, manager = self.start("kill", "c1.1")
        manager.request("cordon.kill")
        manager.event("restarted", start=2)
        self.assertIn("restarted", self.ends(process, 1)[1])


class RealTest(CommandTest):
    """Against a real Cordon."""

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

    def setUp(self):
        self.client = cordon.open(self.cordon.socket)
        self.addCleanup(self.client.close)
        self.where = ["--socket", self.cordon.socket]

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def connection(self):
        """A connection of self.client's, as server; its peer."""
        listener = self.client.listen(port=0, address="127.0.0.1", certfile=self.path("web.pem"))
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        peer = context.wrap_socket(socket.socket(), server_hostname="localhost",
                                   do_handshake_on_connect=False)
        self.addCleanup(peer.close)
        peer.settimeout(TIME_LIMIT_S)
        shaking = threading.Thread(target=lambda: (peer.connect(("127.0.0.1", listener.port)),
                                                   peer.do_handshake()))
        shaking.start()
        conn = listener.accept()
        shaking.join()
        return conn, peer, listener

    def test_list_shows_a_connection(self):
        conn, peer, listener = self.connection()
        port = peer.getsockname()[1]
        with conn.socket() as data:
            data.sendall(b"x" * 2000)
            while len(peer.recv(4096)) == 0:
                pass
            out, _ = self.run_command(0, "list", *self.where)
            self.assertRegex(out, r"CONNECTION +ROLE +PEER +STATE +VERSION +SNI +IN +OUT +AGE\n")
            row = next(row for row in out.splitlines() if row.startswith(conn.handle + " "))
            self.assertRegex(row, r"server +127\.0\.0\.1:%d +connection +tlsv1\.3 +localhost +0 "
                                  r"+2\.0K +\d+s$" % port)
            rows = json.loads(self.run_command(0, "list", "--json", *self.where)[0])
            self.assertIn(conn.handle, [row["conn"] for row in rows["connections"]])
            out, _ = self.run_command(0, "list", "--quiet", "--listener", listener.handle,
                                      *self.where)
            self.assertEqual(conn.handle + "\n", out)
            out, _ = self.run_command(0, "list", "--quiet", "--state", "hello", *self.where)
            self.assertEqual("", out)

    def test_list_shows_listeners_and_clients(self):
        listener = self.client.listen(port=0, address="127.0.0.1", certfile=self.path("web.pem"))
        out, _ = self.run_command(0, "list", "--listeners", *self.where)
        self.assertRegex(out, r"\n%s +127\.0\.0\.1:%d " % (re.escape(listener.handle),
                                                           listener.port))
        out, _ = self.run_command(0, "list", "--clients", *self.where)
        self.assertRegex(out, r"CLIENT +NAME .*\nk1\.\d+ .* %d " % os.getpid())
        self.assertEqual("invalid_params", self.json_error(
            1, "list", "--clients", "--role", "server", *self.where)["reason"])

    def test_info_tells_everything_about_one(self):
        conn, peer, listener = self.connection()
        out, _ = self.run_command(0, "info", conn.handle, *self.where)
        self.assertRegex(out, r"^conn +%s\n" % re.escape(conn.handle))
        self.assertRegex(out, r"\ncipher_suite\n    name +TLS_AES_")
        self.assertRegex(out, r"\npeername +127\.0\.0\.1:%d\n" % peer.getsockname()[1])
        info = json.loads(self.run_command(0, "info", conn.handle, "--json", *self.where)[0])
        self.assertEqual((conn.handle, "tlsv1.3", "localhost"),
                         (info["conn"], info["protocol"], info["sni_hostname"]))
        out, _ = self.run_command(0, "info", listener.handle, *self.where)
        self.assertRegex(out, r"\naddress +127\.0\.0\.1:%d\n" % listener.port)
        clients = self.client.call("cordon.clients")["clients"]
        out, _ = self.run_command(0, "info", clients[-1]["client"], *self.where)
        self.assertRegex(out, r"\npid +%d\n" % os.getpid())

    def test_info_of_a_connection_before_its_handshake(self):
        listener = self.client.listen(port=0, address="127.0.0.1", certfile=self.path("web.pem"))
        with socket.create_connection(("127.0.0.1", listener.port)):
            handle = self.client.call("ssl.transport_accept",
                                      {"listener": listener.handle})["conn"]
            out, _ = self.run_command(0, "info", handle, *self.where)
            self.assertRegex(out, r"\nstate +waiting\n")

    def test_what_is_not_there_is_said(self):
        for handle in ("c1.999999", "l1.999999", "k1.999999"):
            self.assertIn("there is no " + handle,
                          self.run_command(1, "info", handle, *self.where)[1])
            self.assertEqual("not_found", self.json_error(1, "info", handle, *self.where)["reason"])
        self.assertEqual("not_found",
                         self.json_error(1, "kill", "c1.999999", *self.where)["reason"])
        self.assertEqual("invalid_params",
                         self.json_error(1, "kill", "nonsense", *self.where)["reason"])

    def test_kill_closes_with_close_notify(self):
        conn, peer, _ = self.connection()
        self.run_command(0, "kill", conn.handle, *self.where)
        self.assertEqual(b"", peer.recv(1))

    def test_kill_reset_resets(self):
        conn, peer, _ = self.connection()
        self.assertEqual("{}\n",
                         self.run_command(0, "kill", "--json", "--reset", conn.handle,
                                          *self.where)[0])
        with socket.socket(fileno=os.dup(peer.fileno())) as raw:    # ssl takes it for an end
            raw.settimeout(TIME_LIMIT_S)
            with self.assertRaises(ConnectionResetError):
                raw.recv(1)

    def test_events_are_followed(self):
        text = self.command("events", *self.where)
        raw = self.command("events", "--json", "--types",
                           "connection_established,connection_closed", *self.where)
        self.assertIn("subscription", json.loads(raw.stdout.readline()))
        while len(self.client.call("cordon.clients")["clients"]) < 3 or \
                self.client.call("cordon.status")["subscriptions"] < 2:
            pass
        conn, peer, _ = self.connection()
        self.run_command(0, "kill", conn.handle, *self.where)
        events = [json.loads(raw.stdout.readline()) for _ in range(2)]
        self.assertEqual(["connection_established", "connection_closed"],
                         [event["params"]["type"] for event in events])
        lines = []
        while not lines or "connection_closed" not in lines[-1]:
            lines.append(text.stdout.readline().decode())
        established = next(line for line in lines if "connection_established" in line)
        self.assertRegex(established, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} connection_established"
                                      r" conn=%s .*info\.protocol=tlsv1\.3 .*\n$"
                         % re.escape(conn.handle))
        self.assertRegex(lines[-1], r" connection_closed conn=%s how=local in=0 out=0\n$"
                         % re.escape(conn.handle))
        for process in (raw, text):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIME_LIMIT_S)
            self.assertEqual(-signal.SIGINT, process.returncode)

    def test_stop_stops_everything(self):
        with tempfile.TemporaryDirectory() as folder:
            give_folder(folder)
            tree = Cordon(folder)
            try:
                self.run_command(0, "stop", "--socket", tree.socket)
                self.assertEqual(0, tree.process.wait(TIME_LIMIT_S))
            finally:
                tree.stop()


if __name__ == "__main__":
    unittest.main()
