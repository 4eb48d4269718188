"""What a plugin answers: decisions, dictionaries, and everything else."""

import random
import types
from collections.abc import Callable
from typing import Any

from lab.generated_decisions.edge_cases import strange
from lab.generated_decisions.hostile_values import Table
from lab.generated_decisions.pictures import picture
from lab.generated_decisions.values import fields_of
from pexpolicy import (
    Avatar,
    Conference,
    Continue,
    Credentials,
    Decision,
    Directory,
    DirectoryEntry,
    MediaLocation,
    ParticipantProperties,
    Redirect,
    Reject,
)
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Model

MODELS: dict[str, tuple[type[Decision], ...]] = {
    "service_configuration": (*SERVICE_TYPES.values(), Redirect),
    "participant_properties": (ParticipantProperties, ParticipantProperties, Reject),
    "media_location": (MediaLocation,),
    "participant_avatar": (Avatar,),
    "directory_information": (Directory,),
    "registration_alias": (Credentials, Reject),
}
EVERY = tuple(dict.fromkeys(model for models in MODELS.values() for model in models))
RATES = (0.0, 0.0, 0.03, 0.15, 0.6)
"""How many fields of a decision are wrong."""


class Derived(Conference):
    """A decision class of a plugin's own."""

    action = "redirect"


def answer(rng: random.Random, endpoint: str) -> Any:
    """An answer to a request of this endpoint; may raise what building it raises."""
    chance = rng.random()
    if chance < 0.06:
        return strange(rng)
    if chance < 0.12:
        return _shared(rng, endpoint)
    model = rng.choice(EVERY if chance < 0.16 else MODELS[endpoint])
    if model is Avatar:
        image = strange(rng) if rng.random() < 0.1 else picture(rng)
        return Avatar(image, reason=_reason(rng)) if rng.random() < 0.7 else image
    fields = fields_of(rng, model, rng.choice(RATES))
    return rng.choice(FORMS)(rng, model, fields)


def _shared(rng: random.Random, endpoint: str) -> Any:
    """What every endpoint has in common."""
    model, reason = rng.choice(MODELS[endpoint]), _reason(rng)
    makers: tuple[Callable[[], Any], ...] = (
        lambda: Continue(reason=reason),
        lambda: Reject(reject_reason="No entry", reason=reason),
        lambda: model.__new__(model),
        lambda: Credentials.without_authentication(reason=reason),
        lambda: Derived(name="Room", service_tag="", reason=reason),
        lambda: {"status": "success", "action": "reject", "result": {}},
    )
    return rng.choice(makers)()


def _reason(rng: random.Random) -> Any:
    return strange(rng) if rng.random() < 0.3 else None


def _built(rng: random.Random, model: type[Decision], fields: dict[str, Any]) -> Any:
    return model(**fields, reason=_reason(rng))


def _from_result(_: random.Random, model: type[Decision], fields: dict[str, Any]) -> Any:
    return model.from_result(fields)


def _dictionary(rng: random.Random, model: type[Model], fields: dict[str, Any]) -> Any:
    if model in SERVICE_TYPES.values() and rng.random() < 0.95:
        fields = {"service_type": contract_of(model).constants["service_type"], **fields}
    if model is Directory and rng.random() < 0.5:
        return fields.get("entries")
    return fields


def _mapping(rng: random.Random, model: type[Model], fields: dict[str, Any]) -> Any:
    found = _dictionary(rng, model, fields)
    if type(found) is not dict:
        return found
    return rng.choice((types.MappingProxyType, Table, dict))(found)


def _changed_later(_: random.Random, model: type[Decision], fields: dict[str, Any]) -> Any:
    """A decision whose parts are changed when it was put together."""
    decision = model(**fields)
    for value in fields.values():
        if type(value) in (list, dict):
            value.clear()
    return decision


def _entries(rng: random.Random, model: type[Model], fields: dict[str, Any]) -> Any:
    if model is not Directory:
        return _dictionary(rng, model, fields)
    count = rng.choice((0, 3, 10, 11))
    return [DirectoryEntry(alias=f"a{n}", description="x") for n in range(count)]


FORMS: tuple[Callable[[random.Random, Any, dict[str, Any]], Any], ...] = (
    *(_built, _built, _from_result, _dictionary, _dictionary, _mapping, _changed_later, _entries),
)
