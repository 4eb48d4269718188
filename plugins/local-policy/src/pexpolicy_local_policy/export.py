"""The rules and locations of a configuration as a local policy script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pexpolicy import Continue, Decision, MediaLocation
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
    endpoint, expressions = ENDPOINT_OF[kind], Expressions(kind)
    chain, table = policy.chains[endpoint], policy.settings.endpoints.get(endpoint)
    instances = {plugin.name: plugin.instance for plugin in policy.plugins}
    problems: list[str] = []
    if table is not None and table.combine == "merge":
        problems.append(f"endpoints.{endpoint}: a script cannot merge answers")
    groups: list[list[_Step]] = []
    for link in chain.links:
        instance = instances.get(link.plugin)
        if link.hook not in ("", endpoint):
            problems.append(f"{link.plugin}: it adjusts the decisions of others")
        elif hasattr(instance, "compiled_rules"):
            groups.append(list(_rules(instance, endpoint, expressions, problems)))
        elif hasattr(instance, "listed_locations") and kind == "media_location":
            groups.append(list(_locations(link.plugin, instance.listed_locations(), problems)))
        else:
            problems.append(f"{link.plugin}: it answers too, and only rules and locations fit")
    if problems:
        raise ExportError(problems)
    body = _output(kind, chain.default)
    for steps in reversed(groups):
        body = _branches(kind, steps, body)
    head = "{# Made by pexpolicy local-policy export: change the configuration and export it. #}"
    made = "\n".join((head, *expressions.preamble.values(), "{", body, "}")) + "\n"
    if len(made) > MAX_SCRIPT_LENGTH:
        most = f"Infinity stores {MAX_SCRIPT_LENGTH:,}"
        raise ExportError([f"the script has {len(made):,} characters, and {most}"])
    return made


def _rules(
    plugin: Any, endpoint: str, expressions: Expressions, problems: list[str]
) -> Iterator[_Step]:
    for name, condition, answer in plugin.compiled_rules(endpoint):
        if answer.is_dynamic:
            problems.append(f"rule {name!r}: its answer has placeholders")
            continue
        try:
            yield _Step(f"rule {name}", expressions.of(condition), answer.fixed)
        except NotExportedError as error:
            problems.append(f"rule {name!r}: {error}")


def _locations(plugin: str, listed: Any, problems: list[str]) -> Iterator[_Step]:
    if listed.has_countries:
        problems.append(f"{plugin}: geoip: a script knows no countries")
    for source in listed.sources:
        if source not in ("remote_address", "proxy_node_address"):
            text = f"{plugin}: addresses: {source} is not one value of the call"
            problems.append(text)
        for subnets, choice in listed.rows:
            try:
                found = networks(subnets)
            except NotExportedError as error:
                problems.append(f"{plugin}: {error}")
                continue
            condition = f'pex_in_subnet(call_info.{source}|default("", true), [{found}])'
            for key, values in (
                ("protocol", choice.protocols),
                ("location", choice.node_locations),
            ):
                if values:
                    written = ", ".join(map(text_literal, sorted(values)))
                    condition += f" and call_info.{key} in [{written}]"
            yield _Step("", condition, choice.decision)
    if listed.default is not None:
        yield _Step("", "true", listed.default)


def _branches(kind: Kind, steps: Sequence[_Step], rest: str) -> str:
    """Return the branches of one plugin; ``rest`` is what those that follow it decide."""
    if not steps:
        return rest
    lines = []
    for number, step in enumerate(steps):
        comment = f" {{# {_comment(step.name)} #}}" if step.name else ""
        lines.append(f"{{% {'elif' if number else 'if'} {step.condition} %}}{comment}")
        lines.append(rest if step.decision is None else _output(kind, step.decision))
    return "\n".join((*lines, "{% else %}", rest, "{% endif %}"))


def _output(kind: Kind, decision: Decision) -> str:
    """Return what a script prints for a decision."""
    if isinstance(decision, Continue):
        return _KEPT[kind]
    result = json.dumps(json.loads(decision.result or b"{}"))
    for mark in ("{{", "{%", "{#"):  # they begin a part of the script's language
        result = result.replace(mark, "".join(f"\\u{ord(letter):04x}" for letter in mark))
    if isinstance(decision, MediaLocation):
        return f'"result": {result}'
    return f'"action": "{decision.action}", "result": {result}'


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


def _comment(text: str) -> str:
    return "".join(letter for letter in text if letter not in "{#%}" and letter.isprintable())
