"""Client of Cordon, the TLS connection manager.  One file, Python 3.9 or later.

    import cordon

    with cordon.open() as c:
        for conn in c.listen(port=8443, certfile="web.pem"):    # handshaken connections
            with conn.socket() as s:                            # a real socket.socket
                s.sendall(s.recv(4096).upper())

Cordon keeps each TLS connection in a process of its own and gives this program
a socket with the plaintext.  Functions and options have the names of Erlang's
`ssl`; `cordon.api.json` describes each one.  Options are keyword arguments.
Files (certfile, keyfile, cacertfile) are opened here, by this program, and sent
as descriptors; an open file or a descriptor does as well as a path.  Timeouts
are in seconds; math.inf waits for ever, None takes the default of the method.

Calls block.  Several threads may use one Client: a thread of its own reads the
control socket, so a slow caller delays nobody, and Cordon never waits for this
program.  A Client does not survive fork(): open another one in the child.

What goes wrong is a cordon.Error with `reason` (from a closed set), `data` and
`code`; the usual reasons have classes of their own.
"""

import base64
import collections
import errno
import fcntl
import itertools
import json
import math
import os
import socket as _socket
import sys
import threading
import weakref

__version__ = "0.1.0"

_LINE_MAX_OUT = 64 * 1024           # to Cordon, without the newline
_LINE_MAX_IN = 1024 * 1024          # from Cordon
_FDS_UNCLAIMED_MAX = 64
_FDS_PER_MESSAGE = 253              # the kernel's SCM_MAX_FD
_INBOX_HIGH = 256 * 1024            # a connection that is not read is told to pause here
_INBOX_LOW = 64 * 1024              # and to go on here
_EVENTS_MAX = 10_000                # of a subscription; older ones are dropped, and counted
_ACCEPTED_MAX = 1024                # of a listener with accept="auto"; further ones are closed

_FILE_OPTIONS = frozenset(("certfile", "keyfile", "cacertfile"))
_SECRET_OPTIONS = frozenset(("password",))


# --- errors ------------------------------------------------------------------


class Error(Exception):
    """Something went wrong; `reason` says what, for programs."""

    def __init__(self, message, reason="internal", data=None, code=-32000):
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.data = dict(data or {}, reason=reason)
        self.code = code


class Closed(Error):
    """The connection or listener has ended; `data["ending"]` may say how."""


class Truncated(Closed):
    """The peer left without close_notify: what it sent may be incomplete."""


class Timeout(Error, TimeoutError):
    """The time given was over."""


class Cancelled(Error):
    """cordon.cancel ended the wait."""


class Posix(Error):
    """The system refused; `errno` is the number, `data["posix"]` the name."""

    @property
    def errno(self):
        return getattr(errno, str(self.data.get("posix", "")).upper(), None)


class TLSAlert(Error):
    """TLS failed; data: alert, alert_code, sent_by, role, state, cause, hint."""

    @property
    def alert(self):
        return self.data.get("alert")

    @property
    def sent_by(self):
        return self.data.get("sent_by")


class OptionError(Error):
    """An option is wrong, or its file is; data: option, value, why."""


class ResolveError(Error):
    """The host name could not be resolved."""


class WorkerDied(Error):
    """The connection's process died; data: signal or status, state."""


class NotOwner(Error):
    """It belongs to another client."""


class NotAllowed(Error):
    """Only an administrator may do this."""


class NotFound(Error):
    """There is no such connection, listener, subscription or request."""


class BadState(Error):
    """Not possible in this state; data: state, allowed."""


class NotSupported(Error):
    """This version cannot do that."""


class LimitReached(Error):
    """data: which, max."""


class InvalidParams(Error):
    """data["param"] names the parameter that is unknown, missing or wrong."""


class DescriptorError(Error):
    """The descriptors are not those that the request names."""


class Restarted(Error):
    """The manager was restarted; what became of the request is not known."""


class NoManager(Error):
    """No manager listens there, or it has hung up."""


_ERROR_CLASSES = {
    "bad_state": BadState, "cancelled": Cancelled, "closed": Closed,
    "descriptors": DescriptorError, "invalid_params": InvalidParams, "limit": LimitReached,
    "no_manager": NoManager, "not_allowed": NotAllowed, "not_found": NotFound,
    "not_owner": NotOwner, "not_supported": NotSupported, "options": OptionError,
    "posix": Posix, "resolve": ResolveError, "restarted": Restarted, "timeout": Timeout,
    "tls_alert": TLSAlert, "truncated": Truncated, "worker_died": WorkerDied,
}


