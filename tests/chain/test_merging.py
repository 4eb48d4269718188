"""Merging on the wire: whose values are sent, and what the audit line says."""

import pytest

from tests.support.adjusting_rows import Row, Table, cases, check, row
from tests.support.fake_plugins import Serve

MERGED: Table = {"participant": True, "merge": True, "by": "role"}
BOTH = {"preauthenticated_role": "chair", "spotlight": 1, "remote_display_name": "Dana"}
ROLE_FIELDS = ["preauthenticated_role", "spotlight"]
MERGES = [
    row(
        "without combine the first decision is the reply",
        "role=role names=name -> role decided",
        participant=True,
        by="role",
        sent={"spotlight": 1, "remote_display_name": None},
    ),
    row(
        "merge asks all, and the first value of a field wins",
        "role=role names=name -> role decided, names decided",
        **MERGED,
        sent=BOTH,
        fields={"role": ROLE_FIELDS, "names": ["remote_display_name"]},
    ),
    row(
        "the priority says which value is the first",
        "role=role+20 names=name+10 -> names decided, role decided",
        **{**MERGED, "by": "names"},
        sent={**BOTH, "spotlight": 2},
        fields={"names": ["remote_display_name", "spotlight"], "role": ["preauthenticated_role"]},
    ),
    row(
        "a dictionary is merged, and a plugin that abstains or continues gives nothing",
        "a=continue b=abstain role=role c=table -> a decided, b abstained, role decided, c decided",
        **MERGED,
        sent={"preauthenticated_role": "chair", "call_tag": "vip"},
        fields={"a": [], "role": ROLE_FIELDS, "c": ["call_tag"]},
    ),
    row(
        "a continue alone is a continue",
        "ours=continue none=abstain -> ours decided, none abstained",
        **{**MERGED, "by": "ours"},
        reason="not ours",
    ),
    row(
        "a plugin whose fields are all given already gives none",
        "role=role again=role -> role decided, again decided",
        **MERGED,
        sent={"spotlight": 1},
        fields={"role": ROLE_FIELDS, "again": []},
    ),
    row(
        "no plugin decides: the default",
        "a=abstain b=abstain -> a abstained, b abstained",
        **{**MERGED, "by": "default"},
    ),
    row(
        "any reject ends it",
        "role=role stops=reject names=name -> role decided, stops decided",
        **{**MERGED, "by": "stops"},
        action="reject",
        reason="closed",
    ),
    row(
        "a plugin that fails is left out",
        "role=role bad=fail names=name -> role decided, bad failed, names decided",
        **MERGED,
        sent=BOTH,
        detail="no database",
    ),
    row(
        "a plugin that is late and has on_error = reject rejects",
        "role=role bad=late+brief+strict -> role decided, bad timed_out",
        **{**MERGED, "by": "bad"},
        action="reject",
        reason="bad was late, and its on_error is reject",
        detail="no answer",
    ),
    row(
        "an invalid part is left out",
        "role=role bad=nonsense names=name -> role decided, bad invalid, names decided",
        **MERGED,
        sent=BOTH,
        detail="is not a decision of participant_properties",
    ),
    row(
        "parts from processes are merged",
        "role=role+process names=name+process -> role decided, names decided",
        **MERGED,
        sent=BOTH,
        fields={"role": ROLE_FIELDS, "names": ["remote_display_name"]},
    ),
    row(
        "a merged decision is adjusted",
        "role=role names=name a~rename -> role decided, names decided, a adjusted",
        **MERGED,
        sent={**BOTH, "remote_display_name": "Guest"},
        changes={"a": {"remote_display_name": {"from": "Dana", "to": "Guest"}}},
    ),
    row(
        "a reject among merged decisions stays",
        "role=role stops=reject a~leave -> role decided, stops decided, a invalid",
        **{**MERGED, "by": "stops"},
        action="reject",
        reason="closed",
        detail="may_admit",
    ),
    row(
        "a shadow would give another field",
        "role=role names=name+shadow -> role decided",
        **MERGED,
        sent={"spotlight": 1},
        shadow={"differs": True, "decided_by": "names"},
    ),
    row(
        "a shadow would give nothing new",
        "role=role same=role+shadow -> role decided",
        **MERGED,
        sent={"spotlight": 1},
        shadow={"differs": False, "decided_by": "same"},
    ),
]


@pytest.mark.parametrize(("row", "instead"), cases(*MERGES))
async def test_on_the_wire(serving: Serve, row: Row, instead: dict[str, str]) -> None:
    await check(serving, row, instead)
