"""Writes what scripts/bench measured: docs/performance.md and docs/performance.svg."""

import statistics

OURS = "cordon"         # the row that the others are compared with

# measurement, heading, key, how a number is written
HANDSHAKES = [
    ("handshake", "TLS 1.3, P-256", "us", "%.0f"),
    ("handshake_rsa", "TLS 1.3, RSA-2048", "us", "%.0f"),
    ("handshake_tls12", "TLS 1.2, P-256", "us", "%.0f"),
    ("resumed", "TLS 1.3, resumed", "us", "%.0f"),
]
LATENCIES = [
    ("setup", "set-up p50", "p50", "%.0f"),
    ("setup", "p99", "p99", "%.0f"),
    ("echo1", "echo, 1 connection, p50", "p50", "%.0f"),
    ("echo1", "p99", "p99", "%.0f"),
    ("echo50", "echo, 50 connections, p50", "p50", "%.0f"),
    ("echo50", "p99", "p99", "%.0f"),
]
ECHO_CPU = [
    ("echo1", "1 connection", "us", "%.1f"),
    ("echo50", "50 connections", "us", "%.1f"),
]
BULK_CPU = [
    ("send1", "to the server, 1", "s_per_gb", "%.2f"),
    ("send8", "to the server, 8", "s_per_gb", "%.2f"),
    ("receive1", "from the server, 1", "s_per_gb", "%.2f"),
    ("receive8", "from the server, 8", "s_per_gb", "%.2f"),
]
BULK_SPEED = [(name, heading, "mb_per_s", "%.0f") for name, heading, _, _ in BULK_CPU]
MEMORY = [
    ("memory", "anonymous", "anonymous_kb", "%.0f"),
    ("memory", "kernel", "kernel_kb", "%.0f"),
]

# What we promise: our value at most `times` theirs, like with like.
FLOORS = [
    ("CPU per full handshake", "handshake", "us", "cordon", 2.2, "hitch"),
    ("CPU per full handshake", "handshake", "us", "cordon", 1.0, "erlang"),
    ("CPU per full handshake, echo", "handshake", "us", "cordon-echo", 1.0, "erlang-echo"),
    ("64-byte echo, 1 connection, p50", "echo1", "p50", "cordon", 1.0, "hitch"),
    ("bulk to the server, 1 connection, CPU s/GB", "send1", "s_per_gb", "cordon", 1.0, "stunnel"),
    ("bulk to the server, 8 connections, CPU s/GB", "send8", "s_per_gb", "cordon", 1.0, "stunnel"),
    ("bulk from the server, 1 connection, CPU s/GB", "receive1", "s_per_gb", "cordon", 1.0,
     "stunnel"),
    ("bulk from the server, 8 connections, CPU s/GB", "receive8", "s_per_gb", "cordon", 1.0,
     "stunnel"),
]


def number(value):
    return "%.3g" % value if value < 100 else "%.0f" % value