def _error(reason, message, data=None, code=-32000):
    return _ERROR_CLASSES.get(reason, Error)(message, reason, data, code)


def _error_of_reply(error):
    """The exception for the "error" of a reply, whatever is in it."""
    if not isinstance(error, dict):
        return _error("internal", "a reply with a malformed error")
    data = error.get("data")
    data = data if isinstance(data, dict) else {}
    reason = data.get("reason")
    reason = reason if isinstance(reason, str) else "internal"
    message = str(error.get("message", reason))
    if "hint" in data:
        message = "%s (%s)" % (message, data["hint"])
    return _error(reason, message, data, error.get("code", -32000))


def _error_of_ending(ending):
    """The exception for how a connection ended."""
    if ending.get("event") == "ssl_error":
        reason = str(ending.get("reason", "internal"))
        return _error(reason, "the connection failed: %s" % reason, ending)
    how = ending.get("how")
    if how == "truncated":
        return _error("truncated", "the peer left without close_notify", {"ending": ending})
    return _error("closed", "the connection is closed (%s)" % how, {"ending": ending})


# --- lines and descriptors ---------------------------------------------------


class _Broken(Exception):
    """The peer does not keep to the protocol; nothing after this makes sense."""


class _Wire:
    """Cuts what was received into lines and gives each line its descriptors.

    The kernel may merge and split writes as it likes, so descriptors are not
    tied to the recvmsg that brought them: they queue up, and a complete line
    takes as many from the front as its "fds" says.

    A restarted manager writes a newline, then the event `restarted`: before it
    stands at most one line that was cut off, and descriptors of that line.
    """

    def __init__(self):
        self._buffer = bytearray()
        self._searched = 0          # there is no newline before this
        self._fds = collections.deque()
        self._cut_line = False      # the last line was not JSON

    def feed(self, data, fds):
        """Takes the descriptors.  Gives (message, fds) for each whole line."""
        self._fds.extend(fds)
        if len(self._fds) > _FDS_UNCLAIMED_MAX:
            raise _Broken("more than %d unclaimed descriptors" % _FDS_UNCLAIMED_MAX)
        self._buffer += data
        while True:
            line = self._next_line()
            if line is None:
                return
            message = self._parse(line)
            if message is not None:
                if message.get("method") == "restarted":
                    # recvmsg stops behind a chunk that carries descriptors.
                    # So those that came just now belong to the last bytes of
                    # all, which are this event only if nothing follows it.
                    self._drop(keep=len(fds) if self._buffer else 0)
                yield message, self._claim(message)

    def close(self):
        self._drop(keep=0)

    def _next_line(self):
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > _LINE_MAX_IN:
                raise _Broken("a line longer than %d bytes" % _LINE_MAX_IN)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[:end + 1]
        self._searched = 0
        return line

    def _parse(self, line):
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            if self._cut_line:
                raise _Broken("two lines that are not JSON objects")
            self._cut_line = True
            return None
        if self._cut_line and message.get("method") != "restarted":
            raise _Broken("a line that is not a JSON object")
        self._cut_line = False
        return message

    def _claim(self, message):
        count = message.get("fds", 0)
        if type(count) is not int or not 0 <= count <= len(self._fds):
            raise _Broken("a line with %r descriptors of which %d came" % (count, len(self._fds)))
        return [self._fds.popleft() for _ in range(count)]

    def _drop(self, keep):
        while len(self._fds) > keep:
            os.close(self._fds.popleft())


def _close_all(fds):
    while fds:
        os.close(fds.pop())


class _Request:
    def __init__(self, make):
        self.make = make            # (result, fds) -> what the caller gets; in the reader
        self.done = threading.Event()
        self.value = None
        self.error = None


class Reply(dict):
    """A result; `fds` are the descriptors that came with it, the caller's to close."""

    def __init__(self, result, fds):
        super().__init__(result)
        self.fds = fds[:]
        fds.clear()


