#!/usr/bin/env python3
"""Tests of the `cordon` command: usage, what it shows, doctor, completion.

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
import unittest

import cordon
from command_lib import CORDON, CommandTest, RealTree, read_exactly
from fake_manager import FakeManager, line
from real_tree import Cordon, ROOT, TIME_LIMIT_S, give_folder


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
        manager.serve("cordon.reload", {"reloaded": {"listeners": 3, "services_added": 1},
                                        "needs_restart": ["clients_max", "admin_group"]})
        self.assertEqual("reloaded: 3 listeners, 1 services added\n"
                         "after a restart: clients_max, admin_group\n", self.ends(process, 0)[0])
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
        self.assertEqual("ok", found["walls"][0])
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