class Report:
    def __init__(self, results, servers, facts):
        self.results = results          # {measurement: {server: [result of each round]}}
        self.servers = servers          # [(name, about, version)]
        self.facts = facts              # [(what, text)]

    def median(self, name, server, key):
        rounds = self.results.get(name, {}).get(server)
        return statistics.median(r[key] for r in rounds) if rounds else None

    def ratio(self, name, theirs, key, ours=OURS):
        """Ours to theirs, round by round: what disturbed a round disturbed both."""
        rows = self.results.get(name, {})
        if ours not in rows or theirs not in rows or ours == theirs:
            return None
        return statistics.median(a[key] / b[key] for a, b in zip(rows[ours], rows[theirs])
                                 if b[key] > 0)

    # --- the page ------------------------------------------------------------

    def cell(self, column, server):
        name, _, key, form = column
        value = self.median(name, server, key)
        if value is None:
            return ""
        ratio = self.ratio(name, server, key)
        return form % value + (" (%.2f)" % ratio if ratio is not None else "")

    def table(self, columns):
        rows = [(server, [self.cell(column, server) for column in columns])
                for server, _, _ in self.servers]
        lines = ["| | " + " | ".join(heading for _, heading, _, _ in columns) + " |",
                 "|---" * (len(columns) + 1) + "|"]
        lines += ["| %s | %s |" % ("**%s**" % server if server == OURS else server,
                                   " | ".join(cells))
                  for server, cells in rows if any(cells)]
        return "\n".join(lines)

    def floors(self):
        lines = ["| promise | ours | theirs | ratio | at most | |", "|---|---|---|---|---|---|"]
        for what, name, key, ours, times, peer in FLOORS:
            ratio = self.ratio(name, peer, key, ours)
            if ratio is None:
                continue
            lines.append("| %s | %s %s | %s %s | %.2f | %.1f | %s |" %
                         (what, ours, number(self.median(name, ours, key)), peer,
                          number(self.median(name, peer, key)), ratio, times,
                          "kept" if ratio <= times else "**missed**"))
        return "\n".join(lines)

    def parts(self):
        """Where Cordon's CPU time goes, by the kind of process."""
        rounds = self.results.get("handshake", {}).get(OURS, [])
        kinds = sorted({kind for r in rounds for kind in r if kind.startswith("of_")})
        shares = {kind: statistics.median(r.get(kind, 0) for r in rounds) for kind in kinds}
        return ", ".join("%s %.0f" % (kind[3:], share) for kind, share in shares.items())

    def share(self):
        rounds = self.results.get("handshake", {}).get(OURS, [])
        return 100 * statistics.median(r["us"] / r["core_us"] for r in rounds) if rounds else 0

    def page(self):
        number_of_rounds = max(len(rounds) for rows in self.results.values()
                               for rounds in rows.values())
        return PAGE % {
            "facts": "\n".join("| %s | %s |" % fact for fact in self.facts),
            "servers": "\n".join("| %s | %s | %s |" % (name, version, about)
                                 for name, about, version in self.servers),
            "rounds": number_of_rounds,
            "floors": self.floors(),
            "handshakes": self.table(HANDSHAKES),
            "parts": self.parts(),
            "share": self.share(),
            "latencies": self.table(LATENCIES),
            "echo_cpu": self.table(ECHO_CPU),
            "bulk_cpu": self.table(BULK_CPU),
            "bulk_speed": self.table(BULK_SPEED),
            "memory": self.table(MEMORY) if self.results.get("memory") else
                      "Not measured: no memory control group could be made.",
        }

    # --- the plot ------------------------------------------------------------

    def plot(self):
        panels = [
            Panel(self, "CPU per full handshake, µs", [
                ("handshake", "us"), ("handshake_rsa", "us"), ("handshake_tls12", "us")],
                ["TLS 1.3 P-256", "RSA-2048", "TLS 1.2"]),
            Panel(self, "set-up of one connection, µs", [("setup", "p50")], ["p50"]),
            Panel(self, "64-byte echo on one connection, µs", [("echo1", "p50")], ["p50"]),
            Panel(self, "bulk, CPU seconds per GB", [("send1", "s_per_gb"), ("receive1", "s_per_gb")],
                  ["to the server", "from the server"]),
            Panel(self, "memory per idle connection, KiB", [
                ("memory", "anonymous_kb"), ("memory", "kernel_kb")], ["anonymous", "kernel"]),
        ]
        panels = [panel for panel in panels if panel.rows]
        body, y = [], MARGIN
        for panel in panels:
            body += panel.draw(y)
            y += panel.height + MARGIN
        return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
                'font-family="sans-serif" font-size="12">\n'
                '<rect width="100%%" height="100%%" fill="white"/>\n%s\n</svg>\n' %
                (WIDTH, y, "\n".join(body)))


WIDTH, MARGIN, LABELS, BAR, GAP, HEAD = 760, 24, 120, 9, 8, 42
OUR_COLORS = ["#b5121b", "#dd6a5f", "#f0b5ac"]
THEIR_COLORS = ["#45566b", "#8494a8", "#c3ccd8"]


