#!/usr/bin/env python3
"""Tests of api/python/cordon.py against a control server that the test plays.

    python3 tests/python/client_test.py

The test body is the server: it reads what the client sends and writes what a
manager would, byte by byte where that matters.  The client's calls, which
block, run in a thread beside it.  No Cordon process is needed.
"""

import base64
import concurrent.futures
import errno
import faulthandler
import fcntl
import gc
import json
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../api/python"))
import cordon  # noqa: E402
from fake_manager import TIME_LIMIT_S, FakeManager, line  # noqa: E402

INFO = {"protocol": "tlsv1.3", "alpn": None}


def open_fds():
    return sorted(os.readlink("/proc/self/fd/" + fd) + " " + fd
                  for fd in os.listdir("/proc/self/fd") if os.path.islink("/proc/self/fd/" + fd))


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(8)
        self.pool.submit(int).result()
        gc.collect()
        self.fds_before = len(open_fds())
        self.manager = FakeManager()
        self.client = cordon.Client(self.manager.client_end)
        faulthandler.dump_traceback_later(TIME_LIMIT_S, exit=True)

    def tearDown(self):
        faulthandler.cancel_dump_traceback_later()
        self.client.close()
        self.manager.hang_up()
        self.manager = self.client = None
        gc.collect()
        self.assertEqual(self.fds_before, len(open_fds()), open_fds())
        self.pool.shutdown()

    def start(self, function, *args, **kwargs):
        return self.pool.submit(function, *args, **kwargs)

    def wait(self, future):
        return future.result(TIME_LIMIT_S)

    def fails(self, future, error_class):
        with self.assertRaises(error_class) as caught:
            self.wait(future)
        return caught.exception

    def connection(self, **options):
        """A client connection, and the peer of its data socket (or None)."""
        future = self.start(self.client.connect, "example.org", 443, **options)
        request = self.manager.request("ssl.connect")
        result = {"conn": "c1.1", "info": INFO}
        if options.get("delivery") == "messages":
            self.manager.reply(request, result)
            return self.wait(future), None
        ours, theirs = socket.socketpair()
        self.manager.reply(request, dict(result, data={"fd_index": 0}), [theirs.fileno()])
        theirs.close()
        return self.wait(future), ours

    def close_connection(self, conn):
        future = self.start(conn.close)
        self.manager.serve("ssl.close")
        self.wait(future)

    def listener(self, **options):
        future = self.start(self.client.listen, 0, **options)
        self.manager.serve("ssl.listen", {"listener": "l1.1", "address": "::", "port": 4433})
        return self.wait(future)


