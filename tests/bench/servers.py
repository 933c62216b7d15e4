"""The servers that scripts/bench measures: how each is started, and who of them does what.

Every server gets the same certificates, the same plain backend behind it, one core, and no
session tickets on the ports for full handshakes.  A server's `ports` say what it offers:

    ecdsa, rsa      full handshakes with a P-256 or RSA-2048 certificate
    resume          P-256 with session tickets
"""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../api/python"))
import cordon                   # noqa: E402

START_S = 30            # a server that does not listen by then fails the run
STOP_S = 15

PACKAGES = ["hitch", "haproxy", "nginx", "libnginx-mod-stream", "stunnel4", "socat",
            "erlang-base", "erlang-ssl"]


class Failure(Exception):
    """The run cannot go on; the text says why."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


# --- control groups ----------------------------------------------------------


def own_groups():
    """{controller or "2": folder of the control group this process is in}, where it may write."""
    paths = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in (controllers or "2").split(","):
                paths[controller] = path
    groups = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            words, rest = line.split(" - ")
            kind, _, options = rest.split()[:3]
            mount = words.split()[4]
            names = ["2"] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
            for name in names:
                folder = mount + paths.get(name, "/nowhere")
                if os.access(folder, os.W_OK):
                    groups[name] = folder.rstrip("/")
    return groups


def remove_leftovers():
    """The empty groups of runs that were killed."""
    for folder in own_groups().values():
        for entry in os.scandir(folder):
            match = re.fullmatch(r"cordon-bench-(\d+)-.*", entry.name)
            if match and not os.path.exists("/proc/" + match.group(1)):
                try:
                    os.rmdir(entry.path)
                except OSError:
                    pass        # somebody lives in it


class Group:
    """A control group of each kind that is there, below our own: counts all that a server does,
    by whichever of its processes, alive or gone."""

    def __init__(self, name):
        self.folders = {}
        groups = own_groups()
        wanted = ["2"] if "2" in groups else ["cpuacct"]
        wanted += ["memory"]
        for kind in wanted:
            if kind in groups:
                folder = "%s/cordon-bench-%d-%s" % (groups[kind], os.getpid(), name)
                os.mkdir(folder)
                self.folders[kind] = folder

    @property
    def cpu_file(self):
        """None: nothing here counts the CPU time of a group of processes."""
        for kind, name in (("2", "cpu.stat"), ("cpuacct", "cpuacct.usage")):
            if kind in self.folders:
                return os.path.join(self.folders[kind], name)
        return None

    def enter(self):
        for folder in self.folders.values():
            with open(folder + "/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))

    def pids(self):
        for folder in self.folders.values():
            with open(folder + "/cgroup.procs") as file:
                return [int(line) for line in file]
        return []

    def memory(self):
        """(anonymous, kernel) bytes; None without a memory controller."""
        if "memory" in self.folders:
            folder = self.folders["memory"]
            with open(folder + "/memory.stat") as file:
                stat = dict(line.split() for line in file)
            with open(folder + "/memory.kmem.usage_in_bytes") as file:
                return int(stat["rss"]), int(file.read())
        folder = self.folders.get("2")
        if folder and os.path.exists(folder + "/memory.stat"):
            with open(folder + "/memory.stat") as file:
                stat = dict(line.split() for line in file)
            return int(stat["anon"]), int(stat["kernel"])
        return None

    def remove(self):
        deadline = time.monotonic() + STOP_S
        for folder in self.folders.values():
            while True:
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
        self.folders = {}


# --- servers -----------------------------------------------------------------


def become_subreaper():
    """What a server leaves behind becomes our child, so that it can be waited for."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def reap_orphans():
    """When everything of ours has ended."""
    deadline = time.monotonic() + STOP_S
    try:
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
    except ChildProcessError:
        pass                    # nobody is left


