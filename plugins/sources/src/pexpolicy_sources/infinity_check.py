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
from cryptography.x509.oid import ExtensionOID
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
PROFILE, SINK = "policy_server", "event_sink"
CHECKS = {PROFILE: ("profile", "policy_server"), SINK: ("events", "event_sinks")}
"""Of what has a URL of this server, the name of the check, and the field in a location."""
SWITCHES = {
    SERVICE: ("enable_service_lookup", "enable_internal_service_policy"),
    PARTICIPANT: ("enable_participant_lookup", "enable_internal_participant_policy"),
    "media_location": ("enable_media_location_lookup", "enable_internal_media_location_policy"),
    "participant_avatar": ("enable_avatar_lookup", "prefer_local_avatar_configuration"),
    "directory_information": ("enable_directory_lookup", ""),
    "registration_alias": ("enable_registration_lookup", ""),
}
"""By request, the switch of a policy profile, and that by which Infinity changes our answer."""
READ = [PROFILE, SINK, "system_location", "conference", "conference_alias", "device"]
READ += ["gateway_routing_rule", "worker_vm", "global", "alarm"]
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
        tls, server, folder = settings.tls, settings.server, settings.path.parent
        self._files = CertificateFiles.of(tls, folder) if tls else None
        leaf = load(self._files).leaf.extensions if self._files else ()
        found = (one.value for one in leaf if one.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        self._certified = [str(name.value) for names in found for name in names]
        made = f"{'https' if tls else 'http'}://host:{server.port}{server.base_path}"
        self._is_proxied, self._url = bool(url), URL(url or made)
        base = self._url.path.rstrip("/")
        self._paths = {PROFILE: base, SINK: base + PATH}
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
            self._say("read", resource, "skipped", why)
        self._ours = {resource: self._for_us(resource) for resource in CHECKS}
        self._bound = {
            resource: [
                addresses(resource, one.get(field)) for one in self._objects["system_location"]
            ]
            for resource, (_, field) in CHECKS.items()
        }
        tables = self._settings.event_tables.items()
        of = self._settings.nodes.event_sources.get(self._environment or "", "")
        self._look_at_urls(PROFILE, {one.user for one in self._settings.credentials})
        self._look_at_urls(SINK, {str(one.user) for name, one in tables if of in ("", name)})
        self._look_at_switches()
        self._look_at_locations()
        self._look_at_server()
        self._look_at_nodes()
        self._look_at_names()
        self._look_at_gateways()
        await self._look_at_rooms()
        await self._look_at_devices()
        return self._found

    def _say(self, check: str, subject: object, state: str, text: str, *when: object) -> None:
        """Add a finding about a text, or about an object with a name, if all of ``when`` is so."""
        name = str(subject.get("name") if isinstance(subject, Mapping) else subject)
        name = name if self._environment is None else f"{self._environment}: {name}"
        if all(when):
            self._found.append(Finding(check, state, name, text))

    def _is_ours(self, row: Row) -> bool:
        host, first = _url_of(row).host or "", self._names[0]
        if first in ("0.0.0.0", "::"):  # noqa: S104 - any address of this machine
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with suppress(OSError):
                socket.create_server((host, 0), family=family).close()
                return True
        return any(_matches(host, name) for name in self._names)

    def _for_us(self, resource: str) -> list[Row]:
        """Return the objects with a URL of this server; without any, those with its path, if all
        are for one server.
        """
        rows = [row for row in self._objects[resource] if _url_of(row).host]
        is_alone = not self._is_proxied and len({_url_of(row).host for row in rows}) == 1
        path, found = self._paths[resource], [row for row in rows if self._is_ours(row)]
        return found or [r for r in rows if is_alone and _url_of(r).path.rstrip("/") == path]

    def _look_at_urls(self, resource: str, users: set[str]) -> None:
        """Look at the policy profiles, or event sinks, of this server, which has these users."""
        check, wanted, is_sink = CHECKS[resource][0], self._paths[resource], resource == SINK
        hosts, no_events = ", ".join(self._names), is_sink and self._settings.events is None
        if not (self._ours[resource] or no_events or resource in self._refused):
            others = ", ".join(str(_url_of(one)) for one in self._objects[resource]) or "none"
            text = f"none is for this server ({hosts}, path {wanted or '/'}); there are: {others}"
            self._say(check, resource, "error", text)
        for row in self._ours[resource]:
            say, url, is_ours = partial(self._say, check, row), _url_of(row), self._is_ours(row)
            user, ours, bound = str(row.get("username") or ""), self._url, self._bound[resource]
            path = url.path if is_sink else url.path.rstrip("/")  # that of a sink is used as it is
            doubled = "; Infinity appends /policy/v1 itself" * ("/policy/v1" in path)
            say("ok", f"points at this server: {url}", is_ours and path == wanted)
            say("error", f"{url} is for another host than {hosts}: see --url", not is_ours)
            say("error", f"{url} has another path than {wanted or '/'}{doubled}", path != wanted)
            more = not is_sink and (url.query_string or url.fragment)
            say("error", f"{url} has a query or a fragment, and Infinity appends a path", more)
            # In front of a server without a certificate, a proxy may have one.
            is_direct = self._is_proxied or self._files or url.scheme == "http"
            is_direct = is_direct or url.host == self._settings.server.host
            is_other = (url.scheme, url.port) != (ours.scheme, ours.port)
            text = f"{url} has another scheme or port than {ours.scheme}, port {ours.port}"
            say("error", text, is_ours, is_direct, is_other)
            say("error", "is disabled", False in (row.get("enabled"), row.get("enable")))
            say("error", "sends events here, without [events]", no_events)
            # Some versions return no user of an event sink.
            is_wrong = user not in users and (user or (not is_sink and "username" in row))
            text = f"its user is {user or 'not set'}, and not {', '.join(sorted(users))}"
            say("error", text, users, is_wrong)
            other = None if is_sink else self._settings.nodes.of(user)
            is_other = other not in (None, self._environment)
            text = f"its user {user} is one of [environments.{other}]"
            say("error", text, self._environment, is_other)
            is_unused = bound and addresses(resource, row).isdisjoint(chain(*bound))
            say("warning", "no location has it, so it is not used", is_unused)
            is_open = url.scheme == "https" and row.get("verify_tls_certificate") is False
            say("warning", "verify_tls_certificate is off", is_open)
            lost = ", ".join(one for one in PEOPLE if one not in str(row.get("events")))
            say("warning", f"does not send {lost}", lost and row.get("filter_events"))

    def _look_at_switches(self) -> None:
        for profile in self._ours[PROFILE]:
            asked = [kind for kind, (switch, _) in SWITCHES.items() if profile.get(switch)]
            say, kinds_of = partial(self._say, "profile", profile), self._kinds()
            say("ok" if asked else "error", f"asks for {', '.join(asked) or 'nothing'}")
            for kind, (switch, change) in SWITCHES.items():
                answering = [name for name, kinds in kinds_of.items() if kind in kinds]
                # One that is asked for others may have no answer for this.
                idle = sorted(one for one in answering if kinds_of[one].isdisjoint(asked))
                text = f"{switch} is off: {kind} is never asked of {', '.join(idle[:MAX_SHOWN])}"
                say("warning", text, idle, asked, switch in profile)
                text = f"{change} is on: Infinity may change our answers"
                say("warning", text, kind in asked, answering, profile.get(change))

    def _kinds(self) -> dict[str, set[str]]:
        """Return the requests that each plugin may answer, or each rule of one with rules."""
        found = dict[str, set[str]]()
        for plugin in self._policy.plugins:
            if plugin.table.mode == "decide" and plugin.table.is_asked_in(self._environment):
                kinds = {kind for kind in SWITCHES for hook in plugin.hooks if kind in hook}
                rules: Any = getattr(plugin.instance, "rule_summaries", tuple)()
                found |= {f"{plugin.name} ({one.name})": {*one.endpoints} for one in rules}
                found |= {} if rules else {plugin.name: kinds}
        return found

    def _look_at_locations(self) -> None:
        profiles, sinks = (addresses(one, rows) for one, rows in self._ours.items())
        sinks, nodes = sinks if self._settings.events else set(), self._objects["worker_vm"]
        locations = self._objects["system_location"]
        for location, asked, told in zip(locations, *self._bound.values(), strict=True):
            say = partial(self._say, "location", location, "warning")
            say("has no policy profile, so its nodes ask nothing", not asked)
            is_other = asked and asked.isdisjoint(profiles) and PROFILE not in self._refused
            say("has a policy profile that is not for this server", is_other)
            here = addresses("system_location", location)
            inside = [one for one in nodes if addresses("", one.get("system_location")) & here]
            # Proxying nodes send no events.
            only_forwards = {str(one.get("node_type")).upper() for one in inside} == {"PROXYING"}
            is_silent = sinks and told.isdisjoint(sinks) and not only_forwards
            say("has no event sink of this server", is_silent)
            say("has several event sinks of this server: events come twice", len(told & sinks) > 1)

    def _look_at_server(self) -> None:
        """Look at our certificate, and at the events that come."""
        if self._files is not None:
            say = partial(self._say, "certificate", self._files.certificate)
            for state, text, *_ in certificate_rows(self._files, self._source.settings.ca_file):
                say(state, text)
            urls = map(_url_of, filter(self._is_ours, chain(*self._ours.values())))
            for host in sorted({str(url.host) for url in urls if url.scheme == "https"}):
                text = f"is for {', '.join(self._certified) or 'no name'}, and not for {host}"
                say("error", text, not any(_matches(host, name) for name in self._certified))
        for state, text, *_ in event_rows(self._status):
            self._say("events", "server", state, text)
        for alarm in self._objects["alarm"] if self._settings.events else ():
            said = " ".join(str(alarm.get(key) or "") for key in ("identifier", "name", "details"))
            is_of_us, node = re.search("sink|policy", said.casefold()), alarm.get("node")
            self._say(
                "events", node or "alarm", "error", f"Infinity has an alarm: {said}", is_of_us
            )

    def _look_at_nodes(self) -> None:
        """Look for nodes whose calls are refused, or are of another environment."""
        access, nodes = self._settings.access, self._settings.nodes
        written = {*map(read_subnet, (*access.networks, *access.trusted_proxies))}
        admitted = Subnets((network, None) for network in written)
        # A user counts before an address does.
        has_user = any(nodes.of(str(one.get("username") or "")) for one in self._ours[PROFILE])
        for node in self._objects["worker_vm"]:
            say = partial(self._say, "node", node, "error")
            found = [one for key in ADDRESSES if isinstance(one := node.get(key), str) and one]
            shown = ", ".join(found)
            is_admitted = any(map(admitted.find, found)) or not access.networks
            say(f"{shown} is in none of [access] networks", found, not is_admitted)
            other = nodes.of(None, *found)
            where = f"of [environments.{other}]" if other else "of no environment"
            is_other = self._environment not in (None, other)
            say(f"calls of {shown} are {where}", found, not has_user, is_other)

    def _look_at_names(self) -> None:
        names, table = self._named, ".".join(self._named.table)
        for kind, one in self._source.listed_names().items():
            for name in sorted(names.declared.get(kind, frozenset()) - one.names):
                text = f"is in [{table}] {kind}, and Infinity does not have it"
                self._say("name", name, "error", text + did_you_mean(name, one.names))
        for unknown in names.unknown():
            text = f"{unknown.text}; in {', '.join(unknown.shown)}"
            text += ", ..." * (len(unknown.places) > len(unknown.shown))
            self._say("name", unknown.name, "error", text)
        ours = self._settings.infinity.min_pin_length
        for row in self._objects["global"][:1]:
            is_longer = isinstance(least := row.get("min_pin_length"), int) and least > ours
            text = f"is {least}, and {ours} under [infinity]"
            self._say("name", "min_pin_length", "warning", text, is_longer)

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
                    self._say("alias", rule, "warning", text)

    async def _look_at_rooms(self) -> None:
        """Ask our policy for each alias of Infinity; then compare the names of rooms."""
        others, rooms, kinds = set[Any](), self._objects["conference"], [SERVICE]
        if any(one.get(SWITCHES[PARTICIPANT][0]) for one in self._ours[PROFILE]):
            kinds.append(PARTICIPANT)
        for room, aliases in with_aliases(rooms, self._objects["conference_alias"]):
            answers = defaultdict[Any, list[str]](list)
            for alias, kind in product(sorted(aliases), kinds):
                outcome = await self._asked(kind, alias)
                # Other answers about participants keep no caller from a room.
                if outcome and (kind == SERVICE or outcome.decision.action == "reject"):
                    answers[_compared(room, outcome)].append(alias)
            for (check, text), ours in answers.items():
                self._say(check, room, "warning", f"{', '.join(dict.fromkeys(ours))}: {text}")
            others |= set() if answers else {str(room.get("name"))}
        for plugin, items in self._policy.static_decisions.items():
            for key, decision in items:
                name, place = decision.set_fields().get("name"), map(str, (plugin, *key))
                text = f"{'.'.join(place)} has this name, too: callers of both meet"
                self._say("room", name, "warning", text, name in others)

    async def _look_at_devices(self) -> None:
        what = {"registration_alias": "its registration", SERVICE: "calls to it"}
        for alias, kind in product((one.get("alias") for one in self._objects["device"]), what):
            if alias and (outcome := await self._asked(kind, str(alias))) is not None:
                text = f"{_by(outcome)} {what[kind]}, and not Infinity"
                self._say("alias", alias, "warning", text)

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
    async with policy.serving():
        made = [Check(policy, names, status, url) for names in named]
        found = [one for check in made for one in await check.findings()]
    return sorted(found, key=lambda one: [*STYLES].index(one.state), reverse=True)
