#!/usr/bin/env python3
"""cordond --check-config, and which SIGHUP is which.

    CORDON_ROOT=build python3 tests/python/config_test.py
"""

import os
import pty
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from real_tree import ROOT, TIME_LIMIT_S  # noqa: E402

CORDOND = os.path.join(ROOT, "bin/cordond")


class CheckConfigTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="cordon-config-")
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o755)
        self.path = os.path.join(self.folder.name, "cordon.json")

    def check(self, text):
        with open(self.path, "w") as f:
            f.write(text)
        os.chmod(self.path, 0o644)
        return subprocess.run([CORDOND, "--check-config", "--config", self.path],
                              capture_output=True, text=True, timeout=TIME_LIMIT_S)

    def test_a_right_one(self):
        done = self.check('{"services": {"web": {"listen": {"port": 443}, "options": '
                          '{"certfile": "web.pem"}, "deliver": {"connect": "127.0.0.1:80"}}}}')
        self.assertEqual((0, "", self.path + ": the configuration is right, with 1 services\n"),
                         (done.returncode, done.stderr, done.stdout))

    def test_a_program_may_run_as_those_whom_the_command_line_allows(self):
        text = ('{"services": {"web": {"listen": {"port": 443}, "options": '
                '{"certfile": "web.pem"}, "deliver": {"exec": ["/bin/true"], "user": "root"}}}}')
        self.assertIn("start cordond with --exec-user root", self.check(text).stderr)
        done = subprocess.run([CORDOND, "--check-config", "--exec-user", "root"],
                              capture_output=True, text=True, timeout=TIME_LIMIT_S)
        self.assertEqual((1, "cordond: --exec-user root: a program of root's could do anything\n"),
                         (done.returncode, done.stderr))

    def test_a_wrong_one(self):
        done = self.check('{"services": {"web": {"listen": {"port": 443}, "options": {}, '
                          '"deliver": {"connect": "127.0.0.1:80"}}}}')
        self.assertEqual(1, done.returncode)
        self.assertEqual("cordond: " + self.path + ": services.web.options.certfile: "
                         "a server needs a certificate\n", done.stderr)

    def test_a_missing_one(self):
        done = subprocess.run([CORDOND, "--check-config", "--config", self.path],
                              capture_output=True, text=True, timeout=TIME_LIMIT_S)
        self.assertEqual((1, "cordond: " + self.path + ": No such file or directory\n"),
                         (done.returncode, done.stderr))


class TerminalTest(unittest.TestCase):
    def test_a_hang_up_of_the_terminal_stops_cordond(self):
        with tempfile.TemporaryDirectory(prefix="cordon-hup-") as folder:
            os.chmod(folder, 0o777)
            ready, writer = os.pipe()
            os.set_inheritable(writer, True)
            pid, terminal = pty.fork()
            if pid == 0:
                log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT, 0o644)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.execv(CORDOND, [CORDOND, "--config", "/dev/null", "--socket",
                                   os.path.join(folder, "control.sock"), "--ready-fd",
                                   str(writer)])
            os.close(writer)
            self.assertEqual(b"\n", os.read(ready, 1))
            os.close(ready)
            os.close(terminal)
            _, status = os.waitpid(pid, 0)
            self.assertEqual(0, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    unittest.main()
