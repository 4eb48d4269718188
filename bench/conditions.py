"""Scenarios with the same call under other conditions."""

import subprocess
from pathlib import Path

from bench import installed, launches
from bench.comparison import Comparison, compare, running_together, running_with_bare
from bench.findings import Finding, Spread, aim, at_least, goal
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import PREPARED, Traffic

_INSTALLED = (1, 50)


def unconfigured(lab: Lab) -> list[Finding]:
    """Compare 50 installed plugins without configuration with one."""
    config = launches.shipped_config()
    entries = [
        (lab.ours(f"installed-{count}", config, [installed.crowd(lab.folder, count)]), PREPARED)
        for count in _INSTALLED
    ]
    with running_together(lab, entries) as contenders:
        comparison = compare(lab, contenders)
    one, fifty = (contender.name for contender in contenders)
    detail = comparison.describe({one: "1", fifty: "50"})
    what = "50 installed plugins over 1, none configured"
    return [Finding("unconfigured", what, comparison.ratio(fifty, one), "x", goal(1.10), detail)]


def tls(lab: Lab) -> list[Finding]:
    """Compare calls a second over TLS on reused connections with bare aiohttp's."""
    comparison = _compare_tls(lab, PREPARED)
    detail = comparison.describe({"bare-tls": "bare", "ours-tls": "ours"})
    speed = comparison.ratio("bare-tls", "ours-tls")
    return [Finding("tls", "speed over TLS, in bare's", speed, "x", at_least(0.35), detail)]


def new_connections(lab: Lab) -> list[Finding]:
    """Compare calls on new connections, without TLS and with a full TLS handshake."""
    traffic = PREPARED.on_new_connections()
    with running_with_bare(
        lab, [(lab.ours("ours", launches.shipped_config()), traffic)]
    ) as contenders:
        plain = compare(lab, contenders)
    encrypted = _compare_tls(lab, traffic)
    return [
        Finding(
            f"new-connections{suffix}",
            f"a connection for each call{what}",
            comparison.ratio(f"ours{suffix}", f"bare{suffix}"),
            "A",
            aim(most),
            comparison.describe({f"bare{suffix}": "bare", f"ours{suffix}": "ours"}),
        )
        for suffix, what, most, comparison in (
            ("", "", 1.35, plain),
            ("-tls", ", with its TLS handshake", 1.15, encrypted),
        )
    ]


def _compare_tls(lab: Lab, traffic: Traffic) -> Comparison:
    """Measure the shipped configuration and bare aiohttp with the same certificate."""
    pair = _certificate(lab.folder)
    table: Table = {"certificate": str(pair[0]), "key": str(pair[1])}
    ours = lab.ours("ours-tls", {**launches.shipped_config(), "tls": table})
    with lab.serve(ours, traffic) as server:
        reply = server.ask(traffic.targets[0], lab.authorization)
    bare = launches.bare(reply.body, lab.folder, "bare-tls", pair)
    entries = [(ours, traffic), (bare, traffic.with_constant_result())]
    with running_together(lab, entries) as contenders:
        return compare(lab, contenders)


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
