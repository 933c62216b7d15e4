#!/usr/bin/env python3
"""A web browser loads a page with 50 resources through a connect service.

    CORDON_ROOT=build PYTHONPATH=api/python python3 tests/python/browser_test.py

Debian's Chromium, headless, with a fresh profile that trusts the test's CA.  The page itself looks
at what came and reports it; nothing leaves this machine.
"""

import hashlib
import json
import os
import random
import re
import signal
import struct
import subprocess
import tempfile
import threading
import unittest
import zlib

import cordon
from backends import Backend, read_head
from real_tree import Cordon, give_folder, make_ca, make_certificate, serve

IMAGES = 25
FILES = 25
TIME_LIMIT_S = 240

# The last image is answered after the report, so the page counts as loaded when all is known.
PAGE = """<!DOCTYPE html><title>Cordon</title><p id="report">nothing</p>
<img id="last" src="last.png">
<script>
const wanted = %s;
async function image(number) {
    const image = new Image();
    image.src = "image" + number + ".png";
    await image.decode();
    return image.naturalWidth === number + 1 && image.naturalHeight === 7;
}
async function file(number) {
    const body = await (await fetch("file" + number)).arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
    const hex = Array.from(digest, byte => byte.toString(16).padStart(2, "0"));
    return hex.join("") === wanted[number];
}
async function all() {
    const checks = [];
    for (let i = 0; i < %d; i++) checks.push(image(i));
    for (let i = 0; i < wanted.length; i++) checks.push(file(i));
    const good = (await Promise.allSettled(checks)).filter(check => check.value === true).length;
    const report = good + " of " + checks.length + " resources";
    document.getElementById("report").textContent = report;
    await fetch("report", {method: "POST", body: report});
}
all();
</script>
"""


def png(width, height):
    """A grey image."""
    def chunk(kind, data):
        return (struct.pack(">I", len(data)) + kind + data +
                struct.pack(">I", zlib.crc32(kind + data)))

    rows = b"".join(b"\0" + b"\x80" * width for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" +
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class Site:
    """HTTP/1.1 with connections that stay, behind Cordon."""

    def __init__(self):
        self.reported = threading.Event()
        self.requests = []
        files = [random.Random(i).randbytes(1 + 4711 * i) for i in range(FILES)]
        wanted = [hashlib.sha256(body).hexdigest() for body in files]
        page = PAGE % (json.dumps(wanted), IMAGES)
        self.bodies = {"/": ("text/html", page.encode()), "/last.png": ("image/png", png(1, 1)),
                       "/report": ("text/plain", b"")}
        for i in range(IMAGES):
            self.bodies["/image%d.png" % i] = ("image/png", png(i + 1, 7))
        for i in range(FILES):
            self.bodies["/file%d" % i] = ("application/octet-stream", files[i])

    def serve(self, sock):
        sock.settimeout(TIME_LIMIT_S)
        try:
            self.answer_all(sock)
        except ConnectionResetError:
            pass                        # the browser ended without a goodbye

    def answer_all(self, sock):
        while (request := read_head(sock)) is not None:
            head, body = request
            length = re.search(r"(?i)\ncontent-length: *(\d+)", head)
            while length and len(body) < int(length[1]):
                body += sock.recv(65536)
            path = head.split()[1]
            self.requests.append(path)
            if path == "/report":
                self.reported.set()
            elif path == "/last.png":
                self.reported.wait(TIME_LIMIT_S)
            kind, answer = self.bodies.get(path, (None, b""))
            sock.sendall(("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n"
                          "Cache-Control: no-store\r\n\r\n"
                          % ("200 OK" if kind else "404 Not Found", kind or "text/plain",
                             len(answer))).encode() + answer)


class BrowserTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        make_ca(self.folder, "ca")
        make_certificate(self.folder, "web", "ca", "DNS:web.localhost")
        give_folder(self.folder)
        self.cordon = Cordon(self.folder)
        self.addCleanup(self.cordon.stop)
        self.client = cordon.open(self.cordon.socket)
        self.addCleanup(self.client.close)

    def home(self, trusts_us):
        """A home of the browser's own."""
        home = os.path.join(self.folder, "home")
        database = os.path.join(home, ".pki/nssdb")
        os.makedirs(database)
        subprocess.run(["certutil", "-d", "sql:" + database, "-N", "--empty-password"], check=True)
        if trusts_us:
            subprocess.run(["certutil", "-d", "sql:" + database, "-A", "-n", "test", "-t", "C,,",
                            "-i", os.path.join(self.folder, "ca.pem")], check=True)
        return home

    def load(self, url, home):
        """The page as it is in the end, and what the browser says about it."""
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("XDG_", "DBUS_", "DISPLAY", "http", "HTTP"))}
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                   "--disable-dev-shm-usage", "--disable-breakpad", "--no-first-run",
                   "--no-proxy-server",
                   "--disable-background-networking", "--disable-component-update",
                   "--disable-sync", "--disable-default-apps", "--disable-extensions",
                   "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *.localhost",
                   "--user-data-dir=" + os.path.join(home, "profile"), "--dump-dom", url]
        browser = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True,
                                   env=dict(environment, HOME=home))
        try:
            page, errors = browser.communicate(timeout=TIME_LIMIT_S)
        finally:
            try:
                os.killpg(browser.pid, signal.SIGKILL)  # its helpers too
            except ProcessLookupError:
                pass
            browser.wait()
        self.assertEqual(0, browser.returncode, errors[-3000:])
        return page.decode(), errors.decode()

    def test_a_page_with_50_resources(self):
        site = Site()
        with Backend(site.serve) as backend, \
                self.client.subscribe(["connection_established", "connection_failed",
                                       "connection_closed"]) as events:
            port = serve(self.client, {"connect": backend.address},
                         certfile=os.path.join(self.folder, "web.pem"),
                         alpn_preferred_protocols=["http/1.1"])
            page, _ = self.load("https://web.localhost:%d/" % port, self.home(True))
            self.assertIn('<p id="report">50 of 50 resources</p>', page, self.cordon.log()[-3000:])
            seen = []
            while not seen or sum(1 if event["type"] == "connection_established" else -1
                                  for event in seen) > 0:
                seen.append(events.next(TIME_LIMIT_S))
        self.assertLessEqual(set(site.bodies), set(site.requests))
        for event in seen:
            self.assertNotEqual("connection_failed", event["type"], event)
            if event["type"] == "connection_established":
                self.assertEqual(("tlsv1.3", "web.localhost", "http/1.1"),
                                 tuple(event["info"][fact]
                                       for fact in ("protocol", "sni_hostname", "alpn")))

    def test_without_the_ca_it_refuses(self):
        site = Site()
        with Backend(site.serve) as backend, \
                self.client.subscribe(["connection_failed"]) as events:
            port = serve(self.client, {"connect": backend.address},
                         certfile=os.path.join(self.folder, "web.pem"))
            _, errors = self.load("https://web.localhost:%d/" % port, self.home(False))
            # Which of the two it says is up to its version: -202 is ERR_CERT_AUTHORITY_INVALID.
            self.assertRegex(errors, r"ERR_CERT_AUTHORITY_INVALID|net_error -202\b")
            failed = events.next(TIME_LIMIT_S)
        self.assertEqual([], site.requests)
        self.assertEqual(("tls_alert", "peer", "certificate_unknown"),
                         (failed["reason"], failed.get("sent_by"), failed.get("alert")), failed)


if __name__ == "__main__":
    unittest.main()