class Server:
    """One row of the table.  Subclasses say how it starts."""

    key_group = "X25519"    # of the key exchange
    key_group_tls12 = None  # where it is another one
    does_bulk = True        # it can pass bytes on to the backend
    package = None
    about = ""

    def __init__(self, bench):
        self.bench = bench              # folder, certificates, backend_port, core
        self.name = type(self).name
        self.folder = os.path.join(bench.folder, self.name)
        self.ports = {}
        self.processes = []
        self.group = None
        self.running = "?"      # its version
        self.counted = []       # what kinds of control group count it

    def start(self):
        os.mkdir(self.folder, 0o755)
        self.group = Group(self.name)
        self.counted = list(self.group.folders)
        self.launch()
        for port in self.ports.values():
            self.wait_for(lambda port=port: listens(port), "port %d" % port)

    def launch(self):
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def run(self, argv, openssl_config="/dev/null", environment=None):
        """Starts a program on the server's core, in its group."""
        def enter():
            self.group.enter()
            os.sched_setaffinity(0, {self.bench.server_core})

        log = open(os.path.join(self.folder, "log"), "ab")
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=enter,
            start_new_session=True,
            env=dict(os.environ, OPENSSL_CONF=openssl_config, **(environment or {})))
        log.close()
        self.processes.append(process)
        return process

    def variants(self):
        """(ports, configuration file of OpenSSL): of its own accord it sends tickets."""
        yield ("ecdsa", "rsa"), self.bench.no_tickets
        yield ("resume",), "/dev/null"

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def log(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as file:
            return file.read()

    def wait_for(self, condition, what):
        deadline = time.monotonic() + START_S
        while not condition():
            for process in self.processes:
                if process.poll() is not None:
                    raise Failure("%s ended with status %d:\n%s" %
                                  (self.name, process.returncode, self.log()[-2000:]))
            if time.monotonic() > deadline:
                raise Failure("%s: no %s in %d s:\n%s" %
                              (self.name, what, START_S, self.log()[-2000:]))
            time.sleep(0.02)

    def cpu_by_program(self):
        """{program: ticks}: of the processes alive, with what their children used that they have
        waited for.  Coarse: for the shares, not for the sum."""
        ticks = {}
        for pid in self.group.pids():
            try:
                with open("/proc/%d/stat" % pid) as file:
                    name, fields = re.match(r"\d+ \((.*)\) (.*)", file.read()).groups()
            except OSError:
                continue
            spent = sum(int(field) for field in fields.split()[11:15])
            ticks[name] = ticks.get(name, 0) + spent
        return ticks

    def stop(self):
        family = self.group.pids() if self.group is not None else []
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.group is not None:
            for pid in self.group.pids():       # what it started and left behind
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for pid in family:                  # orphans come to us, the subreaper
                try:
                    os.waitpid(pid, 0)
                except ChildProcessError:
                    pass
            self.group.remove()
        self.processes, self.group = [], None


def first_number(text):
    found = re.search(r"\d+(\.\d+)+\S*", text)
    return found.group(0) if found else "?"


def version_of(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return first_number(done.stdout)


class Hitch(Server):
    name = "hitch"
    about = "processes with an event loop, OpenSSL"

    def launch(self):
        for names, openssl_config in self.variants():
            text = 'backend = "[127.0.0.1]:%d"\n' % self.bench.backend_port
            for name in names:
                self.ports[name] = free_port()
                text += ('frontend = {\n  host = "127.0.0.1"\n  port = "%d"\n'
                         '  pem-file = "%s"\n}\n' %
                         (self.ports[name], self.bench.certificate(name)))
            text += ('workers = 1\nbacklog = 1024\ndaemon = off\nuser = "nobody"\n'
                     'group = "nogroup"\nocsp-dir = ""\nlog-level = 1\n'
                     'tls-protos = TLSv1.2 TLSv1.3\n')
            self.run(["hitch", "--config=" + self.write("%s.conf" % names[0], text)],
                     openssl_config)

    def version(self):
        return version_of("hitch", "--version")


class Haproxy(Server):
    name = "haproxy"
    about = "one thread with an event loop, OpenSSL"

    def launch(self):
        for names, openssl_config in self.variants():
            text = ("global\n  nbthread 1\n  maxconn 4096\n  user nobody\n  group nogroup\n"
                    "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
                    "  timeout server 60s\n"
                    "backend plain\n  server plain 127.0.0.1:%d\n" % self.bench.backend_port)
            for name in names:
                self.ports[name] = free_port()
                text += ("frontend %s\n  bind 127.0.0.1:%d backlog 1024 ssl crt %s "
                         "ssl-min-ver TLSv1.2\n  default_backend plain\n" %
                         (name, self.ports[name], self.bench.certificate(name)))
            self.run(["haproxy", "-db", "-f", self.write("%s.cfg" % names[0], text)],
                     openssl_config)

    def version(self):
        return version_of("haproxy", "-v")


class Nginx(Server):
    name = "nginx"
    about = "its stream module: one worker with an event loop, OpenSSL"

    def launch(self):
        for names, openssl_config in self.variants():
            text = ("load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
                    "daemon off;\nworker_processes 1;\nuser nobody nogroup;\n"
                    "pid %s/%s.pid;\nerror_log %s/error.log;\n"
                    "events {\n  worker_connections 8192;\n}\n"
                    "stream {\n  ssl_protocols TLSv1.2 TLSv1.3;\n  ssl_session_cache off;\n" %
                    (self.folder, names[0], self.folder))
            for name in names:
                self.ports[name] = free_port()
                text += ("  server {\n    listen 127.0.0.1:%d ssl backlog=1024;\n"
                         "    ssl_certificate %s;\n    ssl_certificate_key %s;\n"
                         "    ssl_session_tickets %s;\n    proxy_pass 127.0.0.1:%d;\n  }\n" %
                         (self.ports[name], self.bench.certificate(name),
                          self.bench.certificate(name), "on" if name == "resume" else "off",
                          self.bench.backend_port))
            self.run(["nginx", "-e", self.folder + "/error.log", "-c",
                      self.write("%s.conf" % names[0], text + "}\n")], openssl_config)

    def version(self):
        return version_of("nginx", "-v")


class Stunnel(Server):
    name = "stunnel"
    about = "a thread a connection, OpenSSL"

    def launch(self):
        for names, openssl_config in self.variants():
            text = ("foreground = yes\npid =\ndebug = 3\nsyslog = no\n"
                    "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n")
            for name in names:
                self.ports[name] = free_port()
                text += "[%s]\naccept = 127.0.0.1:%d\nconnect = 127.0.0.1:%d\ncert = %s\n" % (
                    name, self.ports[name], self.bench.backend_port, self.bench.certificate(name))
                text += "sslVersionMin = TLSv1.2\n"
                text += "" if name == "resume" else "options = NO_TICKET\n"
            self.run(["stunnel4", self.write("%s.conf" % names[0], text)], openssl_config)

    def version(self):
        return version_of("stunnel4", "-version")


class Socat(Server):
    name = "socat"
    about = "a forked process a connection, OpenSSL; knows no group but P-256"
    key_group = "P-256"

    def launch(self):
        for name in ("ecdsa", "rsa"):
            self.ports[name] = free_port()
            self.run(["socat", "OPENSSL-LISTEN:%d,bind=127.0.0.1,fork,reuseaddr,backlog=1024,"
                      "nodelay,verify=0,cert=%s,openssl-min-proto-version=TLS1.2" %
                      (self.ports[name], self.bench.certificate(name)),
                      "TCP:127.0.0.1:%d,nodelay" % self.bench.backend_port], self.bench.no_tickets)

    def version(self):
        return version_of("socat", "-V")


class Erlang(Server):
    name = "erlang"
    about = "a relay in Erlang: ssl; knows no X25519 in TLS 1.2"
    key_group_tls12 = "P-256"
    backend = True

    def launch(self):
        groups = []
        for name in ("ecdsa", "rsa"):
            self.ports[name] = free_port()
            groups += [self.bench.certificate(name), str(self.ports[name])]
            groups += [str(self.bench.backend_port)] if self.backend else []
            groups.append("and")
        subprocess.run(["erlc", "-o", self.folder, HERE + "/tls_relay.erl"], check=True)
        # Its schedulers spin for a while before they sleep; that would count as work.
        self.run(["erl", "-noinput", "+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none",
                  "+sbwtdio", "none", "-pa", self.folder,
                  "-eval", "application:ensure_all_started(ssl)", "-run", "tls_relay", "start"] + groups[:-1],
                 environment={"ERL_CRASH_DUMP": "/dev/null", "HOME": self.folder})

    def version(self):
        done = subprocess.run(
            ["erl", "-noinput", "-eval",
             "application:load(ssl), {ok, V} = application:get_key(ssl, vsn), "
             "io:format(\"OTP ~s, ssl ~s\", [erlang:system_info(otp_release), V]), halt()."],
            stdout=subprocess.PIPE, text=True)
        return done.stdout


class ErlangEcho(Erlang):
    name = "erlang-echo"
    about = "an echo in Erlang, without a backend"
    backend = False
    does_bulk = False


class Cordon(Server):
    """A service that passes the plaintext on to the backend, as the proxies do."""

    name = "cordon"
    about = "a forked worker a connection, GnuTLS; service `connect`"

    def deliver(self):
        return {"connect": "127.0.0.1:%d" % self.bench.backend_port}

    def launch(self):
        run = os.path.join(self.folder, "run")
        os.mkdir(run, 0o755)
        if os.getuid() == 0:
            shutil.chown(run, "cordon")
        self.socket = os.path.join(run, "control.sock")
        self.run([os.path.join(self.bench.cordon, "bin/cordond"), "--socket", self.socket])
        self.wait_for(self.answers, "control socket")
        self.listen()

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.socket) == 0

    def listen(self):
        self.client = cordon.open(self.socket)
        for name in ("ecdsa", "rsa"):
            fd = os.open(self.bench.certificate(name), os.O_RDONLY)
            reply = self.client.call("ssl.listen", {
                "listen": {"address": "127.0.0.1", "port": 0},
                "options": {"certfile": {"fd_index": 0}}, "deliver": self.deliver()}, fds=[fd])
            os.close(fd)
            self.ports[name] = reply["port"]

    def version(self):
        return version_of(os.path.join(self.bench.cordon, "bin/cordond"), "--version")


class CordonEcho(Cordon):
    name = "cordon-echo"
    about = "service `echo`, without a backend"
    does_bulk = False

    def deliver(self):
        return {"echo": True}


class CordonOwner(Cordon):
    """The plaintext goes to an owner program: tests/bench/owner.py, on the other core."""

    name = "cordon-owner"
    about = "the plaintext goes to an owner program in Python, not counted"
    does_bulk = False

    def listen(self):
        owner = subprocess.Popen(
            ["python3", HERE + "/owner.py", self.socket, self.bench.certificate("ecdsa"),
             self.bench.certificate("rsa")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.processes.append(owner)
        line = owner.stdout.readline()
        if not line:
            raise Failure("owner.py ended:\n" + self.log()[-2000:])
        self.ports = dict(zip(("ecdsa", "rsa"), json.loads(line)))


ROWS = [Cordon, CordonEcho, CordonOwner, Hitch, Haproxy, Nginx, Stunnel, Socat, Erlang, ErlangEcho]
