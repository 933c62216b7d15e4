"""Plain servers behind Cordon's services, for tests."""

import socket
import threading

from real_tree import TIME_LIMIT_S


class Backend:
    """Accepts on a port of its own; serve(sock) runs in a thread for each connection.

    Leaving it as a context waits for these threads; what went wrong in one is raised there.
    """

    def __init__(self, serve):
        self.serve = serve
        self.served = 0
        self.failures = []
        self.threads = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.accepting = threading.Thread(target=self._accept)

    def __enter__(self):
        self.accepting.start()
        return self

    def __exit__(self, kind, *_):
        self.listener.shutdown(socket.SHUT_RDWR)        # accept returns
        self.accepting.join()
        self.listener.close()
        for thread in self.threads:
            thread.join()
        if self.failures and kind is None:
            raise self.failures[0]

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.served += 1
            sock.settimeout(TIME_LIMIT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=[sock])
            self.threads.append(thread)
            thread.start()

    def _serve(self, sock):
        with sock:
            try:
                self.serve(sock)
            except Exception as e:
                self.failures.append(e)


def read_all(sock):
    """To the clean end; a reset is an exception."""
    data = bytearray()
    while part := sock.recv(65536):
        data += part
    return bytes(data)


def read_head(sock):
    """The head of an HTTP request, and what of its body came along.  None: there is no more."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            if data:
                raise AssertionError("a request ends in its head: %r" % bytes(data))
            return None
        data += part
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    return head.decode(), body
