#!/usr/bin/env python3
"""Tests of the `cordon` command against a real Cordon and real peers.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/command_test.py
"""

import json
import os
import pty
import re
import resource
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
from fake_manager import FakeManager, line
from real_tree import ROOT, TIME_LIMIT_S, Cordon, give_folder, make_certificates

CORDON = os.path.join(ROOT, "bin", "cordon")


def children(pid):
    """The pids of a process's children, those that have ended but are not reaped left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    state, parent = f.read().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(name))
    return found


def descendants(pid):
    return [d for child in children(pid) for d in [child, *descendants(child)]]


def wait_for_end(pids):
    """Until none of these processes is left."""
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([pidfd], [], [], TIME_LIMIT_S)
        os.close(pidfd)
        assert ended, "process %d has not ended" % pid


def read_exactly(sock, size):
    while size > 0:
        part = sock.recv(size)
        assert part, "the peer left"
        size -= len(part)


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


class RealTree(CommandTest):
    """With a real Cordon."""

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


class RealTest(RealTree):
    def test_list_shows_a_connection(self):
        conn, peer, listener = self.connection()
        port = peer.getsockname()[1]
        with conn.socket() as data:
            data.sendall(b"x" * 2000)
            read_exactly(peer, 2000)
            # Peers may have read what the worker has not counted yet; when it answers, it has.
            self.client.call("ssl.connection_information", {"conn": conn.handle})
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


class DoctorTest(CommandTest):
    def findings(self, *arguments, program=CORDON, **kwargs):
        """{name: (level, text)}, and the exit status is what they say."""
        process = subprocess.run([program, "doctor", "--json", *arguments], capture_output=True,
                                 timeout=TIME_LIMIT_S, **kwargs)
        self.assertEqual(b"", process.stderr)
        found = {f["name"]: (f["level"], f["text"])
                 for f in json.loads(process.stdout)["findings"]}
        levels = {level for level, _ in found.values()}
        self.assertLessEqual(levels, {"ok", "warn", "bad"})
        self.assertEqual(1 if "bad" in levels else 0, process.returncode)
        return found

    def test_everything_is_looked_at_one_line_a_finding(self):
        found = self.findings()
        self.assertLessEqual({"manager", "kernel", "calls", "descriptors", "processes", "memlock",
                              "core", "ptrace", "seccomp", "namespaces", "backlog", "random",
                              "clock", "users", "uids", "programs", "socket", "ca_bundle",
                              "config", "libgnutls30", "libnettle8", "libuv1", "walls"},
                             set(found))
        self.assertEqual(("warn", True),
                         (found["walls"][0], "not built yet" in found["walls"][1]))
        out = subprocess.run([CORDON, "doctor"], capture_output=True, text=True,
                             timeout=TIME_LIMIT_S).stdout
        self.assertEqual(len(found), len(out.splitlines()))
        self.assertRegex(out, r"(?m)^ok    kernel ")

    def test_limits_that_are_too_low(self):
        def limits(kind, number):
            return lambda: resource.setrlimit(kind, (number, number))

        found = self.findings(preexec_fn=limits(resource.RLIMIT_NOFILE, 1112))
        self.assertEqual("warn", found["descriptors"][0])
        self.assertIn("room for 200 connections", found["descriptors"][1])
        found = self.findings(preexec_fn=limits(resource.RLIMIT_NOFILE, 540))
        self.assertEqual("bad", found["descriptors"][0])
        found = self.findings(preexec_fn=limits(resource.RLIMIT_MEMLOCK, 65536))
        self.assertEqual("warn", found["memlock"][0])

    def test_programs_that_others_may_change(self):
        with tempfile.TemporaryDirectory() as folder:
            for part in ("bin", "libexec/cordon"):
                shutil.copytree(os.path.join(ROOT, part), os.path.join(folder, part))
            program = os.path.join(folder, "bin", "cordon")
            keeper = os.path.join(folder, "libexec/cordon/keeper")
            self.assertEqual("ok", self.findings(program=program)["programs"][0])
            os.chmod(keeper, 0o757)
            level, text = self.findings(program=program)["programs"]
            self.assertEqual(("bad", True), (level, "anybody may write" in text))
            self.assertIn("/keeper: ", text)
            os.chmod(keeper, 0o755)
            os.chmod(os.path.dirname(keeper), 0o777)        # could put another in its place
            self.assertEqual("bad", self.findings(program=program)["programs"][0])
            os.chmod(os.path.dirname(keeper), 0o755)
            os.unlink(keeper)
            self.assertIn("No such file", self.findings(program=program)["programs"][1])

    def test_a_manager_that_is_named_and_not_there_is_bad(self):
        found = self.findings("--socket", "/nowhere/control.sock")
        self.assertEqual("bad", found["manager"][0])
        self.assertIn("/nowhere/control.sock", found["manager"][1])

    def test_a_manager_that_runs_says_with_what(self):
        with tempfile.TemporaryDirectory() as folder:
            give_folder(folder)
            tree = Cordon(folder)
            try:
                with cordon.open(tree.socket) as client:
                    while client.call("cordon.status")["library"] is None:
                        pass                    # no nursery is ready yet
                found = self.findings("--socket", tree.socket)
                self.assertEqual("ok", found["manager"][0])
                self.assertRegex(found["nursery"][1], r"GnuTLS 3\.")
            finally:
                tree.stop()


class Server(threading.Thread):
    """Takes TLS connections, one after the other, and gives each to talk(connection)."""

    def __init__(self, talk, folder, **options):
        super().__init__(daemon=True)
        self.talk = talk
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(os.path.join(folder, "web.pem"))
        for name, value in options.items():
            setattr(self.context, name, value)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                tcp, _ = self.listener.accept()
            except OSError:
                return
            tcp.settimeout(TIME_LIMIT_S)
            with tcp:
                try:
                    with self.context.wrap_socket(tcp, server_side=True) as tls:
                        self.talk(tls)
                except OSError:
                    pass            # a client that does not trust us, or leaves

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        self.listener.close()


def read_to_end(tls):
    data = b""
    while True:
        part = tls.recv(65536)
        if not part:
            return data
        data += part


def say_goodbye(tls):
    """close_notify, and the rest of what the peer sends: leaving at once would reset the connection."""
    tls.unwrap().recv(1)


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
            self.echoes(self.tls(ca))
        except ssl.SSLCertVerificationError:
            return False
        return True

    def stop(self, process, number=signal.SIGTERM):
        process.send_signal(number)
        return self.ends(process, 0)

    def test_echo(self):
        process = self.serve("--certfile", self.pem, "--echo")
        self.assertEqual(self.socket, self.control)
        with self.tls() as tls:
            self.echoes(tls)
        out, _ = self.run_command(0, "list", "--services", "--socket", self.control)
        self.assertRegex(out, r"\nserve +l1\.\d+ +127\.0\.0\.1:%d +echo " % self.port)
        self.stop(process)
        self.assertEqual([], os.listdir(self.sockets))

    def test_key_in_a_file_of_its_own(self):
        process = self.serve("--certfile", os.path.join(self.certificates, "web.crt"), "--keyfile",
                             os.path.join(self.certificates, "web.key"), "--echo")
        self.echoes(self.tls())
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
            self.echoes(self.tls())
        where = ["--socket", self.control, "--servername", "localhost", "--cacertfile",
                 os.path.join(self.certificates, "ca.pem"), "--certfile", self.pem]
        self.assertEqual(("hi", ""), self.ends(
            self.command("connect", "127.0.0.1:%d" % self.port, *where), 0, b"hi"))
        self.stop(process)

    # The end.

    def refuses(self):
        with self.assertRaises(ConnectionRefusedError):
            while True:                         # until the listening socket is closed
                socket.create_connection(("127.0.0.1", self.port), TIME_LIMIT_S).close()

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

    def test_a_second_signal_ends_it_at_once(self):
        process = self.serve("--certfile", self.pem, "--echo", "--drain-timeout", "600")
        tls = self.tls()
        process.send_signal(signal.SIGTERM)
        self.refuses()
        process.send_signal(signal.SIGTERM)
        self.ends(process, 0)
        self.assertEqual(b"", tls.recv(1))

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
        self.assertIn(b"certfile", process.stderr.readline())
        self.echoes(before)
        self.echoes(self.tls(self.others))
        self.stop(process)

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
        self.echoes(self.tls(port=first["listening"]["port"]))
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
        self.echoes(self.tls())
        for process in (first, second):
            self.stop(process)
        self.assertEqual([], os.listdir(self.sockets))


class CompletionTest(RealTree):
    """Of the shells, with the scripts of the build."""

    BASH = os.path.join(ROOT, "share/bash-completion/completions/cordon")
    ZSH = os.path.join(ROOT, "share/zsh/site-functions")

    def offered(self, *words):
        """What bash offers for the last of these words."""
        script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cordon; '
                  '((${#COMPREPLY[@]})) && printf "%s\\n" "${COMPREPLY[@]}"; :')
        out = subprocess.run(["bash", "--norc", "-c", script, "bash", self.BASH, CORDON, *words],
                             check=True, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        self.assertEqual("", out.stderr)
        return out.stdout.split()

    def test_bash_offers_commands(self):
        self.assertEqual(["events"], self.offered("ev"))
        self.assertLessEqual({"serve", "connect", "list", "call", "help"}, set(self.offered("")))
        self.assertEqual(["info"], self.offered("help", "inf"))
        self.assertEqual(["list"], self.offered("--socket", "/x", "lis"))

    def test_bash_offers_options_and_their_values(self):
        self.assertEqual(["--listeners", "--listener"], self.offered("list", "--liste"))
        self.assertEqual(["--json"], self.offered("kill", "--js"))
        self.assertEqual(["client", "server"], self.offered("list", "--role", ""))
        self.assertEqual(["bash", "zsh"], self.offered("completion", ""))
        self.assertEqual([], self.offered("stop", ""))

    def test_bash_offers_files(self):
        self.assertEqual([self.path("web.pem")],
                         self.offered("connect", "--certfile", self.path("web.p")))

    def test_bash_offers_methods_of_the_description(self):
        with open(os.path.join(os.environ.get("CORDON_SOURCE", os.path.join(
                os.path.dirname(os.path.abspath(__file__)), "../..")),
                "api/cordon.api.json"), encoding="ascii") as f:
            methods = json.load(f)["methods"]
        self.assertLessEqual(set(methods), set(self.offered("call", "")))
        self.assertIn("ssl.ssl_accept", self.offered("call", "ssl.ssl"))

    def test_bash_asks_the_manager_for_handles(self):
        conn, _, _ = self.connection()
        for words in (["info"], ["kill", "--reset"], ["events", "--conn"]):
            self.assertIn(conn.handle, self.offered(*self.where, *words, "c1."))
        self.assertEqual([], self.offered("--socket", "/nowhere", "kill", "c"))

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh_completes(self):
        subprocess.run(["zsh", "-n", os.path.join(self.ZSH, "_cordon")], check=True)
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["PATH"] = "%s/bin:%s" % (ROOT, os.environ["PATH"])
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.addCleanup(os.close, terminal)
        os.write(terminal, b"PS1=; bindkey -e; fpath=(%s $fpath); autoload -U compinit; "
                           b"compinit -u -D; echo rea''dy\n" % self.ZSH.encode())
        self.wait_for_text(terminal, b"ready")
        for typed, completed in (("ev", "events"), ("list --cli", "list --clients"),
                                 ("call ssl.negot", "call ssl.negotiated_protocol"),
                                 ("list --role cl", "list --role client")):
            # With echo in front of it, the line that came of it is printed.
            os.write(terminal, b"cordon %s\t\x01echo \n" % typed.encode())
            self.wait_for_text(terminal, b"\ncordon %s" % completed.encode())

    def wait_for_text(self, terminal, text):
        seen = b""
        while text not in seen:
            ready, _, _ = select.select([terminal], [], [], TIME_LIMIT_S)
            self.assertTrue(ready, seen)
            seen += os.read(terminal, 4096)


if __name__ == "__main__":
    unittest.main()
