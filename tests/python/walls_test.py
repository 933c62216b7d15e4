#!/usr/bin/env python3
"""The walls around Cordon's processes, as the kernel shows them, and what happens without one.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/walls_test.py
"""

import ctypes
import ctypes.util
import json
import os
import pwd
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import cordon
from real_tree import ROOT, TIME_LIMIT_S, Cordon, give_folder, make_certificates, serve

NAMESPACES = {"network": "net", "ipc": "ipc", "empty_root": "mnt"}
OF_THIS_BUILD = {"seccomp", "limits"} # but with the sanitizers
NET_BIND_SERVICE = 1 << 10
FILTERED = {"cordon manager", "cordon keeper", "cordon nursery", "cordon worker"}


def as_in_a_container():
    """Denies namespaces to whoever is executed next, as a container's filter does."""
    library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int,
                                         ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    allow, refuse_with_eperm = 0x7fff0000, 0x00050001
    filter = library.seccomp_init(allow)
    unshare = library.seccomp_syscall_resolve_name(b"unshare")
    if library.seccomp_rule_add(filter, refuse_with_eperm, unshare, 0) != 0 or \
            library.seccomp_load(filter) != 0:
        raise OSError("there is no filter")


def title_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read().split(b"\0")[0].decode(errors="replace")


def tree_of(pid):
    """{pid: title} of pid and everything below it."""
    found = {pid: title_of(pid)}
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        for child in f.read().split():
            found.update(tree_of(int(child)))
    return found


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def limits_of(pid):
    with open(f"/proc/{pid}/limits") as f:
        return {line[:26].strip(): line[26:].split()[:2] for line in f}


class Walls(unittest.TestCase):
    config, preexec = None, None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.folder = folder.name
        self.addCleanup(folder.cleanup)
        make_certificates(self.folder)
        give_folder(self.folder)
        self.cordon = Cordon(self.folder, config=self.config, preexec_fn=self.preexec)
        self.addCleanup(lambda: self.assertEqual(0, self.cordon.stop(), self.cordon.log()[-10000:]))
        self.client = cordon.open(self.cordon.socket)
        self.addCleanup(self.client.close)

    def echo(self, **options):
        """A TLS connection to a service; the worker lives as long as it does."""
        port = serve(self.client, {"echo": True}, certfile=os.path.join(self.folder, "web.pem"),
                     **options)
        context = ssl.create_default_context(cafile=os.path.join(self.folder, "ca.pem"))
        tcp = socket.create_connection(("127.0.0.1", port), TIME_LIMIT_S)
        self.addCleanup(tcp.close)
        tls = context.wrap_socket(tcp, server_hostname="localhost")
        self.addCleanup(tls.close)
        tls.sendall(b"echo")
        self.assertEqual(b"echo", tls.recv(4))
        return tls

    def wait_for_log(self, pattern):
        deadline = time.monotonic() + TIME_LIMIT_S
        while not re.search(pattern, self.cordon.log()):
            self.assertLess(time.monotonic(), deadline, self.cordon.log())
            time.sleep(0.02)

    def walls(self):
        return self.client.call("cordon.status", {})["walls"]


def managers_group():
    return pwd.getpwnam("cordon").pw_gid if os.geteuid() == 0 else os.getegid()


