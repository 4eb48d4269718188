"""Scenarios with the same call under other conditions."""

import subprocess
from dataclasses import replace
from pathlib import Path

from bench import launches, steady
from bench.comparison import Comparison, compare, running_together
from bench.findings import Finding, Spread, aim, at_least, goal
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import PREPARED, Traffic

AT_A_TIME = {1: 1.95, 4: 1.9, 16: 1.5, 64: 1.3}
"""Calls at a time on new connections, and what each may cost, in A."""
AT_A_TIME_TLS = {1: 1.4, 4: 1.4, 16: 1.15, 64: 1.05}


def tls(lab: Lab) -> list[Finding]:
    """Compare calls a second over TLS on reused connections with bare aiohttp's."""
    comparison = _compare_with_bare(lab, PREPARED, tls=True)
    detail = comparison.describe({"bare": "bare", "ours": "ours"})
    speed = comparison.ratio("bare", "ours")
    return [Finding("tls", "speed over TLS, in bare's", speed, "x", at_least(0.35), detail)]


def new_connections(lab: Lab) -> list[Finding]:
    """Measure calls on new connections: without TLS and with a full TLS handshake, with and
    without ``[auth]``, for several numbers of connections at a time.
    """
    return [
        _new_connections(lab, at_a_time, most, tls=tls, auth=auth)
        for tls, mosts in ((False, AT_A_TIME), (True, AT_A_TIME_TLS))
        for auth in (True, False)
        for at_a_time, most in mosts.items()
    ]


def _new_connections(lab: Lab, at_a_time: int, most: float, *, tls: bool, auth: bool) -> Finding:
    name = f"{'tls' if tls else 'plain'}-{'auth' if auth else 'open'}-{at_a_time}"
    lab.log(name)
    part = replace(lab, folder=lab.folder / name, terms=replace(lab.terms, connections=at_a_time))
    part.folder.mkdir()
    comparison = _compare_with_bare(part, PREPARED.on_new_connections(), tls=tls, auth=auth)
    what = (
        f"{at_a_time} at a time{', with the TLS handshake' if tls else ''}"
        f"{'' if auth else ', without [auth]'}"
    )
    detail = comparison.describe({"bare": "bare", "ours": "ours"})
    return Finding(
        "new-connections", what, comparison.ratio("ours", "bare"), "A", aim(most), detail
    )


def _compare_with_bare(lab: Lab, traffic: Traffic, *, tls: bool, auth: bool = True) -> Comparison:
    """Measure the shipped configuration and bare aiohttp, with the same certificate."""
    pair = _certificate(lab.folder) if tls else None
    table: Table = {"certificate": str(pair[0]), "key": str(pair[1])} if pair else {}
    config = {**launches.shipped_config(), **({"tls": table} if table else {})}
    ours = lab.ours("ours", config, auth=auth)
    with lab.serve(ours, traffic) as server:
        reply = server.ask(traffic.targets[0], lab.authorization)
    bare = launches.bare(reply.body, lab.folder, "bare", pair)
    entries = [(ours, traffic), (bare, traffic.with_constant_result())]
    with running_together(lab, entries) as contenders:
        return compare(lab, contenders)


def latency(lab: Lab) -> list[Finding]:
    """Compare the 99th percentile at 1,000 calls a second with bare aiohttp's."""
    shipped = lab.ours("ours", launches.shipped_config())
    with lab.serve(shipped, PREPARED) as server:
        reply = server.ask(PREPARED.targets[0], lab.authorization)
    entries = [
        (shipped, PREPARED),
        (launches.bare(reply.body, lab.folder), PREPARED.with_constant_result()),
    ]
    with running_together(lab, entries) as contenders:
        found = steady.percentiles(lab, contenders)
    detail = ", ".join(f"{n} p50 {f.p50:.2f} p99 {f.p99:.2f} ms" for n, f in found.items())
    figure = steady.ratio(found["ours"], found["bare"])
    return [Finding("latency", "p99 over bare aiohttp's", figure, "x", goal(3.0), detail)]


def fsync(lab: Lab) -> list[Finding]:
    """Compare calls a second with audit lines synced before each reply to those only written.

    By the clock: what this level costs is waiting. One server under load at a time, in turn.
    """
    config = launches.shipped_config()
    entries = [
        (lab.ours(level, {**config, "audit": {"level": level}}), PREPARED)
        for level in ("file", "fsync")
    ]
    answered: dict[str, list[int]] = {"file": [], "fsync": []}
    with running_together(lab, entries) as contenders:
        targets = {one.name: lab.target(one.server, one.traffic) for one in contenders}
        for number in range(lab.terms.rounds + 1):
            for name, target in targets.items():
                totals = lab.load([target], lab.terms.seconds)[name]
                if number:
                    answered[name].append(totals.requests)
            if number:
                latest = "  ".join(f"{name} {counts[-1]}" for name, counts in answered.items())
                lab.log(f"round {number}/{lab.terms.rounds}: {latest} calls")
    pairs = zip(answered["fsync"], answered["file"], strict=True)
    figure = Spread.of([fsynced / written for fsynced, written in pairs])
    what = "level fsync over level file, calls a second"
    return [
        Finding("fsync", what, figure, "x", at_least(0.5), f"audit file in {lab.folder.parent}")
    ]


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate and its key, P-256 as most are."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    options = ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)]
    subprocess.run([*command, *options, "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key