class Panel:
    """Bars side by side: a group a server, a bar a measurement."""

    def __init__(self, report, title, series, names):
        self.title, self.names = title, names
        self.rows = []
        for server, _, _ in report.servers:
            values = [report.median(name, server, key) for name, key in series]
            if any(value is not None for value in values):
                self.rows.append((server, values))
        self.row_height = BAR * len(series) + GAP
        self.height = HEAD + self.row_height * len(self.rows)

    def draw(self, top):
        # A bar that is far longer than the others would hide them.
        longest = sorted(max(v for v in values if v is not None) for _, values in self.rows)
        full = min(longest[-1], 3 * longest[len(longest) // 2])
        full = max([full] + [v for server, values in self.rows if server == OURS
                             for v in values if v is not None])
        out = [text(MARGIN, top + 12, self.title, 'font-weight="bold" font-size="14"')]
        x = MARGIN
        for color, name in zip(THEIR_COLORS, self.names):
            out.append(rectangle(x, top + 22, 10, 10, color))
            out.append(text(x + 14, top + 31, name))
            x += 40 + 7 * len(name)
        y = top + HEAD
        for server, values in self.rows:
            out += self.draw_row(y, server, values, full)
            y += self.row_height
        return out

    def draw_row(self, y, server, values, full):
        is_ours = server == OURS
        room = WIDTH - LABELS - 2 * MARGIN - 60
        middle = y + (self.row_height - GAP) / 2 + 4
        out = [text(MARGIN + LABELS - 8, middle, server,
                    'text-anchor="end"' + (' font-weight="bold"' if is_ours else ""))]
        for i, value in enumerate(values):
            if value is None:
                continue
            length = room * min(max(value, 0) / full, 1)
            colors = OUR_COLORS if is_ours else THEIR_COLORS
            out.append(rectangle(MARGIN + LABELS, y, max(length, 1), BAR - 1, colors[i]))
            out.append(text(MARGIN + LABELS + length + 4, y + BAR - 1,
                            number(value) + (" →" if value > full else ""), 'font-size="9"'))
            y += BAR
        return out


def text(x, y, words, more=""):
    return '<text x="%.1f" y="%.1f" %s>%s</text>' % (x, y, more, words)


def rectangle(x, y, width, height, color):
    return '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>' % (
        x, y, width, height, color)


PAGE = """# Performance

Written by `scripts/bench`: do not edit. What isolation costs, beside servers that have none.

![CPU, latency and memory beside other servers](performance.svg)

| | |
|---|---|
%(facts)s

| server | version | what it is |
|---|---|---|
%(servers)s

Every server runs on one core, in a control group of its own; the load (`tests/bench/load.c`, OpenSSL,
one epoll loop) and the plain TCP backend on the other. The same certificates, TLS_AES_128_GCM_SHA256
(TLS 1.2: ECDHE with AES-128-GCM), X25519 where nothing else is said, no session tickets, `TCP_NODELAY`.
All but the echoes pass the plaintext on to the same backend. CPU time is the control group's, so
that of children which are long gone is in it, and it is read at both edges of a window in which
everything is in steady motion. Values are medians of %(rounds)d rounds, in which the servers take
turns; in brackets stands Cordon's value divided by this one, also a median: above 1, Cordon needs
more.

## What we promise

%(floors)s

## CPU time per handshake, µs

Connect, handshake, 64 bytes there and back, close; 16 clients in a closed loop; all processes of the
server together.

%(handshakes)s

Cordon's in the first column, by process (the nursery's with its workers'): %(parts)s.
Of all that its core did meanwhile, %(share).0f %% was its control group's.

## Latency, µs

Set-up: one connection at a time with 2 ms between two, from `connect` to the end of the handshake.
Echo: 64 bytes there and back on open connections; with 50 of them in a closed loop the core is
full, and latency is what one exchange costs times 50.

%(latencies)s

CPU time of one exchange:

%(echo_cpu)s

## Bulk

CPU seconds per gigabyte, by the number of connections:

%(bulk_cpu)s

Megabytes per second; the core of load and backend is often the limit, and in brackets more is
better:

%(bulk_speed)s

## Memory of one idle connection, KiB

Of 1,000, each used once; what the memory control group grew by, divided.

%(memory)s
"""
