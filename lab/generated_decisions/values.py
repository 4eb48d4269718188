"""Values that fit a field, made from its type, so that most decisions get past the first check."""

import random
import types
from typing import Annotated, Any, Literal, get_args, get_origin

from lab.generated_decisions.edge_cases import strange
from pexpolicy.models.contract import alternatives, contract_of
from pexpolicy.models.decision import Model

PINS = (
    *("1234", "0000", "56789", "0123#", "12345#", "1" * 20, "1" * 19 + "#"),
    *("", "12", "12ab", "1234\n", "\uff11\uff12\uff13\uff14"),
)
UUID = "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc"
UUIDS = (
    *(UUID, "4A6F2F3E-5D0F-4C1E-9A57-0D8F6C2B7E11", UUID + "\n", UUID.replace("-", "")),
    "{e4e1bd9-7439-4c53-8ca2-6ef1a8e34cf}",
)
LAYOUTS = ("one_main_seven_pips", "five_mains_seven_pips", "teams", "nine_equal")
WORDS = ("Room", "room-12", "x" * 250, "meet.bob_breakout_1", "London", "a.b.c", "a..b", "")
BY_NAME = {
    "pin": PINS,
    "guest_pin": PINS,
    "breakout_uuid": UUIDS,
    "view": LAYOUTS,
    "host_view": LAYOUTS,
    "guest_view": LAYOUTS,
    "name": ("Room", "meet.bob", "a_breakout_b", "x" * 250),
    "new_alias": ("sip:a@b", "sips:a@b", "a@b", ":a", "1:a", "sip:", "tel:+47"),
    "mix_name": ("main", "a.b.c", "a.b.c.d", "a..b", ".a", "a.\n.b"),
}
COMPLETIONS: tuple[Any, ...] = (
    *({}, {"disconnect": True}, {"disconnect": False}, {"transfer": {}}),
    *(
        {"transfer": {"conference": "x", **role}}
        for role in ({}, {"role": "auto"}, {"role": "boss"})
    ),
    {"disconnect": True, "transfer": {"conference": "x"}},
    *('{"disconnect": true}', '{"disconnect": 1}', "nothing", "[]"),
    '{"transfer": {"conference": "x", "role": "guest"}}',
)


def fields_of(rng: random.Random, model: type[Model], wrong: float) -> dict[str, Any]:
    """Fields for a model: the required ones mostly, some of the others, each wrong by a chance."""
    required = [n for n, default in contract_of(model).defaults.items() if default is ...]
    others = [n for n in contract_of(model).hints if n not in required and n != "service_type"]
    chosen = [n for n in required if rng.random() > wrong / 4]
    chosen += rng.sample(others, rng.randrange(min(len(others), 9) + 1))
    fields = {name: value_of(rng, name, contract_of(model).hints[name], wrong) for name in chosen}
    if fields.get("breakout") is True and rng.random() < 0.7:
        fields |= {"breakout_uuid": UUID, "breakout_name": "Design"}
    if rng.random() < wrong / 3:
        name = rng.choice(("foo", "pni", "x" * 300, "", "\ud800", "status", "reject"))
        fields[name] = strange(rng)
    return fields


def value_of(rng: random.Random, name: str, hint: Any, wrong: float) -> Any:
    """A value for a field: wrong by a chance, else one that its type allows."""
    if rng.random() < wrong:
        return strange(rng)
    if name == "on_completion":
        return rng.choice(COMPLETIONS)
    if name in BY_NAME:
        return rng.choice(BY_NAME[name])
    if name == "breakout_uuids":
        return [rng.choice(UUIDS) for _ in range(rng.randrange(3))]
    return _fitting(rng, name, rng.choice(alternatives(hint)), wrong)


def _fitting(  # noqa: PLR0911 - a table of types
    rng: random.Random, name: str, kind: Any, wrong: float
) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        return rng.choice(get_args(kind))
    if origin is list:
        item = get_args(kind)[0]
        return [value_of(rng, f"{name}[]", item, wrong) for _ in range(rng.randrange(4))]
    if origin is dict:
        return {"key": strange(rng)} if wrong else {}
    if origin is Annotated:
        base, meta = get_args(kind)[:2]
        if base is int:
            low = meta.ge or 0
            return rng.choice((low, meta.le or low + 7))
        return rng.choice(WORDS)
    if kind is bool:
        return rng.random() < 0.5
    if kind is int:
        return rng.choice((0, 1, 3, -2, 1_700_000_000))
    if kind is types.NoneType:
        return None
    fields = fields_of(rng, kind, wrong)
    return fields if rng.random() < 0.5 else kind(**fields)
