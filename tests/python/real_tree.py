"""A Cordon of real processes, and certificates, for tests in Python."""

import json
import os
import pwd
import shutil
import signal
import subprocess

ROOT = os.path.abspath(os.environ.get("CORDON_ROOT", "build"))
TIME_LIMIT_S = 60
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def count(few, full):
    """few; with CORDON_FULL=1 full, divided by CORDON_SCALE."""
    if os.environ.get("CORDON_FULL") != "1":
        return few
    return max(few, full // int(os.environ.get("CORDON_SCALE", "1")))


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_ca(folder, name):
    """NAME.pem and NAME.key, of a CA."""
    openssl(folder, "req", "-x509", *CURVE, "-keyout", name + ".key", "-out", name + ".pem",
            "-subj", "/CN=Test CA " + name, "-days", "2")


def make_certificate(folder, name, ca, names="DNS:localhost"):
    """NAME.pem: a certificate of that CA for these names, and its key; apart NAME.crt, NAME.key."""
    with open(os.path.join(folder, "names"), "w") as f:
        f.write("subjectAltName=" + names)
    openssl(folder, "req", *CURVE, "-keyout", name + ".key", "-out", "csr", "-subj", "/CN=" + name)
    openssl(folder, "x509", "-req", "-in", "csr", "-CA", ca + ".pem", "-CAkey", ca + ".key",
            "-CAcreateserial", "-out", name + ".crt", "-days", "2", "-extfile", "names")
    with open(os.path.join(folder, name + ".pem"), "wb") as pem:
        for part in (".crt", ".key"):
            with open(os.path.join(folder, name + part), "rb") as f:
                shutil.copyfileobj(f, pem)


def make_certificates(folder):
    """ca.pem, and web.pem: certificate and key for localhost."""
    make_ca(folder, "ca")
    make_certificate(folder, "web", "ca")


class Cordon:
    """A cordond of our own, with its control socket in folder."""

    def __init__(self, folder, config=None, **popen):
        self.socket = os.path.join(folder, "control.sock")
        path = "/dev/null"
        if config is not None:
            path = os.path.join(folder, "cordon.json")
            with open(path, "w") as f:
                json.dump(config, f)
        self.log_path = os.path.join(folder, "log")
        ready, writer = os.pipe()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(ROOT, "bin/cordond"), "--socket", self.socket, "--config", path,
                 "--log-level", "debug", "--ready-fd", str(writer)],
                pass_fds=[writer], stdin=subprocess.DEVNULL, stderr=log,
                **popen)
        os.close(writer)
        with os.fdopen(ready, "rb") as f:
            if f.read(1) != b"\n":
                raise AssertionError("cordond did not start:\n" + self.log())

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIME_LIMIT_S)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()


def give_folder(folder):
    """The manager makes its socket there; started by root it is a user of its own."""
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("cordon").pw_uid, -1)


def serve(client, deliver, **options):
    """A listener of client's that Cordon serves by itself; gives its port."""
    fds, opened = [], []
    for name in ("certfile", "cacertfile"):
        if name in options:
            opened.append(open(options[name], "rb"))
            fds.append(opened[-1].fileno())
            options[name] = {"fd_index": len(fds) - 1}
    try:
        return client.call("ssl.listen", {"listen": {"address": "127.0.0.1", "port": 0},
                                          "options": options, "deliver": deliver}, fds)["port"]
    finally:
        for file in opened:
            file.close()