class _Link:
    """The control socket: requests out, replies and events in.

    A thread reads it.  Replies wake their callers; events go to the object
    that their handle names.  Objects are made in the reading thread, so that
    an event right behind the reply finds its object there already.  Whoever
    is given descriptors removes those it keeps from the list.

    That thread never waits for anything else, so Cordon always gets rid of
    what it has for us, goes on reading, and a caller's send ends.
    """

    def __init__(self, sock):
        self.news = threading.Condition()   # guards all but sending; notified on events
        self.gone = None                    # why the link has ended
        self._sock = sock
        self._pid = os.getpid()
        self._ids = itertools.count(1)
        self._pending = {}                  # id -> _Request
        self._abandoned = set()             # ids whose reply nobody waits for
        self._sinks = weakref.WeakValueDictionary()
        self._sending = threading.Lock()
        self._unsent = b""                  # rest of a line of post()
        self._posts = collections.deque()   # lines that nobody waits for
        self._reader = threading.Thread(target=self._read, name="cordon", daemon=True)
        self._reader.start()

    # Calls.

    def call(self, method, params=None, fds=(), make=Reply):
        """Sends a request, with copies of the descriptors, and waits for its reply."""
        request = _Request(make)
        request_id = next(self._ids)
        line = _line(request_id, method, params, len(fds))
        with self.news:
            self._check()
            self._pending[request_id] = request
        try:
            self._send(line, fds)
            request.done.wait()
        except BaseException:
            self._abandon(request_id)
            raise
        if request.error is not None:
            raise request.error
        return request.value

    def post(self, method, params, may_wait=False):
        """Sends a request, at the latest with the next call.  Its reply is dropped."""
        if self._pid != os.getpid():
            return
        request_id = next(self._ids)
        with self.news:
            self._abandoned.add(request_id)
        self._posts.append(_line(request_id, method, params, 0))
        self._flush(may_wait)

    def wait(self, condition, timeout, what):
        """Waits until condition() holds.  The caller holds `news`."""
        limit = None if timeout is None or timeout == math.inf else timeout
        if not self.news.wait_for(lambda: condition() or self.gone, limit):
            raise _error("timeout", "no %s in %s s" % (what, timeout))
        if not condition():
            raise self._gone_error()

    def attach(self, handle, sink):
        self._sinks[handle] = sink

    def end(self):
        """Hangs up; the reader cleans up.  Safe in any thread, with any lock held."""
        if self._pid != os.getpid():
            return
        try:
            self._sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self):
        self.end()
        if self._pid != os.getpid():
            self._sock.close()          # the parent's goes on
        elif threading.current_thread() is not self._reader:
            self._reader.join()

    def _check(self):
        if self._pid != os.getpid():
            raise RuntimeError("a cordon client does not survive fork(); open another one")
        if self.gone:
            raise self._gone_error()

    def _gone_error(self):
        return _error("no_manager", "the control connection has ended: %s" %
                      (self.gone or "hung up"))

    def _abandon(self, request_id):
        with self.news:
            if self._pending.pop(request_id, None) is None:
                return
            self._abandoned.add(request_id)
        self.post("cordon.cancel", {"id": request_id}, may_wait=True)

    # Sending.

    def _send(self, line, fds):
        with self._sending:
            view = memoryview(line)
            try:
                self._send_posts(0)
                if fds:
                    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _ints(fds))]
                    view = view[self._sock.sendmsg([view], rights):]
                while view:
                    view = view[self._sock.send(view):]
            except BaseException as e:
                if len(view) < len(line):
                    self.end()          # half a line is out: nothing can follow it
                if isinstance(e, OSError) and e.errno in (errno.EPIPE, errno.ECONNRESET):
                    raise self._gone_error() from None
                raise
        self._flush()

    def _flush(self, may_wait=False):
        """Sends what was posted; without leave to wait, as far as it goes now."""
        while (self._posts or self._unsent) and self._sending.acquire(blocking=may_wait):
            try:
                self._send_posts(0 if may_wait else _socket.MSG_DONTWAIT)
            except OSError:
                return                  # the next call takes it along, or sees the end
            finally:
                self._sending.release()

    def _send_posts(self, flags):
        """The caller holds _sending."""
        while self._unsent or self._posts:
            self._unsent = self._unsent or self._posts.popleft()
            self._unsent = self._unsent[self._sock.send(self._unsent, flags):]

    # Receiving, all in the reader's thread.

    def _read(self):
        wire = _Wire()
        try:
            why = self._read_to_end(wire)
        except _Broken as e:
            why = "Cordon sent %s" % e
        except OSError as e:
            why = e.strerror or str(e)
        except Exception as e:
            why = "Cordon sent something that makes no sense: %r" % e
        wire.close()
        with self.news:
            self.gone = why
            failed = list(self._pending.values())
            self._pending.clear()
            self.news.notify_all()
        for request in failed:
            request.error = self._gone_error()
            request.done.set()
        self.end()
        with self._sending:
            self._sock.close()

    def _read_to_end(self, wire):
        space = _socket.CMSG_SPACE(_FDS_PER_MESSAGE * 4)
        while True:
            data, controls, flags, _ = self._sock.recvmsg(65536, space, _socket.MSG_CMSG_CLOEXEC)
            fds = _fds_of(controls)
            if flags & _socket.MSG_CTRUNC:
                _close_all(fds)
                raise _Broken("descriptors that did not fit; is the descriptor limit reached?")
            for message, its_fds in wire.feed(data, fds):
                try:
                    self._dispatch(message, its_fds)
                finally:
                    _close_all(its_fds)
            if not data:
                return "hung up"

    def _dispatch(self, message, fds):
        with self.news:
            if "method" in message:
                self._on_event(message["method"], message.get("params"), fds)
            else:
                self._on_reply(message, fds)
            self.news.notify_all()

    def _on_reply(self, message, fds):
        request = self._pending.pop(message.get("id"), None)
        result = message.get("result")
        if request is None:
            self._on_unwanted_reply(message.get("id"), result)
            return
        try:
            if isinstance(result, dict):
                request.value = request.make(result, fds)
            else:
                request.error = _error_of_reply(message.get("error"))
        except Exception as e:          # a result without what it must have
            request.error = _error("internal", "a reply that makes no sense: %r" % e)
        request.done.set()

    def _on_unwanted_reply(self, request_id, result):
        """Nobody waits any more: what was made for this request must not stay."""
        if request_id not in self._abandoned:
            return
        self._abandoned.discard(request_id)
        for name, method in (("conn", "ssl.close"), ("listener", "ssl.close"),
                             ("subscription", "cordon.unsubscribe")):
            if isinstance(result, dict) and name in result:
                self.post(method, {name: result[name]})
                return

    def _on_event(self, method, params, fds):
        params = params if isinstance(params, dict) else {}
        if method == "restarted":
            self._on_restarted()
        sink = None
        for name in ("subscription", "listener", "conn"):
            if name in params:
                sink = self._sinks.get(params[name])
                break
        if sink is not None:
            sink._on_event(method, params, fds)

    def _on_restarted(self):
        """Requests not answered by now count as `restarted`; late replies are unwanted."""
        self._abandoned = set(self._pending)
        for request in self._pending.values():
            request.error = _error("restarted", "the manager was restarted before it answered")
            request.done.set()
        self._pending.clear()


