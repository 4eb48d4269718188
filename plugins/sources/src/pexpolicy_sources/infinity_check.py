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
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import click
from cryptography import x509
from yarl import URL

from pexpolicy import Continue
from pexpolicy.access.certificates import CertificateFiles, load
from pexpolicy.cli import common
from pexpolicy.cli.doctor import STYLES, certificate_rows, event_rows, print_findings
from pexpolicy.cli.status import Document, running_status
from pexpolicy.config.secrets import SecretError
from pexpolicy.endpoints.object_names import MAX_SHOWN, ObjectNames
from pexpolicy.events.receiver import PATH
from pexpolicy.models.outcome import DEFAULT, Outcome
from pexpolicy.models.subnets import Subnets, read_subnet
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.testing import make_request
from pexpolicy.text import did_you_mean
from pexpolicy_sources.data_source import Row, SourceError
from pexpolicy_sources.infinity import RESOURCES, InfinitySource, addresses, with_aliases

SERVICE, PARTICIPANT = "service_configuration", "participant_properties"
SWITCHES = {
    SERVICE: ("enable_service_lookup", "enable_internal_service_policy"),
    PARTICIPANT: ("enable_participant_lookup", "enable_internal_participant_policy"),
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
PEOPLE = [f"participant_{what}" for what in ("connected", "disconnected", "updated")]
"""Events without which the live counts are wrong."""
ADDRESSES = ("address", "secondary_address", "static_nat_address")
"""Where calls of a node may come from."""


class Finding(NamedTuple):
    """What was looked at, one of ``STYLES``, the object, and why."""

    check: str
    state: str
    subject: str
    text: str


class Check:
    """Compares a serving policy with the objects of a platform.

    ``names`` are those of the platform, ``status`` is that of the running server, and ``url`` what
    nodes ask, if the configuration does not have it.
    """

    def __init__(
        self, policy: Policy, names: ObjectNames, status: Document | None, url: str
    ) -> None:
        assert isinstance(names.source, InfinitySource)
        self._policy, self._named, self._status = policy, names, status
        self._source, self._environment = names.source, (*names.table, None)[1]
        self._settings = settings = policy.settings
        self._found = list[Finding]()
        self._objects: dict[str, list[Row]] = defaultdict(list)
        self._refused: dict[str, str] = {}
        self._ours: dict[str, list[Row]] = {}
        self._files: CertificateFiles | None = None
        self._certified = list[str]()
        if settings.tls is not None:
            self._files = CertificateFiles.of(settings.tls, settings.path.parent)
            for extension in load(self._files).leaf.extensions:
                if isinstance(extension.value, x509.SubjectAlternativeName):
                    self._certified = [str(name.value) for name in extension.value]
        server, scheme = settings.server, "http" if self._files is None else "https"
        made = URL.build(scheme=scheme, host="host", port=server.port, path=server.base_path)
        self._is_proxied, self._url = bool(url), URL(url) if url else made
        base = self._url.path.rstrip("/")
        self._paths = {"policy_server": base, "event_sink": base + PATH}
        hosts = (server.host.strip("[]"), socket.gethostname(), settings.instance, *self._certified)
        self._names = [*dict.fromkeys((self._url.host or "",) if url else hosts)]

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
            self._say("read", "skipped", resource, why)
        for resource in self._paths:
            self._ours[resource] = self._for_us(resource)
            self._look_at_urls(resource)
        self._look_at_locations()
        self._look_at_server()
        self._look_at_nodes()
        self._look_at_names()
        self._look_at_gateways()
        await self._look_at_rooms()
        await self._look_at_devices()
        return self._found

    def _say(self, check: str, state: str, subject: object, text: str) -> None:
        """Add a finding about a text, or about an object with a name."""
        name = str(subject.get("name") if isinstance(subject, Mapping) else subject)
        name = name if self._environment is None else f"{self._environment}: {name}"
        self._found.append(Finding(check, state, name, text))

    def _is_ours(self, row: Row) -> bool:
        host, first = _url_of(row).host or "", self._names[0]
        is_local = first in ("0.0.0.0", "::") and _is_local(host)  # noqa: S104 - compared only
        return is_local or any(_matches(host, name) for name in self._names)

    def _for_us(self, resource: str) -> list[Row]:
        """Return the objects with a URL of this server; without any, those with its path, if all
        are for one server.
        """
        rows = [row for row in self._objects[resource] if _url_of(row).host]
        is_alone = not self._is_proxied and len({_url_of(row).host for row in rows}) == 1
        path, found = self._paths[resource], [row for row in rows if self._is_ours(row)]
        return found or [r for r in rows if is_alone and _url_of(r).path.rstrip("/") == path]

    def _look_at_urls(self, resource: str) -> None:
        """Look at the policy profiles, or event sinks, of this server."""
        ours, path, settings = self._ours[resource], self._paths[resource], self._settings
        check, what, table = "profile", "policy profiles", "[auth]"
        users = {one.user for one in settings.credentials}
        if is_sink := resource == "event_sink":
            check, what, table = "events", "event sinks", "[events]"
            of = settings.nodes.event_sources.get(self._environment or "", "")
            users = {str(o.user) for name, o in settings.event_tables.items() if of in ("", name)}
        say, is_off = partial(self._say, check, "error"), is_sink and settings.events is None
        if not ours and not is_off and resource not in self._refused:
            others = ", ".join(str(_url_of(one)) for one in self._objects[resource]) or "none"
            here = f"{', '.join(self._names)}, path {path or '/'}"
            say(what, f"none is for this server ({here}); there are: {others}")
        for row in ours:
            if is_off:
                say(row, "sends events here, without [events]")
            self._look_at_url(check, resource, row)
            user, known = str(row.get("username") or ""), ", ".join(sorted(users))
            # Some versions return no user of an event sink.
            if users and user not in users and (user or (not is_sink and "username" in row)):
                say(row, f"its user is {user or 'not set'}, and {table} has {known}")
            if not is_sink:
                self._look_at_switches(row, user)

    def _look_at_url(self, check: str, resource: str, row: Row) -> None:
        """Look at a URL; that of an event sink is used as it stands."""
        url, ours, is_sink = _url_of(row), self._url, resource == "event_sink"
        wanted, path = self._paths[resource], url.path if is_sink else url.path.rstrip("/")
        doubled = "; Infinity appends /policy/v1 itself" * ("/policy/v1" in path)
        # In front of a server without a certificate, a proxy may have one.
        is_direct = self._is_proxied or self._files or url.scheme == "http"
        is_direct = is_direct or url.host == self._settings.server.host
        port, is_ours = f"{ours.scheme}, port {ours.port}", self._is_ours(row)
        is_other = is_ours and is_direct and (url.scheme, url.port) != (ours.scheme, ours.port)
        more, known = not is_sink and (url.query_string or url.fragment), ", ".join(self._names)
        flaws = {
            f"is for another host than {known}; --url names one of a proxy": not is_ours,
            f"has another path than {wanted or '/'}{doubled}": path != wanted,
            "has a query or a fragment, and Infinity appends a path": more,
            f"has another scheme or port than this server: {port}": is_other,
            "is disabled": False in (row.get("enabled"), row.get("enable")),
        }
        for flaw in filter(flaws.get, flaws):
            self._say(check, "error", row, f"{url} {flaw}")
        if not any(flaws.values()):
            self._say(check, "ok", row, f"points at this server: {url}")
        own, locations = addresses(resource, row), self._objects["system_location"]
        is_bound = any(own & self._bound(resource, one) for one in locations)
        if not is_bound and "system_location" not in self._refused:
            self._say(check, "warning", row, "no location has it, so it is not used")
        if row.get("verify_tls_certificate") is False and url.scheme == "https":
            self._say(check, "warning", row, "verify_tls_certificate is off")
        lost = ", ".join(one for one in PEOPLE if one not in str(row.get("events")))
        if lost and row.get("filter_events"):
            self._say(check, "warning", row, f"does not send {lost}")

    def _look_at_switches(self, profile: Row, user: str) -> None:
        asked = [kind for kind, (switch, _) in SWITCHES.items() if profile.get(switch)]
        say, kinds_of = partial(self._say, "profile"), self._kinds()
        other = self._settings.nodes.of(user)
        if self._environment and other not in (None, self._environment):
            say("error", profile, f"its user {user} is one of [environments.{other}]")
        say("ok" if asked else "error", profile, f"asks for {', '.join(asked) or 'nothing'}")
        for kind, (switch, change) in SWITCHES.items() if asked else ():
            answering = {name: kinds for name, kinds in kinds_of.items() if kind in kinds}
            # One that is asked for others may have no answer for this.
            idle = sorted(name for name in answering if answering[name].isdisjoint(asked))
            if idle and switch in profile:
                never = f"{kind} is never asked of {', '.join(idle[:MAX_SHOWN])}"
                say("warning", profile, f"{switch} is off: {never}")
            if kind in asked and answering and profile.get(change):
                say("warning", profile, f"{change} is on: Infinity may change our answers")

    def _kinds(self) -> dict[str, set[str]]:
        """Return the requests that each plugin may answer, or each rule of one with rules."""
        found = dict[str, set[str]]()
        for plugin in self._policy.plugins:
            if plugin.table.mode == "decide" and plugin.table.is_asked_in(self._environment):
                if rules := getattr(plugin.instance, "rule_summaries", None):
                    found |= {f"{plugin.name} ({one.name})": {*one.endpoints} for one in rules()}
                else:
                    found[plugin.name] = {k for k in SWITCHES for hook in plugin.hooks if k in hook}
        return found

    def _bound(self, resource: str, location: Row) -> set[str]:
        """Return the profile of a location, or its event sinks."""
        return addresses(resource, location.get(resource + "s" * (resource == "event_sink")))

    def _look_at_locations(self) -> None:
        say, nodes = partial(self._say, "location", "warning"), self._objects["worker_vm"]
        profiles, sinks = (addresses(one, self._ours[one]) for one in self._paths)
        for location in self._objects["system_location"]:
            asked, told = (self._bound(one, location) for one in self._paths)
            here, ours = addresses("system_location", location), len(told & sinks)
            inside = [one for one in nodes if addresses("", one.get("system_location")) & here]
            if not asked:
                say(location, "has no policy profile, so its nodes ask nothing")
            elif not asked & profiles and "policy_server" not in self._refused:
                say(location, "has a policy profile that is not for this server")
            # Proxying nodes send no events.
            only_forwards = {str(one.get("node_type")).upper() for one in inside} == {"PROXYING"}
            if self._settings.events and sinks and not ours and not only_forwards:
                say(location, "has no event sink of this server")
            if self._settings.events and ours > 1:
                say(location, "has several event sinks of this server: events come twice")

    def _look_at_server(self) -> None:
        """Look at our certificate, and at the events that come."""
        if self._files is not None:
            say, names = partial(self._say, "certificate"), ", ".join(self._certified) or "no name"
            for state, text, *_ in certificate_rows(self._files, self._source.settings.ca_file):
                say(state, self._files.certificate, text)
            rows = filter(self._is_ours, chain(*self._ours.values()))
            for host in sorted({str(u.host) for u in map(_url_of, rows) if u.scheme == "https"}):
                if not any(_matches(host, name) for name in self._certified):
                    say("error", self._files.certificate, f"is for {names}, and not for {host}")
        for state, text, *_ in event_rows(self._status):
            self._say("events", state, "server", text)
        for alarm in self._objects["alarm"] if self._settings.events else ():
            said = " ".join(str(alarm.get(key) or "") for key in ("identifier", "name", "details"))
            if any(word in said.casefold() for word in ("sink", "policy")):
                node = alarm.get("node") or "alarm"
                self._say("events", "error", node, f"Infinity has an alarm: {said}")

    def _look_at_nodes(self) -> None:
        """Look for nodes whose calls are refused, or are of another environment."""
        access, nodes = self._settings.access, self._settings.nodes
        written = map(read_subnet, (*access.networks, *access.trusted_proxies))
        admitted = Subnets((one, None) for one in dict.fromkeys(written))
        # A user counts before an address does.
        has_user = any(nodes.of(str(o.get("username") or "")) for o in self._ours["policy_server"])
        for node in self._objects["worker_vm"]:
            found = [one for key in ADDRESSES if isinstance(one := node.get(key), str) and one]
            shown, by_address = ", ".join(found), nodes.of(None, *found)
            if found and access.networks and not any(map(admitted.find, found)):
                self._say("node", "error", node, f"{shown} is in none of [access] networks")
            if found and not has_user and self._environment not in (None, by_address):
                where = f"of [environments.{by_address}]" if by_address else "of no environment"
                self._say("node", "error", node, f"calls of {shown} are {where}")

    def _look_at_names(self) -> None:
        names, say = self._named, partial(self._say, "name")
        for kind, one in self._source.listed_names().items():
            for name in sorted(names.declared.get(kind, frozenset()) - one.names):
                where, near = f"[{'.'.join(names.table)}] {kind}", did_you_mean(name, one.names)
                say("error", name, f"is in {where}, and Infinity does not have it{near}")
        for unknown in names.unknown():
            more = ", ..." if len(unknown.places) > len(unknown.shown) else ""
            say("error", unknown.name, f"{unknown.text}; in {', '.join(unknown.shown)}{more}")
        ours = self._settings.infinity.min_pin_length
        for row in self._objects["global"][:1]:
            if isinstance(least := row.get("min_pin_length"), int) and least > ours:
                say("warning", "min_pin_length", f"is {least}, and {ours} under [infinity]")

    def _look_at_gateways(self) -> None:
        """Look for rules of Infinity that match aliases of our rooms."""
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
                    self._say("alias", "warning", rule, text)

    async def _look_at_rooms(self) -> None:
        """Ask our policy for each alias of Infinity; then compare the names of rooms."""
        others, rooms, kinds = set[Any](), self._objects["conference"], [SERVICE]
        if any(one.get(SWITCHES[PARTICIPANT][0]) for one in self._ours["policy_server"]):
            kinds.append(PARTICIPANT)
        for room, aliases in with_aliases(rooms, self._objects["conference_alias"]):
            answers = defaultdict[Any, list[str]](list)
            for alias, kind in product(sorted(aliases), kinds):
                outcome = await self._asked(kind, alias)
                # Other answers about participants keep no caller from a room.
                if outcome and (kind == SERVICE or outcome.decision.action == "reject"):
                    answers[_compared(room, outcome)].append(alias)
            if not answers:
                others.add(str(room.get("name")))
            for (check, text), ours in answers.items():
                self._say(check, "warning", room, f"{', '.join(dict.fromkeys(ours))}: {text}")
        for plugin, items in self._policy.static_decisions.items():
            for key, decision in items:
                if (name := decision.set_fields().get("name")) in others:
                    place = ".".join(map(str, (plugin, *key)))
                    text = f"{place} has this name, too: callers of both meet"
                    self._say("room", "warning", name, text)

    async def _look_at_devices(self) -> None:
        what = {"registration_alias": "its registration", SERVICE: "calls to it"}
        for alias, kind in product((one.get("alias") for one in self._objects["device"]), what):
            if alias and (outcome := await self._asked(kind, str(alias))) is not None:
                text = f"{_by(outcome)} {what[kind]}, and not Infinity"
                self._say("alias", "warning", alias, text)

    async def _asked(self, kind: str, alias: str) -> Outcome | None:
        """Return our answer for an alias, if Infinity would use it; a reject only if all callers
        get one, as others are refused on purpose.
        """
        local = {"registered": True, "remote_alias": f"sip:caller@{alias.partition('@')[2]}"}
        callers: list[dict[str, Any]] = [{"shape": "sip"}, {"shape": "web"}, local]
        calls = [{"local_alias": alias, **one} for one in callers]
        calls = [{"alias": alias}] if kind == "registration_alias" else calls
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
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with suppress(OSError):
        socket.create_server((host, 0), family=family).close()
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
    policy = common.build(config, context=BuildContext(keeps_static_decisions=True))
    named = [one for one in policy.all_names if isinstance(one.source, InfinitySource)]
    if not named:
        policy.close()
        text = f'{config}: [infinity] source names no source with driver = "infinity"'
        common.refuse(text, common.EX_CONFIG)
    status = await asyncio.to_thread(running_status, config, policy.settings)
    found = list[Finding]()
    async with policy.serving():
        for made in [Check(policy, names, status, url) for names in named]:
            found += await made.findings()
    return sorted(found, key=lambda one: [*STYLES].index(one.state), reverse=True)
