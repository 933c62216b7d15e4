#!/usr/bin/env python3
"""Tests of `cordon call` against a manager that the test plays.

    CORDON_ROOT=build python3 tests/python/call_test.py
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import unittest

from fake_manager import TIME_LIMIT_S, FakeManager, line

CORDON = os.path.join(os.environ.get("CORDON_ROOT", "build"), "bin", "cordon")


class CallTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "control.sock")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.settimeout(TIME_LIMIT_S)
        self.server.bind(self.path)
        self.server.listen()
        self.manager = None
        self.command = None

    def tearDown(self):
        if self.command and self.command.returncode is None:
            self.command.kill()
            self.command.communicate()
        if self.manager:
            for fd in self.manager.fds:
                os.close(fd)
            self.manager.hang_up()
        self.server.close()
        self.folder.cleanup()

    def start(self, *arguments, stdin=None, pass_fds=()):
        self.command = subprocess.Popen(
            [CORDON, "call", "--socket", self.path, *arguments], stdin=stdin, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds)

    def call(self, *arguments, **kwargs):
        """Starts it; its request."""
        self.start(*arguments, **kwargs)
        self.manager = FakeManager(self.server.accept()[0])
        return self.manager.request()

    def ends(self, status):
        out, err = self.command.communicate(timeout=TIME_LIMIT_S)
        self.assertEqual(status, self.command.returncode, (out, err))
        return out, err

    def test_the_result_is_printed(self):
        request = self.call("ssl.versions")
        self.assertEqual(("ssl.versions", {}), (request["method"], request["params"]))
        self.manager.reply(request, {"app_vsn": "0.1.0"})
        self.assertEqual(('{\n  "app_vsn": "0.1.0"\n}\n', ""), self.ends(0))

    def test_json_is_one_line(self):
        request = self.call("--json", "ssl.versions")
        self.manager.reply(request, {"app_vsn": "0.1.0"})
        self.assertEqual(('{"app_vsn":"0.1.0"}\n', ""), self.ends(0))

    def test_parameters_may_come_on_standard_input(self):
        with tempfile.TemporaryFile() as parameters:
            parameters.write(b'{"type": "openssl"}')
            parameters.seek(0)
            request = self.call("ssl.cipher_suites", "-", stdin=parameters)
        self.assertEqual({"type": "openssl"}, request["params"])
        self.manager.reply(request, {})
        self.ends(0)

    def test_errors_go_to_standard_error_with_their_facts(self):
        request = self.call("ssl.accept", '{"listener": "l1.1"}')
        self.manager.refuse(request, "not_owner")
        out, err = self.ends(1)
        self.assertEqual(("", 'cordon: ssl.accept: no: not_owner\n{"reason":"not_owner"}\n'),
                         (out, err))

    def test_errors_are_json_when_asked(self):
        request = self.call("ssl.accept", '{"listener": "l1.1"}', "--json")
        self.manager.refuse(request, "not_owner")
        out, err = self.ends(1)
        self.assertEqual("", err)
        self.assertEqual("not_owner", json.loads(out)["error"]["data"]["reason"])

    def test_a_tls_failure_is_status_4_and_its_hint_is_shown(self):
        request = self.call("ssl.connect", '{"host": "a", "port": 1}')
        self.manager.refuse(request, "tls_alert", alert="unknown_ca", hint="name its CA")
        self.assertIn("\nhint: name its CA\n", self.ends(4)[1])

    def test_no_manager_is_status_3(self):
        os.unlink(self.path)
        self.start("ssl.versions")
        self.assertIn(self.path + ": No such file", self.ends(3)[1])
        self.start("ssl.versions", "--json")
        self.assertEqual("no_manager",
                         json.loads(self.ends(3)[0])["error"]["data"]["reason"])

    def test_a_hang_up_is_status_3(self):
        self.call("ssl.versions")
        self.manager.hang_up()
        self.assertIn("hung up", self.ends(3)[1])

    def test_wrong_usage_is_status_2(self):
        for arguments in ([], ["--what", "m"], ["m", "{"], ["m", "[]"], ["m", "{}", "{}"],
                          ["m", "--fd", "x"], ["m", "--fd"], ["m", '{"a":1,"a":2}']):
            self.start(*arguments)
            out, err = self.ends(2)
            self.assertEqual("", out)
            self.assertTrue(err.startswith("cordon: "), err)
        self.start("--help")
        self.assertTrue(self.ends(0)[0].startswith("Usage: cordon call"))

    def test_files_are_opened_by_the_caller(self):
        pem = os.path.join(self.folder.name, "web.pem")
        with open(pem, "w") as f:
            f.write("certificate")
        request = self.call("ssl.listen", json.dumps({
            "listen": {"port": 0}, "options": {"certfile": pem, "keyfile": {"fd_index": 0}}}),
            "--fd", "1", pass_fds=[1])
        self.assertEqual({"certfile": {"fd_index": 1}, "keyfile": {"fd_index": 0}},
                         request["params"]["options"])
        self.assertEqual(b"certificate", os.read(request["received"][1], 100))
        for fd in request["received"]:
            os.close(fd)
        self.manager.reply(request, {})
        self.ends(0)

    def test_a_missing_file_is_named(self):
        self.start("ssl.listen", '{"options": {"certfile": "/nowhere/web.pem"}}', "--json")
        data = json.loads(self.ends(1)[0])["error"]["data"]
        self.assertEqual(("options", "certfile", "/nowhere/web.pem", "enoent"),
                         (data["reason"], data["option"], data["value"], data["posix"]))

    def test_a_handle_keeps_it_until_ctrl_c(self):
        request = self.call("ssl.connect", '{"host": "a", "port": 1}', "--json")
        self.manager.reply(request, {"conn": "c1.1", "data": {"fd_index": 0}}, [0])
        self.assertEqual('{"conn":"c1.1","data":{"fd_index":0}}\n', self.command.stdout.readline())
        self.manager.event("ssl_closed", conn="c1.1", how="close_notify")
        self.assertEqual({"method": "ssl_closed", "params": {"conn": "c1.1",
                                                             "how": "close_notify"}},
                         json.loads(self.command.stdout.readline()))
        self.assertIsNone(self.command.poll())
        self.command.send_signal(signal.SIGINT)
        self.ends(0)

    def test_a_reply_may_be_split_at_every_byte(self):
        reply = line(id=1, result={"text": "a reply"}, fds=1)
        for at in range(1, len(reply), 7):
            self.call("--json", "m")
            self.manager.write(b"\n" + reply[:at], [0])
            self.manager.write(reply[at:])
            self.assertEqual('{"text":"a reply"}\n', self.ends(0)[0])
            self.manager.hang_up()

    def test_a_restart_is_told_and_its_cut_line_dropped(self):
        self.call("m")
        self.manager.write(b'{"jsonrpc":"2.0","id":1,"res', [0])
        self.manager.write(b"\n" + line(method="restarted", params={"start": 2}))
        out, err = self.ends(1)
        self.assertEqual('{"method":"restarted","params":{"start":2}}\n', out)
        self.assertIn("restarted", err)

    def test_what_breaks_the_protocol_ends_it(self):
        for text in (b"{\n{\n", b"[]\n" + line(id=1, result={}), line(id=1, result={}, fds=1)):
            self.call("m")
            self.manager.write(text)
            self.ends(3)
            self.manager.hang_up()


if __name__ == "__main__":
    unittest.main()
