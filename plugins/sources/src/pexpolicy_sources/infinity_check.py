"""``pexpolicy infinity check``: what does not fit between this server and Infinity."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import click
from cryptography.x509.oid import ExtensionOID
from yarl import URL

from pexpolicy import Continue
from pexpolicy.access.certificates import CertificateFiles, load
from pexpolicy.cli import common
from pexpolicy.cli.doctor import STYLES, Finding, certificate_rows, event_rows, print_findings
from pexpolicy.cli.status import running_status
from pexpolicy.config.secrets import SecretError
from pexpolicy.endpoints.object_names import MAX_SHOWN, ObjectNames
from pexpolicy.events.receiver import PATH
from pexpolicy.models.subnets import Subnets, read_subnet
from pexpolicy.policy import Policy
from pexpolicy.testing import make_request
from pexpolicy.text import did_you_mean
from pexpolicy_sources.data_source import Row, SourceError
from pexpolicy_sources.infinity import RESOURCES, InfinitySource, addresses, with_aliases

PROFILE, SINK = "policy_server", "event_sink"
CHECKS = {PROFILE: ("profile", "policy_server", ""), SINK: ("events", "event_sinks", PATH)}
"""Of what has a URL of this server: the name of the check, the field in a location, the path."""
LOOKUPS = {
    "service_configuration": "service",
    "participant_properties": "participant",
    "media_location": "media_location",
    "participant_avatar": "avatar",
    "directory_information": "directory",
    "registration_alias": "registration",
}
"""By request, its name in the switches of a policy profile."""
READ = [PROFILE, SINK, "system_location", "conference", "conference_alias", "device"]
READ += ["worker_vm", "alarm"]
PEOPLE = [f"participant_{what}" for what in ("connected", "disconnected", "updated")]
"""Events without which the live counts are wrong."""
ADDRESSES = ("address", "secondary_address", "static_nat_address")
"""Where calls of a node may come from."""


class Check:
    """Compares a serving policy with the objects of a platform.

    ``names`` are those of the platform, and ``url`` is what nodes ask, if the configuration does
    not have it.
    """

    def __init__(self, policy: Policy, names: ObjectNames, url: str) -> None:
        assert isinstance(names.source, InfinitySource)
        self._policy, self._named = policy, names
        self._source, self._environment = names.source, (*names.table, None)[1]
        self._settings = settings = policy.settings
        self._found = list[Finding]()
        self._objects: dict[str, list[Row]] = defaultdict(list)
        tls, server, folder = settings.tls, settings.server, settings.path.parent
        self._files = CertificateFiles.of(tls, folder) if tls else None
        leaf = load(self._files).leaf.extensions if self._files else ()
        found = (one.value for one in leaf if one.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        self._certified = [str(name.value) for names in found for name in names]
        made = f"{'https' if tls else 'http'}://host:{server.port}{server.base_path}"
        self._url = URL(url or made)
        self._is_behind_proxy = bool(settings.access.trusted_proxies) and not url
        self._names = [self._url.host or ""] if url else [socket.gethostname(), *self._certified]

    async def findings(self) -> list[Finding]:
        """Read the platform, and return what is found; raises ``SourceError`` if it is down."""
        await self._source.refresh_names()
        self._refused = {RESOURCES[kind]: why for kind, why in self._source.problems.items()}
        for resource in READ:
            api = "status" if resource == "alarm" else "configuration"
            try:
                self._objects[resource] = await self._source.objects(resource, api)
            except SourceError as error:
                self._refused[resource] = str(error)
        for resource, why in self._refused.items():
            self._say("read", resource, "skipped", why)
        locations = self._objects["system_location"]
        self._ours = {one: [*filter(self._is_ours, self._objects[one])] for one in CHECKS}
        self._bound = {
            resource: [addresses(one.get(field)) for one in locations]
            for resource, (_, field, _) in CHECKS.items()
        }
        sources = self._settings.event_tables.values()
        self._look_at_urls(PROFILE, {one.user for one in self._settings.credentials})
        self._look_at_urls(SINK, {str(one.user) for one in sources})
        self._look_at_switches()
        self._look_at_locations()
        await self._look_at_server()
        self._look_at_names()
        await self._look_at_rooms()
        return self._found

    def _say(self, check: str, subject: object, state: str, text: str, *when: object) -> None:
        """Add a finding about a text, or about an object with a name, if all of ``when`` is so."""
        name = subject.get("name") if isinstance(subject, Mapping) else subject
        place = ": ".join(filter(None, (self._environment, check, str(name))))
        if all(when):
            self._found.append(Finding(place, state, text))

    def _is_ours(self, row: Row) -> bool:
        host = _url_of(row).host or ""
        with suppress(OSError):  # an address of this machine
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host or "?", 0), family=family).close()
            return True
        return any(_matches(host, name) for name in self._names)

    def _look_at_urls(self, resource: str, users: set[str]) -> None:
        """Look at the policy profiles, or event sinks, of this server, which has these users."""
        (check, _, path), is_sink = CHECKS[resource], resource == SINK
        bound, lacks_events = self._bound[resource], is_sink and self._settings.events is None
        others = ", ".join(str(_url_of(one)) for one in self._objects[resource]) or "none"
        text = f"none is for {', '.join(self._names)}, see --url; there are: {others}"
        is_missing = not self._ours[resource] and resource not in self._refused
        self._say(check, resource, "error", text, is_missing, not lacks_events)
        for row in self._ours[resource]:
            say, url, user = partial(self._say, check, row), _url_of(row), row.get("username") or ""
            wanted = URL(str(self._url).rstrip("/") + path).with_host(url.host or "")
            if self._is_behind_proxy:
                wanted = wanted.with_scheme(url.scheme).with_port(url.explicit_port)
            # That of a sink is used as it is.
            is_right = (str(url) if is_sink else str(url).rstrip("/")) == str(wanted)
            doubled = "; Infinity appends /policy/v1 itself" * ("/policy/v1" in url.path)
            say("ok", f"points at this server: {url}", is_right)
            say("error", f"has the URL {url}, and not {wanted}{doubled}", not is_right)
            say("error", "sends events here, without [events]", lacks_events)
            # Some versions return no user of an event sink.
            is_wrong = user not in users and (user or (not is_sink and "username" in row))
            text = f"its user is {user or 'not set'}, and not {', '.join(sorted(users))}"
            say("error", text, users, is_wrong)
            is_unused = bound and addresses(row).isdisjoint(chain(*bound))
            say("warning", "no location has it, so it is not used", is_unused)
            is_open = url.scheme == "https" and row.get("verify_tls_certificate") is False
            say("warning", "verify_tls_certificate is off", is_open)
            lost = ", ".join(one for one in PEOPLE if one not in str(row.get("events")))
            say("warning", f"does not send {lost}", lost and row.get("filter_events"))

    def _look_at_switches(self) -> None:
        kinds_of = dict[str, set[str]]()
        for plugin in self._policy.plugins:
            if plugin.table.mode == "decide" and plugin.table.is_asked_in(self._environment):
                rules: Any = getattr(plugin.instance, "rule_summaries", tuple)()
                may = {kind for kind in LOOKUPS for hook in plugin.hooks if kind in hook}
                of_rules = {f"{plugin.name} ({one.name})": {*one.endpoints} for one in rules}
                kinds_of |= of_rules or {plugin.name: may}
        for profile in self._ours[PROFILE]:
            say = partial(self._say, "profile", profile)
            asked = {kind for kind, name in LOOKUPS.items() if profile.get(f"enable_{name}_lookup")}
            say("ok" if asked else "error", f"asks for {', '.join(sorted(asked)) or 'nothing'}")
            idle = {name: kinds for name, kinds in kinds_of.items() if not asked & kinds}
            off = {
                f"enable_{LOOKUPS[one]}_lookup" for one in chain(*idle.values())
            } & profile.keys()
            text = f"{', '.join(sorted(off))} is off: never asked are "
            say("warning", text + ", ".join([*idle][:MAX_SHOWN]), asked, off)
            for kind in asked & {*chain(*kinds_of.values())}:
                change = f"enable_internal_{LOOKUPS[kind]}_policy"
                say("warning", f"{change}: Infinity may change our answers", profile.get(change))

    def _look_at_locations(self) -> None:
        profiles, sinks = map(addresses, self._ours.values())
        sinks, nodes = sinks if self._settings.events else set(), self._objects["worker_vm"]
        locations = self._objects["system_location"]
        for location, asked, told in zip(locations, *self._bound.values(), strict=True):
            say = partial(self._say, "location", location, "warning")
            say("has no policy profile, so its nodes ask nothing", not asked)
            is_other = asked and asked.isdisjoint(profiles) and PROFILE not in self._refused
            say("has a policy profile that is not for this server", is_other)
            here = addresses(location)
            inside = [one for one in nodes if addresses(one.get("system_location")) & here]
            # Proxying nodes send no events.
            only_forwards = {str(one.get("node_type")).upper() for one in inside} == {"PROXYING"}
            is_silent = sinks and told.isdisjoint(sinks) and not only_forwards
            say("has no event sink of this server", is_silent)
            say("has several event sinks of this server: events come twice", len(told & sinks) > 1)

    async def _look_at_server(self) -> None:
        """Look at our certificate, events that come, and nodes whose calls are refused."""
        if self._files is not None:
            say = partial(self._say, "certificate", self._files.certificate)
            for state, text, *_ in certificate_rows(self._files, self._source.settings.ca_file):
                say(state, text)
            urls = map(_url_of, chain(*self._ours.values()))
            for host in sorted({str(url.host) for url in urls if url.scheme == "https"}):
                text = f"is for {', '.join(self._certified) or 'no name'}, and not for {host}"
                say("error", text, not any(_matches(host, name) for name in self._certified))
        status = await asyncio.to_thread(running_status, self._settings.path, self._settings)
        for state, text, *_ in event_rows(status):
            self._say("events", "server", state, text)
        for alarm in self._objects["alarm"] if self._settings.events else ():
            keys = ("identifier", "name", "details")
            said = " ".join(str(alarm[key]) for key in keys if alarm.get(key))
            is_of_us, node = re.search("sink|policy", said.casefold()), alarm.get("node")
            self._say("events", node or "alarm", "error", f"Infinity's alarm: {said}", is_of_us)
        access = self._settings.access
        written = {*map(read_subnet, (*access.networks, *access.trusted_proxies))}
        admitted = Subnets((network, None) for network in written)
        for node in self._objects["worker_vm"] if access.networks else ():
            found = [one for key in ADDRESSES if isinstance(one := node.get(key), str) and one]
            text = f"{', '.join(found)} is in none of [access] networks"
            self._say("node", node, "error", text, found, not any(map(admitted.find, found)))

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
        """Ask our policy for each alias of Infinity."""
        named = (str(alias) for one in self._objects["device"] if (alias := one.get("alias")))
        devices = (({"name": f"device {alias}"}, [alias]) for alias in named)
        rooms = with_aliases(self._objects["conference"], self._objects["conference_alias"])
        for room, aliases in chain(rooms, devices):
            for alias in sorted(aliases):
                await self._compare(room, alias)

    async def _compare(self, room: Row, alias: str) -> None:
        """Ask our policy for an alias of a room of Infinity. A reject counts only if all callers
        get one, as others are refused on purpose; no PIN is shown.
        """
        local = {"registered": True, "remote_alias": f"sip:caller@{alias.partition('@')[2]}"}
        answers = []
        for caller in ({"shape": "sip"}, {"shape": "web"}, local):
            call: Any = {"local_alias": alias, "environment": self._environment, **caller}
            answer = await self._policy.answer(make_request("service_configuration", **call), "")
            answers.append(answer.outcome)
        found = [one for one in answers if not isinstance(one.decision, Continue)]
        admitting = [one for one in found if one.decision.action != "reject"]
        for outcome in (admitting or found[len(answers) - 1 :])[:1]:
            name, action = outcome.decision.set_fields().get("name"), outcome.decision.action
            by, is_same = outcome.decided_by, action == "continue" and name == room.get("name")
            does = f"answers {name!r}" if action == "continue" else f"{action}s the call"
            text = f"never reached, as {by} {does}"
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
