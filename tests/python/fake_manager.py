"""The manager's end of a control socket, for tests of programs at the other end."""

import array
import json
import socket

TIME_LIMIT_S = 60


class FakeManager:
    """The other end of the control socket."""

    def __init__(self, sock=None):
        """Takes the accepted socket; without one makes a pair, with client_end."""
        self.sock = sock
        if sock is None:
            self.sock, self.client_end = socket.socketpair()
        self.sock.settimeout(TIME_LIMIT_S)
        self.buffer = b""
        self.fds = []

    def request(self, method=None):
        """The next request, with its descriptors as request["received"]."""
        while b"\n" not in self.buffer:
            data, controls, flags, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(1024))
            assert data and not flags & socket.MSG_CTRUNC, "the client has hung up"
            for _, _, rights in controls:
                self.fds += array.array("i", rights)
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        request = json.loads(line)
        assert request["jsonrpc"] == "2.0" and method in (None, request["method"]), request
        request["line"] = line
        request["received"] = [self.fds.pop(0) for _ in range(request.get("fds", 0))]
        return request

    def write(self, data, fds=()):
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            data = data[self.sock.sendmsg([data], rights):]
        if data:  # even no byte at all is an error after the client hung up
            self.sock.sendall(data)

    def reply(self, request, result, fds=()):
        self.write(line(id=request["id"], result=result, fds=len(fds)), fds)

    def refuse(self, request, reason, code=-32000, **data):
        self.write(line(id=request["id"], error={
            "code": code, "message": "no: " + reason, "data": dict(data, reason=reason)}))

    def event(self, method, **params):
        self.write(line(method=method, params=params))

    def serve(self, method, result=None):
        request = self.request(method)
        self.reply(request, result or {})
        return request

    def hang_up(self):
        self.sock.close()


def line(**message):
    if not message.get("fds"):
        message.pop("fds", None)
    return json.dumps(dict(message, jsonrpc="2.0")).encode() + b"\n"