def _line(request_id, method, params, fd_count):
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params:
        message["params"] = params
    if fd_count:
        message["fds"] = fd_count
    line = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(line) > _LINE_MAX_OUT:
        raise _error("limit", "the request is longer than %d bytes" % _LINE_MAX_OUT,
                     {"which": "line_bytes_in", "max": _LINE_MAX_OUT})
    return line + b"\n"


def _ints(fds):
    return b"".join(int(fd).to_bytes(4, sys.byteorder) for fd in fds)


def _fds_of(controls):
    fds = []
    for level, kind, data in controls:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += [int.from_bytes(data[i:i + 4], sys.byteorder)
                    for i in range(0, len(data) - len(data) % 4, 4)]
    return fds


# --- parameters --------------------------------------------------------------


class _Parcel:
    """Parameters, and the descriptors that go with them."""

    def __init__(self):
        self.params = {}
        self.fds = []
        self._own = []              # opened here, closed here

    def __enter__(self):
        return self

    def __exit__(self, *_):
        _close_all(self._own)

    def add_fd(self, fd):
        self.fds.append(fd)
        return len(self.fds) - 1

    def add_timeout(self, timeout):
        if timeout is not None:
            self.params["timeout"] = _milliseconds(timeout)

    def add_options(self, options):
        made = {}
        for name, value in options.items():
            if value is None:
                continue
            if name in _FILE_OPTIONS:
                value = {"fd_index": self.add_fd(self._file(name, value))}
            elif name in _SECRET_OPTIONS:
                value = {"fd_index": self.add_fd(self._secret(value))}
            made[name] = value
        if made:
            self.params["options"] = made

    def _file(self, option, value):
        if type(value) is int:
            return value
        if hasattr(value, "fileno"):
            return value.fileno()
        try:
            fd = os.open(value, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as e:
            name = errno.errorcode.get(e.errno, "").lower()
            raise _error("options", "%s %s: %s" % (option, os.fsdecode(value), e.strerror),
                         {"option": option, "value": os.fsdecode(value), "why": e.strerror,
                          "posix": name}) from None
        self._own.append(fd)
        return fd

    def _secret(self, value):
        """In memory of its own, sealed, so that it is in no line and no log."""
        if type(value) is int:
            return value
        fd = os.memfd_create("secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._own.append(fd)
        os.write(fd, value.encode() if isinstance(value, str) else bytes(value))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE |
                    fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd


def _milliseconds(timeout):
    if timeout == math.inf:
        return "infinity"
    if not timeout > 0:
        raise ValueError("a timeout is more than 0 seconds, not %r" % (timeout,))
    return math.ceil(timeout * 1000)


def _address(result):
    """An address as the socket module has it: (host, port), or a path."""
    return result["path"] if "path" in result else (result["address"], result["port"])


def _bytes(data):
    """Data as it comes, by the connection's mode."""
    return base64.b64decode(data, validate=True) if isinstance(data, str) else bytes(data)


def _take_data(result, fds):
    """The data descriptor of a result, or None."""
    data = result.get("data")
    return fds.pop(data["fd_index"]) if data is not None else None


# --- connections, listeners, subscriptions -----------------------------------


class Connection:
    """One TLS connection.

    handle      its name in the control API: "c3.1842"
    info        the facts of its handshake: protocol, cipher_suite, alpn,
                peer_certificate, ...; None before the handshake
    ending      None while it lives; then its last event: how it ended
    """

    def __init__(self, link, handle, options, result, fds):
        self.handle = handle
        self.info = None
        self.ending = None
        self._link = link
        self._fd = None                 # until socket() gives it away
        self._forgotten = False         # ssl.close was asked for
        self._delivery = options.get("delivery", "descriptor")
        self._active = options.get("active", True)
        self._inbox = bytearray()       # delivery messages, active
        self._paused = False            # because nobody read the inbox
        self._establish(result, fds)
        link.attach(handle, self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        # The socket that socket() gave away keeps its connection alive.
        if self._fd is not None:
            os.close(self._fd)
        elif self._delivery == "descriptor" and self.info is not None:
            return
        if not self._forgotten:
            self._link.post("ssl.close", {"conn": self.handle})

    def __repr__(self):
        return "<cordon.Connection %s>" % self.handle

    def handshake(self, timeout=None, **options):
        """Shakes hands as the server, after transport_accept; options override the listener's."""
        with _Parcel() as parcel:
            parcel.params["conn"] = self.handle
            parcel.add_options(options)
            parcel.add_timeout(timeout)
            self._set_options(options)
            self._link.call("ssl.handshake", parcel.params, parcel.fds, self._establish)
        return self

    def socket(self):
        """The plaintext as a socket.socket, blocking.  Once: whoever asks owns it.

        Closing it closes the connection; shutdown(SHUT_WR) sends close_notify.
        Its end of file comes after the last byte, and does not say why: `ending`
        does, or wait_ending().
        """
        if self._fd is None:
            raise _error("bad_state", "there is no data socket%s" % (
                "; use send() and recv()" if self._delivery == "messages" else
                ", or it was given away already"), {"state": "no_socket", "allowed": []})
        sock = _socket.socket(fileno=self._fd)
        self._fd = None
        return sock

    def send(self, data, timeout=None):
        """Sends all of data (delivery "messages"); returns when the worker has it."""
        data = data.encode() if isinstance(data, str) else bytes(data)
        for start in range(0, len(data), 32768):
            part = base64.b64encode(data[start:start + 32768]).decode("ascii")
            self._call("ssl.send", data=part, timeout=timeout)

    def recv(self, length=0, timeout=None):
        """Exactly length bytes, or, for 0, what there is (delivery "messages").

        b"" is the end, announced by close_notify; Truncated is an end without it.
        """
        with self._link.news:
            if self._active:
                self._link.wait(lambda: self.ending or len(self._inbox) >= max(1, length),
                                timeout, "data")
            if self._active and self.ending and len(self._inbox) < max(1, length):
                return self._end(self.ending)
            head = bytes(self._inbox[:length or len(self._inbox)])
            del self._inbox[:len(head)]
        self._resume()
        if head and len(head) >= length:
            return head
        return self._recv_passive(head, length, timeout)

    def __iter__(self):
        """The data as it comes, to its end (delivery "messages")."""
        return iter(self.recv, b"")

    def shutdown(self, how="write"):
        """Ends one direction: "read", "write" (close_notify goes out) or "read_write"."""
        self._call("ssl.shutdown", how=how)

    def close(self, timeout=None):
        """Sends close_notify behind what was written; with timeout, waits for the end."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)
        if self._forgotten:
            return
        self._forgotten = True
        try:
            self._call("ssl.close", timeout=timeout)
        except (NotFound, Closed, NoManager):
            pass                        # it has ended already

    def setopts(self, **options):
        """In this version: active=True or active=False."""
        result = self._call("ssl.setopts", options=options)
        with self._link.news:
            self._set_options(options)
            self._paused = False
        return result

    def getopts(self, *names):
        return self._call("ssl.getopts", names=list(names))["options"]

    def information(self, *items):
        """All that is known of it, or the items named."""
        return self._call("ssl.connection_information", items=list(items) or None)["info"]

    def peercert(self):
        """The peer's certificate, DER."""
        return base64.b64decode(self._call("ssl.peercert")["der"])

    def negotiated_protocol(self):
        """The application protocol that ALPN settled, or None."""
        try:
            return self._call("ssl.negotiated_protocol")["protocol"]
        except Error as e:
            if e.reason == "protocol_not_negotiated":
                return None
            raise

    def peername(self):
        return _address(self._call("ssl.peername"))

    def sockname(self):
        return _address(self._call("ssl.sockname"))

    def wait_ending(self, timeout=None):
        """Waits for the last event and returns it: {"event", "how" or "reason", "in", "out"}."""
        with self._link.news:
            self._link.wait(lambda: self.ending, timeout, "end of %s" % self.handle)
            return self.ending

    def _call(self, method, timeout=None, **params):
        params = {name: value for name, value in params.items() if value is not None}
        params["conn"] = self.handle
        if timeout is not None:
            params["timeout"] = _milliseconds(timeout)
        return self._link.call(method, params)

    def _set_options(self, options):
        self._delivery = options.get("delivery", self._delivery)
        self._active = options.get("active", self._active)

    def _establish(self, result, fds):
        """A result with `info` and `data`, of which the descriptor is taken.  In the reader."""
        self._fd = _take_data(result, fds)
        self.info = result.get("info")
        return self

    def _recv_passive(self, head, length, timeout):
        """head came while it was active; the rest is asked for."""
        try:
            result = self._call("ssl.recv", timeout=timeout, length=max(0, length - len(head)))
            return head + _bytes(result["data"])
        except BaseException as e:
            with self._link.news:
                self._inbox[:0] = head
            ending = e.data.get("ending") if isinstance(e, Closed) else None
            if ending:
                return self._end(ending)
            raise

    def _end(self, ending):
        """What recv makes of the end, when there are not as many bytes as it wants."""
        if ending.get("how") in ("close_notify", "local") and not self._inbox:
            return b""
        raise _error_of_ending(ending)

    def _resume(self):
        """Goes on receiving when a full inbox has been read.  The caller does not hold `news`."""
        with self._link.news:
            due = self._paused and len(self._inbox) < _INBOX_LOW
            self._paused = self._paused and not due
        if due and not self.ending:
            self._link.post("ssl.setopts", {"conn": self.handle, "options": {"active": True}},
                            may_wait=True)

    def _on_event(self, method, params, fds):
        """In the reader, which holds `news`."""
        if method == "ssl":
            self._inbox += _bytes(params["data"])
            if len(self._inbox) > _INBOX_HIGH and not self._paused:
                self._paused = True
                self._link.post("ssl.setopts",
                                {"conn": self.handle, "options": {"active": False}})
        elif method in ("ssl_closed", "ssl_error"):
            self.ending = dict(params, event=method)


class Listener:
    """Accepts connections.  Iterating gives them as their handshakes complete.

    handle      its name in the control API: "l3.7"
    address, port   where it listens; None for a Unix socket
    """

    def __init__(self, link, options, auto, result, fds):
        self._closed = False
        self._link = link
        self.handle = result["listener"]
        self.address = result["address"]
        self.port = result["port"]
        self._options = {name: options[name] for name in ("active", "delivery") if name in options}
        self._auto = auto
        self._accepted = collections.deque()
        link.attach(self.handle, self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if not self._closed:
            self._link.post("ssl.close", {"listener": self.handle})

    def __repr__(self):
        return "<cordon.Listener %s>" % self.handle

    def __iter__(self):
        while not self._closed:
            try:
                yield self.accept()
            except Closed:
                return

    def accept(self, timeout=None):
        """The next connection whose handshake is complete."""
        if self._auto:
            with self._link.news:
                self._link.wait(lambda: self._accepted, timeout, "connection")
                return self._accepted.popleft()
        return self._call("ssl.accept", timeout, self._connection)

    def transport_accept(self, timeout=None):
        """The next connection, before its handshake: conn.handshake() comes next."""
        return self._call("ssl.transport_accept", timeout, self._connection)

    def setopts(self, **options):
        """In this version: active=True or active=False, for connections from now on."""
        self._call("ssl.setopts", options=options)
        self._options.update(options)

    def getopts(self, *names):
        return self._call("ssl.getopts", names=list(names))["options"]

    def sockname(self):
        return _address(self._call("ssl.sockname"))

    def close(self):
        if self._closed:
            return
        self._closed = True
        try:
            self._call("ssl.close")
        except (NotFound, Closed, NoManager):
            pass                        # it has ended already

    def _call(self, method, timeout=None, make=Reply, **params):
        params["listener"] = self.handle
        if timeout is not None:
            params["timeout"] = _milliseconds(timeout)
        return self._link.call(method, params, (), make)

    def _connection(self, result, fds):
        return _hold(Connection(self._link, result["conn"], self._options, result, fds),
                     self._client)

    def _on_event(self, method, params, fds):
        """In the reader, which holds `news`."""
        if method == "ssl_accepted":
            conn = self._connection(params, fds)
            if len(self._accepted) < _ACCEPTED_MAX:
                self._accepted.append(conn)     # else it closes as it is forgotten


class Subscription:
    """Events of Cordon; iterating waits for them.

    snapshot    how the connections were when it began
    dropped     events that did not fit here, because nobody took them
    """

    def __init__(self, link, result, fds):
        self._closed = False
        self._link = link
        self.handle = result["subscription"]
        self.snapshot = result
        self.dropped = 0
        self._events = collections.deque()
        link.attach(self.handle, self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if not self._closed:
            self._link.post("cordon.unsubscribe", {"subscription": self.handle})

    def __iter__(self):
        while not self._closed:
            yield self.next()

    def next(self, timeout=None):
        """The next event: {"type", "seq", "time", ...}; type "overflow" says what was dropped."""
        with self._link.news:
            self._link.wait(lambda: self._events, timeout, "event")
            return self._events.popleft()

    def close(self):
        if not self._closed:
            self._closed = True
            try:
                self._link.call("cordon.unsubscribe", {"subscription": self.handle})
            except (NotFound, NoManager):
                pass

    def _on_event(self, method, params, fds):
        """In the reader, which holds `news`."""
        if len(self._events) >= _EVENTS_MAX:
            self._events.popleft()
            self.dropped += 1
        if method == "overflow":
            params = dict(params, type="overflow")
        self._events.append(params)


# --- the client --------------------------------------------------------------


class Client:
    """A control connection.  What it made ends with it."""

    def __init__(self, sock):
        """Takes a connected control socket; cordon.open() makes one."""
        self._link = _Link(sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        link = getattr(self, "_link", None)
        if link is not None:
            link.end()

    def close(self):
        self._link.close()

    def call(self, method, params=None, fds=()):
        """Any method of the control API.  Gives a dict whose `fds` are the caller's to close."""
        return self._link.call(method, params, fds)

    # TLS.

    def listen(self, port=None, address=None, sock=None, accept=None, handshakes_max=None,
               accept_queue=None, **options):
        """Listens on port (0: the kernel chooses), or on a listening socket given as sock."""
        with _Parcel() as parcel:
            if sock is not None:
                parcel.params["fd_index"] = parcel.add_fd(_fileno(sock))
            if port is not None or sock is None:
                where = {"address": address, "port": port}
                parcel.params["listen"] = {k: v for k, v in where.items() if v is not None}
            for name, value in (("accept", accept), ("handshakes_max", handshakes_max),
                                ("accept_queue", accept_queue)):
                if value is not None:
                    parcel.params[name] = value
            parcel.add_options(options)
            return self._link.call(
                "ssl.listen", parcel.params, parcel.fds,
                lambda result, fds: _hold(Listener(self._link, options, accept == "auto",
                                                   result, fds), self))

    def connect(self, host, port, timeout=None, **options):
        """Connects and shakes hands; the server's certificate must be valid for host."""
        with _Parcel() as parcel:
            parcel.params.update(host=host, port=port)
            return self._establish("ssl.connect", parcel, timeout, options)

    def upgrade(self, sock, role, already_read=b"", timeout=None, **options):
        """TLS on a connected socket (STARTTLS); role is "client" or "server".

        already_read are bytes that came behind the last plaintext.  Cordon
        has the socket from here: sock, if it is an object and not a number,
        is closed when the upgrade succeeds.
        """
        with _Parcel() as parcel:
            parcel.params.update(fd_index=parcel.add_fd(_fileno(sock)), role=role)
            if already_read:
                parcel.params["already_read"] = base64.b64encode(already_read).decode("ascii")
            conn = self._establish("ssl.upgrade", parcel, timeout, options)
        if hasattr(sock, "close"):
            sock.close()
        return conn

    def versions(self):
        return self.call("ssl.versions")

    def cipher_suites(self, type="default"):
        return self.call("ssl.cipher_suites", {"type": type})["suites"]

    def clear_pem_cache(self):
        return self.call("ssl.clear_pem_cache")

    def format_error(self, reason):
        """A sentence about a reason, the data of an error, or a cordon.Error."""
        reason = reason.data if isinstance(reason, Error) else reason
        return self.call("ssl.format_error", {"reason": reason})["text"]

    # Cordon.

    def hello(self, name=None, want=()):
        params = {"client": name} if name else {}
        if want:
            params["want"] = list(want)
        return self.call("cordon.hello", params)

    def describe(self):
        return self.call("cordon.describe")

    def status(self):
        return self.call("cordon.status")

    def connections(self, **filters):
        """Iterates over the connections, page by page."""
        return self._pages("connections", filters)

    def listeners(self, **filters):
        return self._pages("listeners", filters)

    def clients(self, **filters):
        return self._pages("clients", filters)

    def subscribe(self, types=None, conns=None):
        params = {}
        if types is not None:
            params["types"] = list(types)
        if conns is not None:
            params["conns"] = [getattr(conn, "handle", conn) for conn in conns]
        return self._link.call("cordon.subscribe", params, (),
                               lambda result, fds: _hold(Subscription(self._link, result, fds),
                                                         self))

    def kill(self, conn, how="close"):
        self.call("cordon.kill", {"conn": getattr(conn, "handle", conn), "how": how})

    def stop(self):
        self.call("cordon.stop")

    def services(self, **filters):
        return self._pages("services", filters)

    def service_add(self, name, listen, deliver, replace=False, handshakes_max=None, **options):
        """A service: listen and deliver as in the configuration file.  {listener, address, port}"""
        with _Parcel() as parcel:
            parcel.params.update(name=name, listen=listen, deliver=deliver, replace=replace)
            if handshakes_max is not None:
                parcel.params["handshakes_max"] = handshakes_max
            parcel.add_options(options)
            return self._link.call("cordon.service_add", parcel.params, parcel.fds)

    def service_remove(self, name):
        self.call("cordon.service_remove", {"name": name})

    def reload(self):
        """Takes up changed files and configuration; Error says why nothing was."""
        return self.call("cordon.reload")

    def log_level(self, level=None):
        return self.call("cordon.log_level", {"level": level} if level else None)["level"]

    def _establish(self, method, parcel, timeout, options):
        parcel.add_options(options)
        parcel.add_timeout(timeout)
        return self._link.call(
            method, parcel.params, parcel.fds,
            lambda result, fds: _hold(Connection(self._link, result["conn"], options,
                                                 result, fds), self))

    def _pages(self, what, filters):
        while True:
            page = self.call("cordon." + what, filters)
            yield from page[what]
            if page["next"] is None:
                return
            filters = dict(filters, after=page["next"])


def _hold(thing, client):
    """A client lives as long as what it made."""
    thing._client = client
    return thing


def _fileno(sock):
    return sock if isinstance(sock, int) else sock.fileno()


def _paths():
    """Where the control socket may be, the first that answers counts."""
    if os.environ.get("CORDON_SOCKET"):
        return [os.environ["CORDON_SOCKET"]]
    paths = ["/run/cordon/control.sock"]
    if os.geteuid() != 0 and os.environ.get("XDG_RUNTIME_DIR"):
        paths.insert(0, os.path.join(os.environ["XDG_RUNTIME_DIR"], "cordon", "control.sock"))
    return paths


def open(path=None, name=None):
    """Connects to the running manager; name is what lists and logs call this program."""
    tried = []
    for where in [os.fspath(path)] if path is not None else _paths():
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(where)
            break
        except OSError as e:
            sock.close()
            tried.append("%s: %s" % (where, e.strerror or e))
    else:
        raise _error("no_manager", "no manager answers (%s)" % "; ".join(tried),
                     {"paths": tried})
    client = Client(sock)
    if name is not None:
        try:
            client.hello(name)
        except BaseException:
            client.close()
            raise
    return client
