"""``pexpolicy infinity check``: what does not fit between this server and Infinity."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import click
from cryptography.x509 import SubjectAlternativeName
from yarl import URL

from pexpolicy import Continue
from pexpolicy.access.certificates import CertificateFiles, load
from pexpolicy.cli import common
from pexpolicy.cli.doctor import STYLES, Finding, certificate_rows, event_rows, print_findings
from pexpolicy.cli.status import running_status
from pexpolicy.config.secrets import SecretError
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.events.receiver import PATH
from pexpolicy.policy import Policy
from pexpolicy.testing import make_request
from pexpolicy.text import did_you_mean
from pexpolicy_sources.data_source import Row, SourceError
from pexpolicy_sources.infinity import InfinitySource, addresses, with_aliases

PROFILE, SINK, LOCATION = "policy_server", "event_sink", "system_location"
READ = [PROFILE, SINK, LOCATION, "conference", "conference_alias", "device"]
READ += ["worker_vm", "status/alarm"]
LOOKUPS = {
    "service_configuration": "service",
    "participant_properties": "participant",
    "media_location": "media_location",
    "participant_avatar": "avatar",
    "directory_information": "directory",
    "registration_alias": "registration",
}
"""By request, its name in the switches of a policy profile."""
PEOPLE = [f"participant_{what}" for what in ("connected", "disconnected", "updated")]
"""Events without which the live counts are wrong."""


class Check:
    """Compares a serving policy with the objects of a platform.

    ``names`` are those of the platform, and ``url`` is what nodes ask, if the configuration does
    not have it.
    """

    def __init__(self, policy: Policy, names: ObjectNames, url: str) -> None:
        assert isinstance(names.source, InfinitySource)
        self._policy, self._named, self._source = policy, names, names.source
        self._environment = (*names.table, None)[1]
        self._settings = settings = policy.settings
        self._found = list[Finding]()
        tls, server = settings.tls, settings.server
        self._files = CertificateFiles.of(tls, settings.path.parent) if tls else None
        leaf = load(self._files).leaf.extensions if self._files else ()
        found = (one.value for one in leaf if isinstance(one.value, SubjectAlternativeName))
        self._certified = [str(name.value) for names in found for name in names]
        made = f"{'https' if tls else 'http'}://host:{server.port}{server.base_path}"
        self._url = URL(url or made)
        self._is_behind_proxy = bool(settings.access.trusted_proxies) and not url
        self._hosts = [self._url.host or ""] if url else [socket.gethostname(), *self._certified]

    async def findings(self) -> list[Finding]:
        """Read the platform, and return what is found; raises ``SourceError`` if it is down."""
        await self._source.refresh_names()
        self._objects, self._refused = await self._source.read(READ)
        self._refused |= self._source.problems
        for resource, why in self._refused.items():
            self._say("read", resource, "skipped", why)
        users = {one.user for one in self._settings.credentials}
        profiles = self._ours(PROFILE, "profile", users)
        users = {str(one.user) for one in self._settings.event_tables.values()}
        sinks = self._ours(SINK, "events", users) if self._settings.events else []
        self._look_at_switches(profiles)
        self._look_at_locations(addresses(profiles), addresses(sinks))
        await self._look_at_server({_url_of(one) for one in (*profiles, *sinks)})
        self._look_at_names()
        await self._look_at_rooms()
        return self._found

    def _say(self, check: str, subject: object, state: str, text: str, *when: object) -> None:
        """Add a finding about a text, or about an object with a name, if all of ``when`` is so."""
        name = subject.get("name") if isinstance(subject, Mapping) else subject
        place = ": ".join(filter(None, (self._environment, check, str(name))))
        if all(when):
            self._found.append(Finding(place, state, text))

    def _ours(self, resource: str, check: str, users: set[str]) -> list[Row]:
        """Look at the policy profiles, or event sinks, of this server, and return them."""
        is_sink, rows = resource == SINK, self._objects[resource]
        ours = [one for one in rows if self._is_here(_url_of(one).host or "")]
        others = ", ".join(str(_url_of(one)) for one in rows) or "none"
        text = f"none is for {', '.join(self._hosts)}, see --url; there are: {others}"
        self._say(check, resource, "error", text, resource not in self._refused, not ours)
        for row in ours:
            say, url, user = partial(self._say, check, row), _url_of(row), row.get("username") or ""
            here = self._url.with_host(url.host or "")
            if self._is_behind_proxy:
                here = here.with_scheme(url.scheme).with_port(url.explicit_port)
            wanted = str(here).rstrip("/") + PATH * is_sink
            # That of a sink is used as it is.
            is_right = wanted == (str(url) if is_sink else str(url).rstrip("/"))
            say("ok", f"points at this server: {url}", is_right)
            say("error", f"has the URL {url}, and not {wanted}", not is_right)
            # Some versions return no user of an event sink.
            is_wrong = user not in users and (user or (not is_sink and "username" in row))
            text = f"its user is {user or 'not set'}, and not {', '.join(sorted(users))}"
            say("error", text, users, is_wrong)
            lost = ", ".join(one for one in PEOPLE if one not in str(row.get("events")))
            say("warning", f"does not send {lost}", lost, row.get("filter_events"))
        return ours

    def _is_here(self, host: str) -> bool:
        """Return whether a host is an address of this machine, or has a name of this server."""
        with suppress(OSError):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host or "?", 0), family=family).close()
            return True
        return any(_matches(host, name) for name in self._hosts)

    def _look_at_switches(self, profiles: list[Row]) -> None:
        """Look at what policy profiles ask for: one of the kinds that each rule or plugin has."""
        for profile in profiles:
            say = partial(self._say, "profile", profile)
            asked = {kind for kind, name in LOOKUPS.items() if profile.get(f"enable_{name}_lookup")}
            say("ok" if asked else "error", f"asks for {', '.join(sorted(asked)) or 'nothing'}")
            for plugin in self._policy.plugins if asked else ():
                rules: Any = getattr(plugin.instance, "rule_summaries", tuple)()
                may = {kind for kind in LOOKUPS for hook in plugin.hooks if kind in hook}
                idle = [one for rule in rules if asked.isdisjoint(one := {*rule.endpoints})]
                idle += [may] if not rules and asked.isdisjoint(may) else []
                switches = {f"enable_{LOOKUPS[kind]}_lookup" for kind in chain(*idle)}
                off = ", ".join(sorted(switches & profile.keys()))
                is_asked_here = plugin.table.is_asked_in(self._environment)
                text = f"{off} is off: {plugin.name} is not asked"
                say("warning", text, off, is_asked_here, plugin.table.mode == "decide")

    def _look_at_locations(self, profiles: set[str], sinks: set[str]) -> None:
        for location in self._objects[LOCATION]:
            say, here = partial(self._say, "location", location, "warning"), addresses(location)
            asked, told = (addresses(location.get(one)) for one in ("policy_server", "event_sinks"))
            say("has no policy profile, so its nodes ask nothing", not asked)
            is_other = asked and asked.isdisjoint(profiles) and PROFILE not in self._refused
            say("has a policy profile that is not for this server", is_other)
            nodes = self._objects["worker_vm"]
            inside = [one for one in nodes if addresses(one.get("system_location")) & here]
            # Proxying nodes send no events.
            only_forwards = {str(one.get("node_type")).upper() for one in inside} == {"PROXYING"}
            is_silent = sinks and told.isdisjoint(sinks) and not only_forwards
            say("has no event sink of this server", is_silent)
            say("has several event sinks of this server: events come twice", len(told & sinks) > 1)

    async def _look_at_server(self, urls: set[URL]) -> None:
        """Look at our certificate, and at events that come."""
        if self._files is not None:
            say = partial(self._say, "certificate", self._files.certificate)
            for state, text, *_ in certificate_rows(self._files, self._source.settings.ca_file):
                say(state, text)
            for host in sorted({str(url.host) for url in urls if url.scheme == "https"}):
                text = f"is for {', '.join(self._certified) or 'no name'}, and not for {host}"
                say("error", text, not any(_matches(host, name) for name in self._certified))
        status = await asyncio.to_thread(running_status, self._settings.path, self._settings)
        for state, text, *_ in event_rows(status):
            self._say("events", "server", state, text)
        for alarm in self._objects["status/alarm"] if self._settings.events else ():
            keys = ("identifier", "name", "details")
            said = " ".join(str(alarm[key]) for key in keys if alarm.get(key))
            is_of_us, node = re.search("sink|policy", said.casefold()), alarm.get("node")
            self._say("events", node or "alarm", "error", f"Infinity's alarm: {said}", is_of_us)

    def _look_at_names(self) -> None:
        names, table = self._named, ".".join(self._named.table)
        for kind, one in self._source.listed_names().items():
            for name in sorted(names.declared.get(kind, frozenset()) - one.names):
                text = f"is in [{table}] {kind}, and Infinity does not have it"
                self._say("name", name, "error", text + did_you_mean(name, one.names))
        for unknown in names.unknown():
            places = f"{common.count(len(unknown.places), 'use')}: {', '.join(unknown.shown)}"
            self._say("name", unknown.name, "error", f"{unknown.text}; {places}")

    async def _look_at_rooms(self) -> None:
        """Ask our policy for each alias of a room or device of Infinity; no PIN is shown."""
        rooms = with_aliases(self._objects["conference"], self._objects["conference_alias"])
        devices = filter(None, (one.get("alias") for one in self._objects["device"]))
        rooms += [({"name": f"device {alias}"}, [str(alias)]) for alias in devices]
        for room, alias in ((room, alias) for room, aliases in rooms for alias in sorted(aliases)):
            local = {"registered": True, "remote_alias": f"sip:caller@{alias.partition('@')[2]}"}
            outcomes = []
            for caller in ({"shape": "sip"}, {"shape": "web"}, local):
                call: Any = {"local_alias": alias, "environment": self._environment, **caller}
                request = make_request("service_configuration", **call)
                outcomes.append((await self._policy.answer(request, "")).outcome)
            found = [one for one in outcomes if not isinstance(one.decision, Continue)]
            admitting = [one for one in found if one.decision.action != "reject"]
            # A reject counts only if all callers get one: others are refused on purpose.
            for outcome in (admitting or found[len(outcomes) - 1 :])[:1]:
                by, action = outcome.decided_by, outcome.decision.action
                name = outcome.decision.set_fields().get("name")
                does = f"answers {name!r}" if action == "continue" else f"{action}s the call"
                is_same, text = name and name == room.get("name"), f"never reached, as {by} {does}"
                if is_same:
                    text = f"{by} has it, too: Infinity's own is used where we do not answer"
                self._say("alias" if is_same else "room", room, "warning", f"{alias}: {text}")


def _url_of(row: Row) -> URL:
    """Return the URL of an object without credentials; an empty one for what is none."""
    with suppress(ValueError):
        return URL(str(row.get("url") or "")).with_user(None)
    return URL()


def _matches(host: str, name: str) -> bool:
    """Return whether a host has a name, which may begin with ``*.`` as in certificates."""
    host, name = host.removesuffix(".").casefold(), name.casefold()
    return host == name or (name.startswith("*.") and host.partition(".")[2] == name[2:])


@click.group(epilog=common.examples("pexpolicy infinity check", "pexpolicy infinity check --json"))
def infinity() -> None:
    """Compare this server with the Infinity platform that asks it."""


@infinity.command(epilog=common.examples("pexpolicy infinity check --url https://p.example.com"))
@common.config_option
@click.option("--url", default="", help="Where nodes reach this server, as behind a proxy.")
@common.json_option
def check(config: Path, url: str, *, as_json: bool) -> None:
    """Check policy profiles, locations, certificate, event sinks, names, rooms and aliases.

    It reads the Management API that [infinity] source names, and changes nothing. Exit code 1 for
    an error or a warning, 75 if the API does not answer.
    """
    try:
        states = print_findings(asyncio.run(_found(config, url)), as_json=as_json)
    except (SourceError, TimeoutError) as error:
        text = f"{config}: the Management API: {str(error) or 'no answer'}"
        common.refuse(text, common.EX_TEMPFAIL)
    except SecretError as error:
        common.refuse(f"{config}: tls.{error.key}: {error}", common.EX_CONFIG)
    sys.exit(1 if states["error"] or states["warning"] else 0)


async def _found(config: Path, url: str) -> list[Finding]:
    policy = common.build(config)
    async with policy.serving():
        named = [one for one in policy.all_names if isinstance(one.source, InfinitySource)]
        made = [Check(policy, names, url) for names in named]
        found = [one for check in made for one in await check.findings()]
    if not named:
        text = f'{config}: [infinity] source names no source with driver = "infinity"'
        common.refuse(text, common.EX_CONFIG)
    return sorted(found, key=lambda one: [*STYLES].index(one.state), reverse=True)