class LinesTest(ClientTest):
    def test_a_reply_may_be_split_at_every_byte(self):
        whole = line(id=0, result={"text": "a reply"}, fds=1)
        for at in range(1, len(whole)):
            future = self.start(self.client.call, "ssl.versions")
            request = self.manager.request()
            whole = line(id=request["id"], result={"text": "a reply"}, fds=1)
            read_end, write_end = os.pipe()
            self.manager.write(whole[:at], [read_end])
            self.manager.write(whole[at:])
            reply = self.wait(future)
            self.assertEqual("a reply", reply["text"])
            os.write(write_end, b"x")
            self.assertEqual(b"x", os.read(reply.fds[0], 2))
            for fd in (read_end, write_end, reply.fds[0]):
                os.close(fd)

    def test_a_reply_may_come_byte_by_byte(self):
        future = self.start(self.client.call, "ssl.versions")
        request = self.manager.request()
        for byte in line(id=request["id"], result={"n": 1}):
            self.manager.write(bytes([byte]))
        self.assertEqual({"n": 1}, self.wait(future))

    def test_replies_and_events_may_be_merged_and_in_any_order(self):
        futures, requests = [], []
        for i in range(3):
            futures.append(self.start(self.client.call, "m%d" % i))
            requests.append(self.manager.request())
        pipes = [os.pipe() for _ in range(3)]
        # One write: the kernel gives all three descriptors with its first bytes.
        order = [2, 0, 1]
        self.manager.write(
            line(method="something.new", params={}) +
            b"".join(line(id=requests[i]["id"], result={"m": requests[i]["method"]}, fds=1) +
                     line(method="ssl_closed", params={"conn": "c9.9"}) for i in order),
            [pipes[i][0] for i in order])
        for i, future in enumerate(futures):
            reply = self.wait(future)
            self.assertEqual("m%d" % i, reply["m"])
            os.write(pipes[i][1], b"%d" % i)
            self.assertEqual(b"%d" % i, os.read(reply.fds[0], 2))
            os.close(reply.fds[0])
        for pipe in pipes:
            os.close(pipe[0]), os.close(pipe[1])

    def test_received_descriptors_are_closed_on_exec(self):
        conn, peer = self.connection()
        with conn.socket() as s:
            self.assertTrue(fcntl.fcntl(s, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        peer.close()

    def test_fewer_descriptors_than_announced_end_the_client(self):
        future = self.start(self.client.call, "m")
        self.manager.write(line(id=self.manager.request()["id"], result={}, fds=1))
        self.fails(future, cordon.NoManager)

    def test_too_many_unclaimed_descriptors_end_the_client(self):
        future = self.start(self.client.call, "m")
        self.manager.request()
        self.manager.write(b" ", [0] * 65)
        self.fails(future, cordon.NoManager)

    def test_a_line_without_end_ends_the_client(self):
        future = self.start(self.client.call, "m")
        self.manager.request()
        with self.assertRaises(OSError):
            for _ in range(40):
                self.manager.write(b"[" * 65536)
        self.fails(future, cordon.NoManager)

    def test_replies_that_make_no_sense_are_errors(self):
        for reply in ({"result": 7}, {"error": 7}, {}, {"error": {"data": []}}):
            future = self.start(self.client.call, "m")
            self.manager.write(line(id=self.manager.request()["id"], **reply))
            self.assertEqual("internal", self.fails(future, cordon.Error).reason)
        future = self.start(self.client.connect, "a", 1)
        self.manager.reply(self.manager.request(), {"info": INFO, "data": {"fd_index": 3}}, [0])
        self.assertEqual("internal", self.fails(future, cordon.Error).reason)

    def test_ids_of_a_wrong_kind_end_the_client(self):
        future = self.start(self.client.call, "m")
        self.manager.request()
        self.manager.write(line(id=[], result={}))
        self.fails(future, cordon.NoManager)

    def test_an_unasked_reply_is_ignored_and_its_descriptor_closed(self):
        self.manager.write(line(id=4711, result={"conn": "c1.1"}, fds=1), [0])
        future = self.start(self.client.versions)
        self.manager.serve("ssl.versions", {"app_vsn": "0.1.0"})
        self.assertEqual("0.1.0", self.wait(future)["app_vsn"])

    def test_requests_are_ascii_on_one_line(self):
        future = self.start(self.client.connect, "b\u00fccher.example\n", 443)
        request = self.manager.request("ssl.connect")
        self.assertTrue(request["line"].isascii())
        self.assertEqual("b\u00fccher.example\n", request["params"]["host"])
        self.manager.refuse(request, "resolve", host="x", why="y")
        self.fails(future, cordon.ResolveError)

    def test_a_request_over_the_limit_is_refused_here(self):
        with self.assertRaises(cordon.LimitReached):
            self.client.call("m", {"text": "x" * 65536})
        future = self.start(self.client.call, "m", {"text": "x" * 65000})
        self.manager.serve("m")
        self.wait(future)

    def test_a_manager_that_writes_before_it_reads_is_no_deadlock(self):
        self.manager.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.manager.client_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        futures = [self.start(self.client.call, "m", {"text": "x" * 60000}) for _ in range(4)]
        for _ in range(2000):
            self.manager.event("cordon.event", subscription="s0.0", text="y" * 1000)
        for _ in futures:
            request = self.manager.request("m")
            self.assertEqual(60000, len(request["params"]["text"]))
            self.manager.reply(request, {})
        for future in futures:
            self.wait(future)


class ErrorsTest(ClientTest):
    def test_each_reason_has_its_class(self):
        for reason, expected in (
                ("closed", cordon.Closed), ("timeout", cordon.Timeout),
                ("posix", cordon.Posix), ("tls_alert", cordon.TLSAlert),
                ("options", cordon.OptionError), ("not_owner", cordon.NotOwner),
                ("bad_state", cordon.BadState), ("no_peercert", cordon.Error)):
            future = self.start(self.client.call, "m")
            self.manager.refuse(self.manager.request(), reason, more=1)
            error = self.fails(future, expected)
            self.assertIs(expected, type(error))
            self.assertEqual((reason, -32000, {"reason": reason, "more": 1}),
                             (error.reason, error.code, error.data))

    def test_errors_say_more(self):
        future = self.start(self.client.call, "m")
        self.manager.refuse(self.manager.request(), "posix", posix="econnrefused")
        self.assertEqual(errno.ECONNREFUSED, self.fails(future, cordon.Posix).errno)
        future = self.start(self.client.call, "m")
        self.manager.refuse(self.manager.request(), "tls_alert", alert="unknown_ca",
                            sent_by="local", hint="name its CA")
        error = self.fails(future, cordon.TLSAlert)
        self.assertEqual(("unknown_ca", "local"), (error.alert, error.sent_by))
        self.assertIn("name its CA", str(error))
        future = self.start(self.client.call, "m")
        self.manager.refuse(self.manager.request(), "timeout")
        self.fails(future, TimeoutError)

    def test_a_hang_up_fails_what_waits_and_what_comes_later(self):
        conn, peer = self.connection()
        futures = [self.start(self.client.call, "m"), self.start(conn.wait_ending)]
        self.manager.request("m")
        self.manager.hang_up()
        for future in futures:
            self.fails(future, cordon.NoManager)
        with self.assertRaises(cordon.NoManager):
            self.client.versions()
        conn.close()
        peer.close()

    def test_closing_the_client_ends_its_waits(self):
        future = self.start(self.client.call, "m")
        self.manager.request("m")
        self.client.close()
        self.fails(future, cordon.NoManager)
        self.client.close()

    def test_a_forgotten_client_hangs_up(self):
        ours, theirs = socket.socketpair()
        cordon.Client(theirs)
        gc.collect()
        ours.settimeout(TIME_LIMIT_S)
        self.assertEqual(b"", ours.recv(1))
        ours.close()

    def test_ctrl_c_cancels_and_undoes(self):
        listener = self.listener()

        def interrupt():
            request = self.manager.request("ssl.accept")
            os.kill(os.getpid(), signal.SIGINT)
            cancel = self.manager.request("cordon.cancel")
            assert cancel["params"] == {"id": request["id"]}
            # It was too late: a connection has come.
            self.manager.reply(request, {"conn": "c1.5", "info": INFO, "data": {"fd_index": 0}},
                               [0])
            self.manager.refuse(cancel, "not_found", what="request")
            return self.manager.request("ssl.close")["params"]

        future = self.start(interrupt)
        with self.assertRaises(KeyboardInterrupt):
            listener.accept()
        self.assertEqual({"conn": "c1.5"}, self.wait(future))
        future = self.start(listener.close)
        self.manager.serve("ssl.close")
        self.wait(future)

    def test_a_forked_child_neither_uses_nor_breaks_the_link(self):
        conn, peer = self.connection(delivery="messages")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self.client.versions()
            except RuntimeError:
                conn = None
                self.client.close()
                self.client = None
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        self.assertEqual((child, 0), os.waitpid(child, 0))
        self.close_connection(conn)


class RestartTest(ClientTest):
    def test_unanswered_requests_count_as_restarted(self):
        future = self.start(self.client.call, "m")
        old = self.manager.request()
        self.manager.event("restarted", start=2)
        self.assertEqual("restarted", self.fails(future, cordon.Restarted).reason)
        future = self.start(self.client.call, "m")
        new = self.manager.request()
        # It was done all the same: what nobody asked for any more is closed.
        self.manager.reply(old, {"conn": "c1.8"})
        self.assertEqual({"conn": "c1.8"}, self.manager.request("ssl.close")["params"])
        self.manager.reply(new, {"n": 2})
        self.assertEqual({"n": 2}, self.wait(future))

    def test_a_line_cut_at_any_byte_is_dropped_with_its_descriptors(self):
        cut = line(id=1, result={"conn": "c1.1"}, fds=1)[:-2]
        for at in range(1, len(cut) + 1):
            future = self.start(self.client.call, "m")
            self.manager.request()
            self.manager.write(cut[:at], [0])
            self.manager.write(b"\n" + line(method="restarted", params={"start": 2}))
            self.fails(future, cordon.Restarted)
        self.works_with_descriptor()

    def test_an_empty_line_comes_when_nothing_was_cut(self):
        future = self.start(self.client.call, "m")
        self.manager.request()
        self.manager.write(b"\n" + line(method="restarted", params={"start": 2}))
        self.fails(future, cordon.Restarted)
        self.works_with_descriptor()

    def test_two_lines_that_do_not_parse_end_the_client(self):
        future = self.start(self.client.call, "m")
        self.manager.request()
        self.manager.write(b"{\n{\n")
        self.fails(future, cordon.NoManager)

    def test_a_line_that_does_not_parse_needs_a_restart_behind_it(self):
        future = self.start(self.client.call, "m")
        request = self.manager.request()
        self.manager.write(b"[]\n" + line(id=request["id"], result={}))
        self.fails(future, cordon.NoManager)

    def works_with_descriptor(self):
        future = self.start(self.client.call, "m")
        read_end, write_end = os.pipe()
        self.manager.reply(self.manager.request(), {}, [read_end])
        reply = self.wait(future)
        self.assertEqual(os.fstat(read_end).st_ino, os.fstat(reply.fds[0]).st_ino)
        for fd in (read_end, write_end, reply.fds[0]):
            os.close(fd)


class WireTest(unittest.TestCase):
    def test_descriptors_of_the_last_bytes_survive_the_event_before_them(self):
        wire = cordon._Wire()
        cut, kept = os.pipe()
        self.assertEqual([], list(wire.feed(b'{"cut', [cut])))
        chunk = b"\n" + line(method="restarted", params={}) + line(id=1, result={}, fds=1)
        messages = list(wire.feed(chunk, [kept]))
        self.assertEqual([[], [kept]], [fds for _, fds in messages])
        with self.assertRaises(OSError):
            os.fstat(cut)
        os.close(kept)

    def test_descriptors_before_the_event_do_not(self):
        wire = cordon._Wire()
        one, two = os.pipe()
        chunk = b'{"cut\n' + line(method="restarted", params={})
        self.assertEqual(1, len(list(wire.feed(chunk, [one, two]))))
        for fd in (one, two):
            with self.assertRaises(OSError):
                os.fstat(fd)


class OptionsTest(ClientTest):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.TemporaryDirectory()
        self.pem = os.path.join(self.folder.name, "web.pem")
        with open(self.pem, "w") as f:
            f.write("certificate")

    def tearDown(self):
        super().tearDown()
        self.folder.cleanup()

    def request_of_listen(self, **options):
        future = self.start(self.client.listen, 8443, **options)
        request = self.manager.request("ssl.listen")
        self.manager.reply(request, {"listener": "l1.1", "address": "::", "port": 8443})
        listener = self.wait(future)
        future = self.start(listener.close)
        self.manager.serve("ssl.close")
        self.wait(future)
        return request

    def content(self, request, option):
        fd = request["received"][request["params"]["options"][option]["fd_index"]]
        return os.read(fd, 100)

    def test_files_are_opened_here_and_sent(self):
        with open(self.pem) as opened:
            request = self.request_of_listen(certfile=self.pem, keyfile=opened,
                                             cacertfile=os.fsencode(self.pem), depth=3)
        self.assertEqual({"port": 8443}, request["params"]["listen"])
        self.assertEqual(3, request["params"]["options"]["depth"])
        self.assertEqual(3, len(request["received"]))
        self.assertEqual(b"certificate", self.content(request, "certfile"))
        for fd in request["received"]:
            os.close(fd)

    def test_a_missing_file_is_an_error_that_names_option_file_and_reason(self):
        with self.assertRaises(cordon.OptionError) as caught:
            self.client.listen(8443, certfile="/nowhere/web.pem")
        data = caught.exception.data
        self.assertEqual(("options", "certfile", "/nowhere/web.pem", "enoent"),
                         (data["reason"], data["option"], data["value"], data["posix"]))
        self.assertIn("/nowhere/web.pem: No such file", str(caught.exception))

    def test_a_password_is_not_in_the_line(self):
        request = self.request_of_listen(certfile=self.pem, password="open sesame")
        self.assertNotIn(b"sesame", request["line"])
        self.assertEqual(b"open sesame", self.content(request, "password"))
        for fd in request["received"]:
            os.close(fd)

    def test_a_listening_socket_may_be_given(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            future = self.start(self.client.listen, sock=server, certfile=self.pem)
            request = self.manager.request("ssl.listen")
            self.manager.reply(request, {"listener": "l1.1", "address": None, "port": None})
            listener = self.wait(future)
            self.assertNotIn("listen", request["params"])
            given = request["received"][request["params"]["fd_index"]]
            self.assertEqual(os.fstat(server.fileno()).st_ino, os.fstat(given).st_ino)
            for fd in request["received"]:
                os.close(fd)
        future = self.start(listener.close)
        self.manager.serve("ssl.close")
        self.wait(future)

    def test_timeouts_are_seconds_here_and_milliseconds_there(self):
        for seconds, there in ((1, 1000), (0.0001, 1), (math.inf, "infinity")):
            future = self.start(self.client.connect, "a", 1, timeout=seconds)
            request = self.manager.request()
            self.assertEqual(there, request["params"]["timeout"])
            self.manager.refuse(request, "timeout")
            self.fails(future, cordon.Timeout)
        for seconds in (0, -1):
            with self.assertRaises(ValueError):
                self.client.connect("a", 1, timeout=seconds)

    def test_upgrade_sends_socket_role_and_what_was_read(self):
        left, right = socket.socketpair()
        ours, theirs = socket.socketpair()
        future = self.start(self.client.upgrade, left, "server", already_read=b"\x16\x03",
                            certfile=self.pem, delivery=None)
        request = self.manager.request("ssl.upgrade")
        params = request["params"]
        self.assertEqual(("server", base64.b64encode(b"\x16\x03").decode(), 0),
                         (params["role"], params["already_read"], params["fd_index"]))
        self.assertEqual(b"certificate", self.content(request, "certfile"))
        self.assertNotIn("delivery", params["options"])
        self.manager.reply(request, {"conn": "c1.1", "info": INFO, "data": {"fd_index": 0}},
                           [theirs.fileno()])
        conn = self.wait(future)
        with conn.socket() as s:
            s.sendall(b"plain")
        self.assertEqual(b"plain", ours.recv(10))
        for thing in (left, right, ours, theirs):
            thing.close()
        for fd in request["received"]:
            os.close(fd)
        self.close_connection(conn)


class ConnectionTest(ClientTest):
    def test_the_data_is_a_real_socket_given_once(self):
        conn, peer = self.connection()
        with conn.socket() as s:
            self.assertIsInstance(s, socket.socket)
            self.assertTrue(s.getblocking())
            s.sendall(b"ping")
            self.assertEqual(b"ping", peer.recv(10))
            peer.sendall(b"pong")
            self.assertEqual(b"pong", s.recv(10))
            with self.assertRaises(cordon.BadState):
                conn.socket()
        self.assertEqual(b"", peer.recv(1))
        peer.close()
        self.close_connection(conn)

    def test_a_socket_outlives_its_connection_object(self):
        conn, peer = self.connection()
        s = conn.socket()
        conn = None
        gc.collect()
        s.sendall(b"still here")
        self.assertEqual(b"still here", peer.recv(100))
        s.close()
        peer.close()

    def test_a_forgotten_connection_is_closed(self):
        conn, peer = self.connection()
        conn = None
        gc.collect()
        self.assertEqual(b"", peer.recv(1))
        self.manager.request("ssl.close")
        peer.close()

    def test_the_last_event_right_behind_the_reply_is_seen(self):
        future = self.start(self.client.connect, "a", 1, delivery="messages")
        request = self.manager.request()
        self.manager.write(line(id=request["id"], result={"conn": "c1.1", "info": INFO}) +
                           line(method="ssl_closed", params={"conn": "c1.1", "how": "truncated",
                                                             "in": 5, "out": 0}))
        conn = self.wait(future)
        self.assertEqual({"event": "ssl_closed", "conn": "c1.1", "how": "truncated", "in": 5,
                          "out": 0}, conn.wait_ending(TIME_LIMIT_S))
        self.close_connection(conn)

    def test_closing_twice_or_late_is_fine(self):
        conn, peer = self.connection()
        future = self.start(conn.close, 2)
        request = self.manager.request("ssl.close")
        self.assertEqual({"conn": "c1.1", "timeout": 2000}, request["params"])
        self.manager.refuse(request, "not_found", what="connection")
        self.wait(future)
        conn.close()
        self.assertEqual(b"", peer.recv(1))
        peer.close()

    def test_questions(self):
        conn, peer = self.connection()
        for function, method, result, expected in (
                (conn.peercert, "ssl.peercert", {"der": "MIIB"}, base64.b64decode("MIIB")),
                (conn.negotiated_protocol, "ssl.negotiated_protocol", {"protocol": "h2"}, "h2"),
                (conn.peername, "ssl.peername", {"address": "::1", "port": 7}, ("::1", 7)),
                (conn.sockname, "ssl.sockname", {"path": "/run/x"}, "/run/x")):
            future = self.start(function)
            request = self.manager.serve(method, result)
            self.assertEqual({"conn": "c1.1"}, request["params"])
            self.assertEqual(expected, self.wait(future))
        future = self.start(conn.negotiated_protocol)
        self.manager.refuse(self.manager.request(), "protocol_not_negotiated")
        self.assertIsNone(self.wait(future))
        future = self.start(conn.information, "bytes")
        request = self.manager.serve("ssl.connection_information", {"info": {"bytes": {}}})
        self.assertEqual({"conn": "c1.1", "items": ["bytes"]}, request["params"])
        self.assertEqual({"bytes": {}}, self.wait(future))
        future = self.start(conn.shutdown)
        self.assertEqual("write", self.manager.serve("ssl.shutdown")["params"]["how"])
        self.wait(future)
        conn.socket().close()
        peer.close()

    def test_a_call_in_one_thread_does_not_wait_for_another(self):
        listener = self.listener()
        conn, peer = self.connection()
        waiting = self.start(listener.accept)
        accept = self.manager.request("ssl.accept")
        self.close_connection(conn)
        self.assertFalse(waiting.done())
        self.manager.refuse(accept, "closed")
        self.fails(waiting, cordon.Closed)
        peer.close()


class ListenerTest(ClientTest):
    def serve_accepts(self, count):
        peers = []
        for i in range(count):
            request = self.manager.request("ssl.accept")
            ours, theirs = socket.socketpair()
            self.manager.reply(request, {"conn": "c1.%d" % i, "info": INFO,
                                         "data": {"fd_index": 0}}, [theirs.fileno()])
            theirs.close()
            peers.append(ours)
        self.manager.refuse(self.manager.request("ssl.accept"), "closed")
        return peers

    def test_iterating_gives_connections_until_it_is_closed(self):
        listener = self.listener()
        self.assertEqual(("::", 4433), (listener.address, listener.port))
        future = self.start(self.serve_accepts, 3)
        served = 0
        for conn in listener:
            with conn.socket() as s:
                s.sendall(b"%d" % served)
            served += 1
        peers = self.wait(future)
        self.assertEqual([b"0", b"1", b"2"], [peer.recv(5) for peer in peers])
        for peer in peers:
            peer.close()

    def test_handshake_after_transport_accept(self):
        listener = self.listener(delivery="messages")
        future = self.start(listener.transport_accept, 5)
        request = self.manager.serve("ssl.transport_accept",
                                     {"conn": "c1.1", "peername": {"address": "::1", "port": 1}})
        self.assertEqual({"listener": "l1.1", "timeout": 5000}, request["params"])
        conn = self.wait(future)
        self.assertIsNone(conn.info)
        future = self.start(conn.handshake, delivery="descriptor")
        request = self.manager.request("ssl.handshake")
        self.assertEqual({"conn": "c1.1", "options": {"delivery": "descriptor"}},
                         request["params"])
        self.manager.reply(request, {"info": INFO, "data": {"fd_index": 0}}, [0])
        self.assertIs(conn, self.wait(future))
        self.assertEqual(INFO, conn.info)
        self.close_connection(conn)

    def test_accept_auto_takes_what_comes(self):
        listener = self.listener(accept="auto")
        future = self.start(listener.accept)
        ours, theirs = socket.socketpair()
        self.manager.write(line(method="ssl_accepted", fds=1, params={
            "listener": "l1.1", "conn": "c1.1", "info": INFO, "data": {"fd_index": 0}}),
            [theirs.fileno()])
        theirs.close()
        with self.wait(future).socket() as s:
            s.sendall(b"hello")
        self.assertEqual(b"hello", ours.recv(10))
        ours.close()

    def test_a_forgotten_listener_is_closed(self):
        listener = self.listener()
        listener = None
        gc.collect()
        self.assertEqual({"listener": "l1.1"}, self.manager.request("ssl.close")["params"])
        self.assertIsNone(listener)


class MessagesTest(ClientTest):
    def data(self, data, **params):
        self.manager.event("ssl", conn="c1.1", data=base64.b64encode(data).decode(), **params)

    def ends(self, method="ssl_closed", **params):
        self.manager.event(method, **dict({"conn": "c1.1", "in": 0, "out": 0}, **params))

    def test_active_data_comes_by_itself(self):
        conn, _ = self.connection(delivery="messages")
        with self.assertRaises(cordon.Timeout):
            conn.recv(timeout=0.01)
        self.data(b"hello ")
        self.assertEqual(b"hello ", conn.recv(timeout=TIME_LIMIT_S))
        future = self.start(conn.recv, 10)
        self.data(b"world")
        self.manager.event("ssl", conn="c1.1", data=[33, 33, 33, 33, 33, 63])
        self.assertEqual(b"world!!!!!", self.wait(future))
        self.assertEqual(b"?", conn.recv())
        self.data(b"last")
        self.ends(how="close_notify")
        self.assertEqual([b"last"], list(conn))
        self.assertEqual(b"", conn.recv())
        self.close_connection(conn)

    def test_an_end_without_close_notify_is_not_an_end_of_file(self):
        conn, _ = self.connection(delivery="messages")
        self.data(b"half a li")
        self.ends(how="truncated")
        self.assertEqual(b"half a li", conn.recv())
        with self.assertRaises(cordon.Truncated):
            conn.recv()
        self.close_connection(conn)

    def test_a_failure_is_raised_with_its_facts(self):
        conn, _ = self.connection(delivery="messages")
        self.ends("ssl_error", reason="worker_died", signal="SIGSEGV", state="connection")
        with self.assertRaises(cordon.WorkerDied) as caught:
            conn.recv()
        self.assertEqual("SIGSEGV", caught.exception.data["signal"])
        self.assertEqual("ssl_error", conn.ending["event"])
        self.close_connection(conn)

    def test_passive_data_is_asked_for(self):
        conn, _ = self.connection(delivery="messages", active=False)
        future = self.start(conn.recv, 5, 2)
        request = self.manager.serve("ssl.recv", {"data": "aGVsbG8=", "in": 5})
        self.assertEqual({"conn": "c1.1", "length": 5, "timeout": 2000}, request["params"])
        self.assertEqual(b"hello", self.wait(future))
        future = self.start(conn.recv)
        self.manager.refuse(self.manager.request(), "closed", ending={
            "event": "ssl_closed", "how": "close_notify", "in": 5, "out": 0})
        self.assertEqual(b"", self.wait(future))
        future = self.start(conn.recv)
        self.manager.refuse(self.manager.request(), "closed", ending={
            "event": "ssl_closed", "how": "truncated", "in": 5, "out": 0})
        self.fails(future, cordon.Truncated)
        self.close_connection(conn)

    def test_what_came_while_active_comes_first_and_is_not_lost(self):
        conn, _ = self.connection(delivery="messages")
        self.data(b"abc")
        future = self.start(conn.setopts, active=False)
        self.manager.serve("ssl.setopts", {"in": 3})
        self.wait(future)
        future = self.start(conn.recv, 5)
        request = self.manager.request("ssl.recv")
        self.assertEqual(2, request["params"]["length"])
        self.manager.refuse(request, "timeout")
        self.fails(future, cordon.Timeout)
        future = self.start(conn.recv, 5)
        self.manager.serve("ssl.recv", {"data": [100, 101], "in": 5})
        self.assertEqual(b"abcde", self.wait(future))
        self.close_connection(conn)

    def test_data_that_nobody_reads_pauses_the_connection(self):
        conn, _ = self.connection(delivery="messages")
        sent = 0
        while sent <= 256 * 1024:
            self.data(b"x" * 10000)
            sent += 10000
        request = self.manager.serve("ssl.setopts", {"in": sent})
        self.assertEqual({"conn": "c1.1", "options": {"active": False}}, request["params"])
        received = len(conn.recv(sent - 64 * 1024 + 1))
        request = self.manager.serve("ssl.setopts", {"in": sent})
        self.assertEqual({"conn": "c1.1", "options": {"active": True}}, request["params"])
        received += len(conn.recv())
        self.assertEqual(sent, received)
        self.close_connection(conn)

    def test_send_goes_in_parts_that_fit(self):
        conn, _ = self.connection(delivery="messages")
        future = self.start(conn.send, b"y" * 70000)
        sizes = []
        while sum(sizes) < 70000:
            request = self.manager.serve("ssl.send", {"out": 0})
            sizes.append(len(base64.b64decode(request["params"]["data"])))
        self.wait(future)
        self.assertEqual([32768, 32768, 4464], sizes)
        with self.assertRaises(cordon.BadState):
            conn.socket()
        self.close_connection(conn)


class CordonTest(ClientTest):
    def test_subscription(self):
        future = self.start(self.client.subscribe, ["log"], ["c1.1"])
        request = self.manager.request("cordon.subscribe")
        self.assertEqual({"types": ["log"], "conns": ["c1.1"]}, request["params"])
        self.manager.write(
            line(id=request["id"], result={"subscription": "s1.1", "seq": 4, "connections": [],
                                           "next": None}) +
            line(method="cordon.event", params={"subscription": "s1.1", "seq": 5, "type": "log"}) +
            line(method="overflow", params={"subscription": "s1.1", "dropped": 7}))
        subscription = self.wait(future)
        self.assertEqual(4, subscription.snapshot["seq"])
        events = iter(subscription)
        self.assertEqual(("log", 5), (lambda e: (e["type"], e["seq"]))(next(events)))
        self.assertEqual(("overflow", 7), (lambda e: (e["type"], e["dropped"]))(next(events)))
        with self.assertRaises(cordon.Timeout):
            subscription.next(timeout=0.01)
        future = self.start(subscription.close)
        self.manager.serve("cordon.unsubscribe")
        self.wait(future)

    def test_events_that_nobody_takes_are_bounded_and_counted(self):
        future = self.start(self.client.subscribe)
        self.manager.serve("cordon.subscribe", {"subscription": "s1.1", "seq": 0})
        subscription = self.wait(future)
        for seq in range(10_050):
            self.manager.event("cordon.event", subscription="s1.1", seq=seq, type="log")
        future = self.start(self.client.versions)
        self.manager.serve("ssl.versions")
        self.wait(future)
        self.assertEqual((50, 50), (subscription.next()["seq"], subscription.dropped))

    def test_lists_are_read_page_by_page(self):
        future = self.start(lambda: [row["conn"] for row in self.client.connections(limit=2)])
        request = self.manager.serve("cordon.connections", {
            "connections": [{"conn": "c1.1"}, {"conn": "c1.2"}], "next": "c1.2"})
        self.assertEqual({"limit": 2}, request["params"])
        request = self.manager.serve("cordon.connections", {
            "connections": [{"conn": "c1.3"}], "next": None})
        self.assertEqual({"limit": 2, "after": "c1.2"}, request["params"])
        self.assertEqual(["c1.1", "c1.2", "c1.3"], self.wait(future))

    def test_format_error_takes_an_error(self):
        future = self.start(self.client.format_error, cordon._error("closed", "x"))
        request = self.manager.serve("ssl.format_error", {"text": "TLS connection is closed"})
        self.assertEqual({"reason": {"reason": "closed"}}, request["params"])
        self.assertEqual("TLS connection is closed", self.wait(future))


class OpenTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "control.sock")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen()
        self.environment = dict(os.environ)

    def tearDown(self):
        os.environ.clear()
        os.environ.update(self.environment)
        self.server.close()
        self.folder.cleanup()

    def test_a_path_or_the_environment_names_the_socket(self):
        with cordon.open(self.path):
            pass
        os.environ["CORDON_SOCKET"] = self.path
        with cordon.open():
            pass

    def test_a_name_is_told(self):
        def serve():
            sock, _ = self.server.accept()
            with sock, sock.makefile("rwb") as f:
                request = json.loads(f.readline())
                f.write(line(id=request["id"], result={"client": "k1.1"}))
                f.flush()
                f.readline()
                self.name = request["params"]["client"]

        thread = threading.Thread(target=serve)
        thread.start()
        with cordon.open(self.path, name="test"):
            pass
        thread.join()
        self.assertEqual("test", self.name)

    def test_no_manager_is_an_error_that_names_the_path(self):
        os.environ["CORDON_SOCKET"] = "/nowhere/control.sock"
        with self.assertRaises(cordon.NoManager) as caught:
            cordon.open()
        self.assertIn("/nowhere/control.sock: No such file", str(caught.exception))

    def test_the_default_is_the_users_own_then_the_systems(self):
        os.environ.pop("CORDON_SOCKET", None)
        os.environ["XDG_RUNTIME_DIR"] = "/run/user/7"
        paths = cordon._paths()
        self.assertEqual("/run/cordon/control.sock", paths[-1])
        self.assertEqual([] if os.geteuid() == 0 else ["/run/user/7/cordon/control.sock"],
                         paths[:-1])


if __name__ == "__main__":
    unittest.main()
