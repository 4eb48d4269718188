"""The ceilings of ``tests/ceilings.toml``: the weight of the sources, and what is to be learned."""

import re
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import click
import pytest
from pydantic import BaseModel

from pexpolicy import Decision, Request, api
from pexpolicy.cli.main import main
from pexpolicy.config.schema.plugins import ObjectLists
from pexpolicy.config.settings import Document
from tests.support import weight
from tests.support.paths import ROOT

CEILINGS = weight.ceilings()
rooms = cache(weight.weigh)


def excess(found: weight.Weight, limits: dict[str, int]) -> dict[str, int]:
    """Return the measures that are above their ceiling."""
    found_by_name = {name: getattr(found, name) for name in limits}
    return {name: number for name, number in found_by_name.items() if number > limits[name]}


@pytest.mark.parametrize("name", CEILINGS["totals"])
def test_a_total_is_below_its_ceiling(name: str) -> None:
    assert excess(weight.totals(rooms())[name], CEILINGS["totals"][name]) == {}


def test_each_room_has_a_ceiling_and_is_below_it() -> None:
    limits, found = CEILINGS["rooms"], rooms()
    above = {name: excess(found[name], limits[name]) for name in found.keys() & limits.keys()}
    assert {name: measures for name, measures in above.items() if measures} == {}
    assert not limits or found.keys() - {"tests"} == limits.keys()


def keys_of(model: type[BaseModel]) -> int:
    """Count the keys of a table, with those of the tables in it."""
    inner = [[*models_in(field.annotation)] for field in model.model_fields.values()]
    return sum(sum(map(keys_of, models)) if models else 1 for models in inner)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    # The keys of an environment's own lists are those of [infinity].
    is_table = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if is_table and annotation is not ObjectLists:
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def options_of(command: click.Command, context: click.Context) -> int:
    """Count the options of a command and of the commands in it, those of packages included."""
    count = sum(isinstance(parameter, click.Option) for parameter in command.params)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            count += options_of(inner, click.Context(inner, context, name))
    return count


def public(members: type) -> int:
    return sum(not name.startswith("_") for name in dir(members))


def counted() -> dict[str, int]:
    makefile = (ROOT / "Makefile").read_text()
    return {
        "lines of CHANGELOG.md": len((ROOT / "CHANGELOG.md").read_text().splitlines()),
        "lines of Makefile": len(makefile.splitlines()),
        "targets of Makefile": len(re.findall(r"(?m)^[a-z-]+:", makefile)),
        "configuration keys": keys_of(Document),
        "options of commands": options_of(main, click.Context(main, info_name="pexpolicy")),
        "public names": len(api.__all__),
        "attributes of Decision": public(Decision),
        "attributes of Request": public(Request),
    }


def test_there_are_few_names_to_learn() -> None:
    limits = CEILINGS["counts"]
    above = {name: number for name, number in counted().items() if number > limits[name]}
    assert above == {}
