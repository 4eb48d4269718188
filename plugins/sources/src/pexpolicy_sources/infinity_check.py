"""``pexpolicy infinity check``: what does not fit between this server and Infinity."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
from cryptography import x509
from yarl import URL

from pexpolicy import Continue
from pexpolicy.access.certificates import CertificateFiles, load
from pexpolicy.cli.common import (
    EX_CONFIG,
    EX_TEMPFAIL,
    build,
    config_option,
    count,
    examples,
    json_option,
    print_json,
    refuse,
)
from pexpolicy.cli.doctor import certificate_rows, event_rows
from pexpolicy.cli.status import Document, running_status
from pexpolicy.config.secrets import SecretError
from pexpolicy.endpoints.object_names import MAX_SHOWN, ObjectNames
from pexpolicy.events.receiver import PATH
from pexpolicy.models.outcome import DEFAULT, Outcome
from pexpolicy.models.subnets import Subnets, read_subnet
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.testing import make_request
from pexpolicy.testing.report import Table, print_parts
from pexpolicy.text import did_you_mean
from pexpolicy_sources.data_source import Row, SourceError
from pexpolicy_sources.infinity import (
    RESOURCES,
    Api,
    InfinitySource,
    addresses,
    list_of,
    with_aliases,
)

SWITCHES = {
    "service_configuration": ("enable_service_lookup", "enable_internal_service_policy"),
    "participant_properties": ("enable_participant_lookup", "enable_internal_participant_policy"),
    "media_location": ("enable_media_location_lookup", "enable_internal_media_location_policy"),
    "participant_avatar": ("enable_avatar_lookup", "prefer_local_avatar_configuration"),
    "directory_information": ("enable_directory_lookup", ""),
    "registration_alias": ("enable_registration_lookup", ""),
}
"""By request, the switch of a policy profile, and that by which Infinity changes our answer."""
READ = ["policy_server", "event_sink", "system_location", "conference", "conference_alias"]
READ += ["device", "gateway_routing_rule", "worker_vm", "global", "alarm"]
COMPARED = ("pin", "guest_pin", "allow_guests", "participant_limit")
"""Fields that a room of Infinity and a service of ours share."""
PEOPLE = {f"participant_{what}" for what in ("connected", "updated", "disconnected")}
"""Events without which the live counts are wrong."""
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared only
ADDRESSES = ("address", "secondary_address", "static_nat_address")
"""Where calls of a node may come from."""
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green", "skipped": "dim"}
Found = Iterator[tuple[str, str, str]]
"""State, subject and text."""


class Finding(NamedTuple):
    """What was looked at, one of ``STYLES``, the object, and why."""

    check: str
    state: str
    subject: str
    text: str


class Check:
    """Compares a serving policy with the objects of a platform, which ``read`` reads.

    ``names`` are those of the platform, ``status`` is that of the running server, and ``url`` what
    nodes ask, if the configuration does not have it.
    """

    def __init__(
        self, policy: Policy, names: ObjectNames, status: Document | None, url: str
    ) -> None:
        self._policy, self._named, self._status = policy, names, status
        assert isinstance(names.source, InfinitySource)
        self._source = names.source
        self._environment = names.table[1] if len(names.table) > 1 else None
        self._ca_file = names.source.settings.ca_file
        self._settings = settings = policy.settings
        self._objects: dict[str, list[Row]] = defaultdict(list)
        self._refused: dict[str, str] = {}
        self._files: CertificateFiles | None = None
        certified: list[str] = []
        if settings.tls is not None:
            self._files = CertificateFiles.of(settings.tls, settings.path.parent)
            for extension in load(self._files).leaf.extensions:
                if isinstance(extension.value, x509.SubjectAlternativeName):
                    certified = [str(name.value) for name in extension.value]
        self._certified = certified
        server = settings.server
        scheme, host = "http" if self._files is None else "https", server.host.strip("[]")
        made = URL.build(scheme=scheme, host="host", port=server.port, path=server.base_path)
        self._is_proxied, self._url = bool(url), URL(url) if url else made
        base = self._url.path.rstrip("/")
        self._paths = {"policy_server": base, "event_sink": base + PATH}
        self._is_everywhere = not url and host in ANY_ADDRESS
        hosts = [host] * (not self._is_everywhere) + [socket.gethostname(), settings.instance]
        self._names = [self._url.host or ""] if url else [*dict.fromkeys((*hosts, *certified))]

    async def read(self) -> None:
        """Read the platform; raises ``SourceError`` if nothing can be read."""
        await self._source.refresh_names()
        for resource in READ:
            api: Api = "status" if resource == "alarm" else "configuration"
            try:
                self._objects[resource] = await self._source.objects(resource, api)
            except SourceError as error:
                self._refused[resource] = str(error)
        self._profiles, self._sinks = self._ours("policy_server"), self._ours("event_sink")

    async def findings(self) -> list[Finding]:
        """Return all findings."""
        found: list[Finding] = []
        for name, rows in {
            "read": (("skipped", *one) for one in self._refused.items()),
            "profile": self._of_profiles(),
            "location": self._of_locations(),
            "certificate": self._of_certificate(),
            "events": self._of_events(),
            "node": self._of_nodes(),
            "name": self._of_names(),
            "alias": self._of_gateways(),
        }.items():
            found += (Finding(name, *row) for row in rows)
        for others in (self._of_rooms(), self._of_devices()):
            found += [one async for one in others]
        at = "" if self._environment is None else f"{self._environment}: "
        return [one._replace(subject=at + one.subject) for one in found]

    def _is_ours(self, row: Row) -> bool:
        host = _url_of(row).host or ""
        is_named = any(_matches(host, name) for name in self._names)
        return is_named or (self._is_everywhere and _is_local(host))

    def _ours(self, resource: str) -> list[Row]:
        """Return the objects with a URL of this server; without any, those with its path, if all
        are for one server.
        """
        rows = [row for row in self._objects[resource] if _url_of(row).host]
        path = self._paths[resource]
        is_alone = not self._is_proxied and len({_url_of(row).host for row in rows}) == 1
        alike = [row for row in rows if is_alone and _url_of(row).path.rstrip("/") == path]
        return [row for row in rows if self._is_ours(row)] or alike

    def _of_profiles(self) -> Found:
        if not self._profiles and "policy_server" not in self._refused:
            others = ", ".join(str(_url_of(one)) for one in self._objects["policy_server"])
            text = f"none is for this server ({', '.join(self._names)}); there are: "
            yield "error", "policy profiles", text + (others or "none")
        users = {one.user for one in self._settings.credentials}
        for profile in self._profiles:
            name, user = str(profile.get("name")), str(profile.get("username") or "")
            yield from self._of_address(profile, "policy_server")
            if "username" in profile and users and user not in users:
                known = f"[auth] has {', '.join(sorted(users))}"
                yield "error", name, f"its user is {user or 'not set'}, and {known}"
            other = self._settings.nodes.of(user)
            if self._environment and other not in (None, self._environment):
                yield "error", name, f"its user {user} is one of [environments.{other}]"
            yield from self._of_switches(profile)

    def _of_switches(self, profile: Row) -> Found:
        name, kinds_of = str(profile.get("name")), self._kinds()
        asked = [kind for kind, (switch, _) in SWITCHES.items() if profile.get(switch)]
        yield ("ok" if asked else "error"), name, f"asks for {', '.join(asked) or 'nothing'}"
        for kind, (switch, change) in SWITCHES.items() if asked else ():
            plugins = [one for one, kinds in kinds_of.items() if kind in kinds]
            # One that is asked for others may have no answer for this.
            idle = [one for one in plugins if kinds_of[one].isdisjoint(asked)][:MAX_SHOWN]
            if idle and switch in profile:
                text = f"{switch} is off: {kind} is never asked of {', '.join(idle)}"
                yield "warning", name, text
            if not plugins and kind in asked:
                yield "note", name, f"{switch} is on, and no plugin answers {kind}"
            if plugins and kind in asked and profile.get(change):
                yield "warning", name, f"{change} is on: Infinity may change our answers"

    def _kinds(self) -> dict[str, set[str]]:
        """Return the requests that each plugin may answer, or each rule of one with rules."""
        found = defaultdict[str, set[str]](set)
        for kind, chain in self._policy.chains.items():
            for link in chain.links:
                found[link.plugin].add(kind)
        for plugin in self._policy.plugins:
            is_asked = plugin.table.is_asked_in(self._environment)
            rules = getattr(plugin.instance, "rule_summaries", None)
            if rules is not None or not is_asked:
                found.pop(plugin.name, None)
            for rule in rules() if rules is not None and is_asked else ():
                found[f"{plugin.name} ({rule.name})"] = {*rule.endpoints}
        return found

    def _of_address(self, row: Row, resource: str) -> Found:
        """Yield whether a URL is right; that of an event sink is used as it stands."""
        url, ours, name, flaws = _url_of(row), self._url, str(row.get("name")), list[str]()
        wanted, more = self._paths[resource], resource == "event_sink"
        if not (is_ours := self._is_ours(row)):
            known = ", ".join(self._names)
            flaws.append(f"is for another host than {known}; --url names one of a proxy")
        if (url.path if more else url.path.rstrip("/")) != wanted:
            doubled = "/policy/v1" in url.path and not more
            end = "; Infinity appends /policy/v1 itself" if doubled else ""
            flaws.append(f"has another path than {wanted or '/'}{end}")
        if not more and (url.query_string or url.fragment):
            flaws.append("has a query or a fragment, and Infinity appends a path")
        # In front of a server without a certificate, a proxy may have one.
        is_direct = self._is_proxied or self._files or url.scheme == "http"
        is_direct = is_direct or url.host == self._settings.server.host
        if is_ours and is_direct and (url.scheme, url.port) != (ours.scheme, ours.port):
            text = f"has another scheme or port than this server: {ours.scheme}, port {ours.port}"
            flaws.append(text)
        if False in (row.get("enabled"), row.get("enable")):
            flaws.append("is disabled")
        yield from (("error", name, f"{url} {flaw}") for flaw in flaws)
        if not flaws:
            yield "ok", name, f"points at this server: {url}"
        own, is_read = addresses(resource, row), "system_location" not in self._refused
        if is_read and not any(own & named for named in self._bound(resource)):
            yield "warning", name, "no location has it, so it is not used"

    def _bound(self, resource: str) -> list[set[str]]:
        """Return the profile of each location, or its event sinks."""
        key = {"event_sink": "event_sinks"}.get(resource, resource)
        return [addresses(resource, one.get(key)) for one in self._objects["system_location"]]

    def _of_locations(self) -> Found:
        profiles = addresses("policy_server", self._profiles)
        sinks = addresses("event_sink", self._sinks)
        named = zip(self._bound("policy_server"), self._bound("event_sink"), strict=True)
        for location, (asked, told) in zip(self._objects["system_location"], named, strict=True):
            name, ours = str(location.get("name")), len(told & sinks)
            if not asked:
                yield "warning", name, "has no policy profile, so its nodes ask nothing"
            elif not asked & profiles and "policy_server" not in self._refused:
                yield "warning", name, "has a policy profile that is not for this server"
            if not sinks or self._settings.events is None:
                continue
            if not ours and not self._only_forwards(location):
                yield "warning", name, "has no event sink of this server"
            if ours > 1:
                yield "warning", name, "has several event sinks of this server: events come twice"

    def _only_forwards(self, location: Row) -> bool:
        """Return whether a location has proxying nodes only, which send no events."""
        here, nodes = addresses("system_location", location), self._objects["worker_vm"]
        inside = (one for one in nodes if addresses("", one.get("system_location")) & here)
        return {str(one.get("node_type")).upper() for one in inside} == {"PROXYING"}

    def _of_certificate(self) -> Found:
        if self._files is None:
            return
        subject = str(self._files.certificate)
        for state, text, *_ in certificate_rows(self._files, self._ca_file):
            yield state, subject, text
        urls = map(_url_of, filter(self._is_ours, (*self._profiles, *self._sinks)))
        for host in sorted({str(url.host) for url in urls if url.scheme == "https"}):
            if not any(_matches(host, name) for name in self._certified):
                names = ", ".join(self._certified) or "no name"
                yield "error", subject, f"is for {names}, and not for {host}"

    def _of_events(self) -> Found:
        if (events := self._settings.events) is None:
            for sink in filter(self._is_ours, self._sinks):
                yield "error", str(sink.get("name")), "sends events here, without [events]"
            return
        if not self._sinks and "event_sink" not in self._refused:
            yield "error", "event sinks", f"none is for this server: its URL ends in {PATH}"
        of = self._settings.nodes.event_sources.get(self._environment or "", "")
        users = {str(one.user) for name, one in events.sources.items() if of in ("", name)}
        for sink in self._sinks:
            name, user = str(sink.get("name")), sink.get("username")
            yield from self._of_address(sink, "event_sink")
            if user and user not in users:  # some versions return none
                yield "error", name, f"its user is {user}, and [events] has {', '.join(users)}"
            if sink.get("verify_tls_certificate") is False and _url_of(sink).scheme == "https":
                yield "warning", name, "verify_tls_certificate is off"
            lost = PEOPLE.difference(map(str, list_of(sink.get("events"))))
            if lost and sink.get("filter_events"):
                yield "warning", name, f"does not send {', '.join(sorted(lost))}"
        for alarm in self._objects["alarm"]:
            said = " ".join(str(alarm.get(key) or "") for key in ("identifier", "name", "details"))
            if any(word in said.casefold() for word in ("sink", "policy")):
                yield "error", str(alarm.get("node") or "alarm"), f"Infinity has an alarm: {said}"
        yield from ((state, "server", text) for state, text, *_ in event_rows(self._status))

    def _of_nodes(self) -> Found:
        """Yield the nodes whose calls are refused, or are of another environment."""
        access, nodes = self._settings.access, self._settings.nodes
        written = map(read_subnet, (*access.networks, *access.trusted_proxies))
        admitted = Subnets((one, None) for one in dict.fromkeys(written))
        of_users = {nodes.of(str(one.get("username") or "")) for one in self._profiles}
        for node in self._objects["worker_vm"]:
            name, given = str(node.get("name")), (node.get(key) for key in ADDRESSES)
            found = [one for one in given if isinstance(one, str) and one]
            shown, by_address = ", ".join(found), nodes.of(None, *found)
            if found and access.networks and not any(map(admitted.find, found)):
                yield "error", name, f"{shown} is in none of [access] networks"
            # A user counts before an address does.
            if found and self._environment not in (None, by_address) and not any(of_users):
                where = f"of [environments.{by_address}]" if by_address else "of no environment"
                yield "error", name, f"calls of {shown} are {where}"

    def _of_names(self) -> Found:
        names, least_ours = self._named, self._settings.infinity.min_pin_length
        for kind, problem in self._source.problems.items():
            if RESOURCES[kind] not in self._refused:
                yield "skipped", kind, f"names are not read: {problem}"
        for kind, one in self._source.listed_names().items():
            for name in sorted(names.declared.get(kind, frozenset()) - one.names):
                where, near = f"[{'.'.join(names.table)}] {kind}", did_you_mean(name, one.names)
                yield "error", name, f"is in {where}, and Infinity does not have it{near}"
        for unknown in names.unknown():
            more = ", ..." if len(unknown.places) > len(unknown.shown) else ""
            yield "error", unknown.name, f"{unknown.text}; in {', '.join(unknown.shown)}{more}"
        for row in self._objects["global"][:1]:
            if isinstance(least := row.get("min_pin_length"), int) and least > least_ours:
                yield "warning", "min_pin_length", f"is {least}, and {least_ours} under [infinity]"

    def _of_gateways(self) -> Found:
        """Yield the rules of Infinity that match aliases of our rooms."""
        plugins = [one.instance for one in self._policy.plugins]
        ours = [one.alias for plugin in plugins for one in getattr(plugin, "room_entries", tuple)()]
        for rule in self._objects["gateway_routing_rule"]:
            with suppress(re.error):
                matches = re.compile(str(rule.get("match_string")), re.IGNORECASE).fullmatch
                # Infinity leaves out the scheme unless the whole alias is to match.
                before = ("", "sip:", "h323:") if rule.get("match_string_full") is True else ("",)
                found = [one for one in ours if any(matches(scheme + one) for scheme in before)]
                if found and rule.get("enable") is not False:
                    text = f"matches {len(found)} of our aliases, such as {found[0]}"
                    text += ": it is used where we do not answer"
                    yield "warning", str(rule.get("name")), text

    async def _of_rooms(self) -> AsyncIterator[Finding]:
        """Ask our policy for each alias of Infinity; then compare the names of rooms."""
        others, rooms = set[str](), self._objects["conference"]
        for room, aliases in with_aliases(rooms, self._objects["conference_alias"]):
            answers = defaultdict[Any, list[str]](list)
            for alias in sorted(aliases):
                if (outcome := await self._asked("service_configuration", alias)) is not None:
                    answers[_compared(room, outcome)].append(alias)
            others |= set() if answers else {str(room.get("name"))}
            for (check, text), ours in answers.items():
                whole = f"{', '.join(ours)}: {text}"
                yield Finding(check, "warning", str(room.get("name")), whole)
        for plugin, items in self._policy.static_decisions.items():
            for key, decision in items:
                if (name := decision.set_fields().get("name")) in others:
                    place = ".".join(map(str, (plugin, *key)))
                    text = f"{place} has this name, too: callers of both meet"
                    yield Finding("room", "warning", str(name), text)

    async def _of_devices(self) -> AsyncIterator[Finding]:
        for alias in (str(one["alias"]) for one in self._objects["device"] if one.get("alias")):
            for kind, what in {
                "registration_alias": "its registration",
                "service_configuration": "calls to it",
            }.items():
                if (outcome := await self._asked(kind, alias)) is not None:
                    text = f"{_by(outcome)} {what}, and not Infinity"
                    yield Finding("alias", "warning", alias, text)

    async def _asked(self, kind: str, alias: str) -> Outcome | None:
        """Return our answer for an alias, if Infinity would use it; a reject only if all callers
        get one, as others are refused on purpose.
        """
        calls: list[dict[str, Any]] = [{"alias": alias}]
        if kind == "service_configuration":
            caller = f"sip:caller@{alias.partition('@')[2]}"
            calls = [{"shape": "sip"}, {"shape": "web"}]
            calls.append({"registered": True, "remote_alias": caller})
            calls = [{"local_alias": alias, **one} for one in calls]
        made = (make_request(kind, environment=self._environment, **one) for one in calls)
        found = [(await self._policy.answer(one, "")).outcome for one in made]
        answers = [one for one in found if not isinstance(one.decision, Continue)]
        others = [one for one in answers if one.decision.action != "reject"]
        return next(iter(others or answers[len(calls) - 1 :]), None)


def _by(outcome: Outcome) -> str:
    """Return what answers, and the verb for it."""
    is_default, action = outcome.decided_by == DEFAULT, outcome.decision.action
    by = f"[endpoints.{outcome.endpoint}] default" if is_default else outcome.decided_by
    return f"{by} {'answers' if action == 'continue' else action + 's'}"


def _compared(room: Row, outcome: Outcome) -> tuple[str, str]:
    """Return the check, and how our answer differs from a room of Infinity; PINs are not shown."""
    fields = outcome.decision.set_fields()
    if outcome.decision.action != "continue":
        return "room", f"never reached, as {_by(outcome)} the call"
    if fields.get("name") != room.get("name"):
        return "room", f"never reached, as {_by(outcome)} {fields.get('name')!r}"
    other = [n for n in COMPARED if n in room and (room[n] or None) != (fields.get(n) or None)]
    text = "has it, too: Infinity's own room is used where we do not answer"
    with_other = f", with another {', '.join(other)}" if other else ""
    return "alias", f"{outcome.decided_by} {text}{with_other}"


def _is_local(host: str) -> bool:
    """Return whether a host has an address of this machine."""
    with suppress(OSError):
        for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM):
            with suppress(OSError), socket.socket(family, kind) as tried:
                tried.bind(address)
                return True
    return False


def _url_of(row: Row) -> URL:
    """Return the URL of an object without credentials; an empty one for what is none."""
    with suppress(ValueError):
        url = URL(str(row.get("url") or ""))
        return url.with_user(None) if url.host else url
    return URL()


def _matches(host: str, name: str) -> bool:
    """Return whether a host has a name, which may begin with ``*.`` as in certificates."""
    host, name = host.removesuffix(".").casefold(), name.casefold()
    return host == name or (name.startswith("*.") and host.partition(".")[2] == name[2:])


@click.group(epilog=examples("pexpolicy infinity check", "pexpolicy infinity check --json"))
def infinity() -> None:
    """Compare this server with the Infinity platform that asks it."""


@infinity.command(epilog=examples("pexpolicy infinity check --url https://policy.example.com"))
@config_option
@click.option("--url", default="", help="Where nodes reach this server, as behind a proxy.")
@json_option
def check(config: Path, url: str, *, as_json: bool) -> None:
    """Check policy profiles, locations, certificate, event sinks, names, rooms and aliases.

    It reads the Management API that [infinity] source names, and changes nothing. Exit code 1 for
    an error or a warning, 75 if the API does not answer.
    """
    try:
        found = asyncio.run(_found(config, url))
    except (SourceError, TimeoutError) as error:
        refuse(f"{config}: the Management API: {str(error) or 'no answer'}", EX_TEMPFAIL)
    except SecretError as error:
        refuse(f"{config}: tls.{error.key}: {error}", EX_CONFIG)
    states = [one.state for one in found]
    if as_json:
        print_json([one._asdict() for one in found])
    else:
        rows = [((one.state, STYLES[one.state]), one.check, one.subject, one.text) for one in found]
        errors, warnings = (count(states.count(kind), kind) for kind in ("error", "warning"))
        print_parts([Table(("state", "check", "subject", "finding"), rows)])
        click.echo(f"\n{errors}, {warnings}")
    sys.exit(1 if {"error", "warning"} & {*states} else 0)


async def _found(config: Path, url: str) -> list[Finding]:
    policy = build(config, context=BuildContext(keeps_static_decisions=True))
    named = [one for one in policy.all_names if isinstance(one.source, InfinitySource)]
    if not named:
        policy.close()
        refuse(f'{config}: [infinity] source names no source with driver = "infinity"', EX_CONFIG)
    status = await asyncio.to_thread(running_status, config, policy.settings)
    found = list[Finding]()
    async with policy.serving():
        for made in [Check(policy, names, status, url) for names in named]:
            await made.read()
            found += await made.findings()
    return sorted(found, key=lambda one: [*STYLES].index(one.state))
