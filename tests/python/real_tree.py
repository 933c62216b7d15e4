"""A Cordon of real processes, and certificates, for tests in Python."""

import os
import pwd
import shutil
import signal
import subprocess

ROOT = os.path.abspath(os.environ.get("CORDON_ROOT", "build"))
TIME_LIMIT_S = 60


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder):
    """ca.pem, and web.pem: certificate and key for localhost."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    with open(os.path.join(folder, "names"), "w") as f:
        f.write("subjectAltName=DNS:localhost")
    openssl(folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=Test CA", "-days", "2")
    openssl(folder, "req", *curve, "-keyout", "web.key", "-out", "web.csr", "-subj", "/CN=web")
    openssl(folder, "x509", "-req", "-in", "web.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "web.crt", "-days", "2", "-extfile", "names")
    with open(os.path.join(folder, "web.pem"), "wb") as pem:
        for part in ("web.crt", "web.key"):
            with open(os.path.join(folder, part), "rb") as f:
                shutil.copyfileobj(f, pem)


class Cordon:
    """A cordond of our own, with its control socket in folder."""

    def __init__(self, folder):
        self.socket = os.path.join(folder, "control.sock")
        self.log_path = os.path.join(folder, "log")
        ready, writer = os.pipe()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(ROOT, "bin/cordond"), "--socket", self.socket,
                 "--log-level", "debug", "--ready-fd", str(writer)],
                pass_fds=[writer], stdin=subprocess.DEVNULL, stderr=log)
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
