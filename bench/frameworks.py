"""Scenarios with the same policy in other frameworks."""

from bench import launches, steady
from bench.comparison import compare, compare_alternately, running_together
from bench.findings import Finding, at_least, goal
from bench.lab import Lab
from bench.peers import launches as peer
from bench.servers import Launch
from bench.traffic import PREPARED

_WSGI_AND_ASGI = {
    "django": ("Django + gunicorn", 6.0),
    "django-orm": ("Django + gunicorn, rooms through the ORM", 10.0),
    "flask": ("Flask + gunicorn", 4.2),
    "fastapi-documented": ("FastAPI + uvicorn, as documented", 4.0),
    "fastapi-tuned": ("FastAPI + uvicorn, tuned", 3.0),
}


def peers(lab: Lab) -> list[Finding]:
    """Measure CPU time per call of the Python peers in units of ours, two at a time.

    More servers on the core would make the caches of all of them colder.
    """
    findings: list[Finding] = []
    for pair in (("django", "django-orm"), ("flask", "fastapi-tuned"), ("fastapi-documented",)):
        shipped = lab.ours(f"ours-{pair[0]}", launches.shipped_config())
        entries = [(shipped, PREPARED), *((_peer(name, lab), PREPARED) for name in pair)]
        with running_together(lab, entries) as contenders:
            comparison = compare(lab, contenders)
        for name in pair:
            what, least = _WSGI_AND_ASGI[name]
            detail = comparison.describe({shipped.name: "ours", name: "theirs"})
            figure = comparison.ratio(name, shipped.name)
            findings.append(Finding("peers", what, figure, "times ours", at_least(least), detail))
    return findings


def express(lab: Lab) -> list[Finding]:
    """Measure CPU time per call of Express in units of ours, one under load at a time."""
    entries = [
        (lab.ours("ours", launches.shipped_config()), PREPARED),
        (peer.express(lab.folder, lab.password), PREPARED),
    ]
    with running_together(lab, entries) as contenders:
        comparison = compare_alternately(lab, contenders)
    detail = comparison.describe({"ours": "ours", "express": "theirs"})
    figure = comparison.ratio("express", "ours")
    what = "Express + pino"
    return [Finding("express", what, figure, "times ours", at_least(2.4), detail)]


def latency(lab: Lab) -> list[Finding]:
    """Compare the 99th percentile at 1,000 calls a second with bare aiohttp and Express."""
    shipped = lab.ours("ours", launches.shipped_config())
    with lab.serve(shipped, PREPARED) as server:
        reply = server.ask(PREPARED.targets[0], lab.authorization)
    entries = [
        (shipped, PREPARED),
        (launches.bare(reply.body, lab.folder), PREPARED.with_constant_result()),
        (peer.express(lab.folder, lab.password), PREPARED),
    ]
    with running_together(lab, entries) as contenders:
        found = steady.percentiles(lab, contenders)
    ours, bare, theirs = (found[name] for name in ("ours", "bare", "express"))
    detail = ", ".join(f"{n} p50 {f.p50:.2f} p99 {f.p99:.2f} ms" for n, f in found.items())
    over_bare, over_express = steady.ratio(ours, bare), steady.ratio(ours, theirs)
    return [
        Finding("latency", "p99 over bare aiohttp's", over_bare, "x", goal(3.0), detail),
        Finding("latency", "p99 over Express's", over_express, "x", goal(0.334), detail),
    ]


def _peer(name: str, lab: Lab) -> Launch:
    if name == "flask":
        return peer.flask(lab.folder, lab.password)
    if name.startswith("django"):
        return peer.django(lab.folder, lab.password, rows=name == "django-orm")
    return peer.fastapi(lab.folder, lab.password, tuned=name == "fastapi-tuned")