class StandingTest(Walls):
    config = {"admin_group": managers_group()}

    def test_the_manager_may_still_give_its_socket_to_a_group(self):
        self.assertEqual(managers_group(), os.stat(self.cordon.socket).st_gid)
        self.assertNotIn("cannot be given to admin_group", self.cordon.log())

    def test_each_process_is_inside_its_own(self):
        self.echo()
        standing = set(self.walls()["standing"])
        row, = self.client.call("cordon.connections", {})["connections"]
        self.assertEqual(standing, set(row["walls"]))
        self.assertLessEqual({"no_new_privs", "not_dumpable", "no_capabilities"}, standing)
        shown = json.loads(subprocess.run(
            [os.path.join(ROOT, "bin/cordon"), "info", row["conn"], "--json", "--socket",
             self.cordon.socket], check=True, capture_output=True, timeout=TIME_LIMIT_S).stdout)
        self.assertEqual(row["walls"], shown["walls"])
        seen = set()
        for pid, title in tree_of(self.cordon.process.pid).items():
            kind = " ".join(title.split()[:2])
            status = status_of(pid)
            seen.add(kind)
            if kind not in FILTERED:
                continue
            with self.subTest(kind):
                self.assertEqual("2" if "seccomp" in standing else "0", status["Seccomp"])
                self.assertEqual("1", status["NoNewPrivs"])
                powers = [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")]
                is_to_bind = kind == "cordon manager" and os.geteuid() == 0
                self.assertEqual([NET_BIND_SERVICE if is_to_bind else 0] * 4, powers)
                if kind in ("cordon nursery", "cordon worker"):
                    self.check_inherited(pid, standing)
                if kind == "cordon worker":
                    self.check_limits(pid, standing)
        self.assertLessEqual(FILTERED, seen)

    def check_inherited(self, pid, standing):
        if os.geteuid() != 0:
            return                       # only root may look
        for wall, name in NAMESPACES.items():
            ours = os.readlink(f"/proc/self/ns/{name}")
            theirs = os.readlink(f"/proc/{pid}/ns/{name}")
            self.assertEqual(wall in standing, ours != theirs, wall)
        if "empty_root" in standing:
            self.assertEqual([], os.listdir(f"/proc/{pid}/root/"))
            self.assertEqual("/", os.readlink(f"/proc/{pid}/cwd"))
        if "seccomp" in standing:
            self.assertEqual("/dev/null", os.readlink(f"/proc/{pid}/fd/2"))

    def check_limits(self, pid, standing):
        limits = limits_of(pid)
        self.assertEqual(["0", "0"], limits["Max processes"])
        self.assertEqual(["32", "32"], limits["Max open files"])
        self.assertEqual(["0", "0"], limits["Max core file size"])
        if "limits" in standing:
            self.assertEqual(["0", "0"], limits["Max file size"])
            self.assertNotEqual("unlimited", limits["Max data size"][1])

    def test_who_makes_a_forbidden_call_is_logged_as_an_attack(self):
        tls = self.echo()
        row, = self.client.call("cordon.connections", {})["connections"]
        os.kill(row["pid"], signal.SIGSYS)      # as the filter does
        with self.assertRaises(OSError):
            while tls.recv(1):
                pass
            raise OSError("the stream was cut, without close_notify")
        self.wait_for_log("signal=SIGSYS .*an attack through its TLS library")

    def test_what_a_worker_may_use_is_its_listeners_choice(self):
        self.echo(worker_limits={"data": 256 << 20, "cpu": 60})
        row, = self.client.call("cordon.connections", {})["connections"]
        limits = limits_of(row["pid"])
        self.assertEqual(["60", "60"], limits["Max cpu time"])
        if "limits" in self.walls()["standing"]:
            self.assertEqual([str(256 << 20)] * 2, limits["Max data size"])

    def test_each_connection_has_all_that_a_machine_like_this_gives(self):
        self.echo()
        self.assertEqual(set(), set(self.walls()["missing"]) - OF_THIS_BUILD - set(NAMESPACES) -
                         ({"uid"} if os.geteuid() != 0 else set()))


class ContainerTest(Walls):
    preexec = staticmethod(as_in_a_container)

    def test_what_the_machine_does_not_give_is_done_without_and_said(self):
        self.echo()
        walls = self.walls()
        self.assertLessEqual(set(NAMESPACES), set(walls["missing"]))
        self.assertFalse(set(walls["missing"]) & set(walls["standing"]))
        self.assertIn("a wall does not stand wall=network", self.cordon.log())
        findings = json.loads(subprocess.run(
            [os.path.join(ROOT, "bin/cordon"), "doctor", "--json", "--socket", self.cordon.socket],
            capture_output=True, timeout=TIME_LIMIT_S).stdout)["findings"]
        missing = {f["name"]: f["text"] for f in findings if f["level"] == "warn"}
        for wall in NAMESPACES:
            self.assertIn("this wall does not stand", missing[wall])


class RequiredTest(Walls):
    preexec = staticmethod(as_in_a_container)
    config = {"walls": ["no_new_privs", "network"]}

    def test_without_a_required_wall_there_is_no_connection(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        with socket.create_connection(server.getsockname()) as peer:
            with self.assertRaises(cordon.Error) as refused:
                self.client.upgrade(peer.fileno(), "client", timeout=TIME_LIMIT_S,
                                    verify="verify_none")
        self.assertEqual("walls", refused.exception.reason)
        self.assertEqual(["network"], refused.exception.data["missing"])
        self.assertIn("a required wall does not stand wall=network", self.cordon.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
