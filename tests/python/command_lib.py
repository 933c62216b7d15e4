"""What the tests of the `cordon` command share: starting it, its processes, TLS peers."""

import json
import os
import re
import select
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import cordon
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

    def says_nothing(self, err):
        """But of walls that this machine cannot put up."""
        self.assertEqual("", re.sub(r"(?m)^\S+Z warn manager a wall does not stand .*\n", "", err))

    def json_error(self, status, *arguments, **kwargs):
        """Runs it with --json; the data of its error."""
        out, err = self.run_command(status, "--json", *arguments, **kwargs)
        self.says_nothing(err)
        error = json.loads(out)["error"]
        self.assertTrue(error["message"])
        return error["data"]


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
