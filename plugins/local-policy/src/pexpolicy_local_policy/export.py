"""The rules and locations of a configuration as a local policy script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pexpolicy import Continue, Decision, MediaLocation
from pexpolicy.matching import Condition
from pexpolicy.testing import Policy
from pexpolicy_local_policy.export_conditions import Expressions, networks
from pexpolicy_local_policy.export_patterns import NotExportedError, text_literal
from pexpolicy_local_policy.node_policy import SUGGESTED
from pexpolicy_local_policy.sandbox import MAX_SCRIPT_LENGTH
from pexpolicy_local_policy.variables import ENDPOINT_OF, Kind


class ExportError(Exception):
    """A configuration that does not fit into a script, with all ``problems``."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Step(NamedTuple):
    """One ``if`` of the script; without a decision, what follows its plugin decides."""

    name: str
    condition: str
    decision: Decision | None


def export(policy: Policy, kind: Kind) -> str:
    """Return the script of one kind that decides as a policy; raises ``ExportError``."""
    return _Export(policy, kind).script()


class _Export:
    def __init__(self, policy: Policy, kind: Kind) -> None:
        self._policy = policy
        self._kind = kind
        self._endpoint = ENDPOINT_OF[kind]
        self._expressions = Expressions(kind)
        self._problems: list[str] = []

    def script(self) -> str:
        chain = self._policy.chains[self._endpoint]
        table = self._policy.settings.endpoints.get(self._endpoint)
        if table is not None and table.combine == "merge":
            self._problems.append(f"endpoints.{self._endpoint}: a script cannot merge answers")
        instances = {plugin.name: plugin.instance for plugin in self._policy.plugins}
        groups: list[list[_Step]] = []
        for link in chain.links:
            if link.hook not in ("", self._endpoint):
                text = f"{link.plugin}: it adjusts the decisions of others"
                self._problems.append(text)
            else:
                groups.append(list(self._steps(link.plugin, instances.get(link.plugin))))
        body = "" if self._problems else self._chain(groups, chain.default)
        lines = [
            "{# Made by pexpolicy local-policy export: change the configuration and export it. #}",
            *self._expressions.preamble.values(),
            "{",
            body,
            "}",
        ]
        made = "\n".join(lines) + "\n"
        if not self._problems and len(made) > MAX_SCRIPT_LENGTH:
            most = f"Infinity stores {MAX_SCRIPT_LENGTH:,}"
            self._problems.append(f"the script has {len(made):,} characters, and {most}")
        if self._problems:
            raise ExportError(self._problems)
        return made

    def _steps(self, plugin: str, instance: object) -> Iterator[_Step]:
        rules = getattr(instance, "compiled_rules", None)
        locations = getattr(instance, "listed_locations", None)
        if rules is not None:
            for name, condition, answer in rules(self._endpoint):
                try:
                    yield self._rule(name, condition, answer)
                except NotExportedError as error:
                    self._problems.append(f"rule {name!r}: {error}")
        elif locations is not None and self._kind == "media_location":
            try:
                yield from self._locations(locations())
            except NotExportedError as error:
                self._problems.append(f"{plugin}: {error}")
        else:
            self._problems.append(f"{plugin}: it answers too, and only rules and locations fit")

    def _rule(self, name: str, condition: Condition, answer: Any) -> _Step:
        if answer.is_dynamic:
            raise NotExportedError("its answer has placeholders")
        return _Step(f"rule {name}", self._expressions.of(condition), answer.fixed)

    def _locations(self, listed: Any) -> Iterator[_Step]:
        for source in listed.sources:
            if source not in ("remote_address", "proxy_node_address"):
                raise NotExportedError(f"addresses: {source} is not one value of the call")
        if listed.has_countries:
            raise NotExportedError("geoip: a script knows no countries")
        for source in listed.sources:
            address = f'call_info.{source}|default("", true)'
            for subnets, choice in listed.rows:
                parts = [f"pex_in_subnet({address}, [{networks(subnets)}])"]
                for key, values in (
                    ("protocol", choice.protocols),
                    ("location", choice.node_locations),
                ):
                    if values:
                        listed_values = ", ".join(map(text_literal, sorted(values)))
                        parts.append(f"call_info.{key} in [{listed_values}]")
                yield _Step("", " and ".join(parts), choice.decision)
        if listed.default is not None:
            yield _Step("", "true", listed.default)

    def _chain(self, groups: Sequence[Sequence[_Step]], default: Decision) -> str:
        """Return the branches of the first plugin, then of those that follow it."""
        if not groups:
            return self._output(default)
        first, *following = groups
        rest = self._chain(following, default)
        lines = []
        for number, step in enumerate(first):
            comment = f" {{# {_comment(step.name)} #}}" if step.name else ""
            lines.append(f"{{% {'elif' if number else 'if'} {step.condition} %}}{comment}")
            lines.append(rest if step.decision is None else self._output(step.decision))
        if not first:
            return rest
        return "\n".join((*lines, "{% else %}", rest, "{% endif %}"))

    def _output(self, decision: Decision) -> str:
        """Return what a script prints for a decision."""
        if isinstance(decision, Continue):
            return _KEPT[self._kind]
        result = json.loads(decision.result or b"{}")
        if isinstance(decision, MediaLocation):
            return f'"result": {_json(result)}'
        return f'"action": "{decision.action}", "result": {_json(result)}'


_KEPT: dict[Kind, str] = {
    "service": """{% if service_config %}
"action": "continue", "result": {{ service_config|pex_to_json }}
{% else %}
"action": "reject", "result": {}
{% endif %}""",
    "participant": '"action": "continue", "result": {}',
    "media_location": f'"result": {{{{ {SUGGESTED}|pex_to_json }}}}',
}
"""What leaves the decision to Infinity."""


def _json(value: Any) -> str:
    """Return JSON without what begins a part of the script's language."""
    text = json.dumps(value)
    for mark in ("{{", "{%", "{#"):
        text = text.replace(mark, "".join(f"\\u{ord(letter):04x}" for letter in mark))
    return text


def _comment(text: str) -> str:
    return "".join(letter for letter in text if letter not in "{#%}" and letter.isprintable())
