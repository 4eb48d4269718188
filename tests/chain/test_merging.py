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
        "role=Decides:role names=Decides:name",
        "role decided",
        participant=True,
        by="role",
        sent={"spotlight": 1, "remote_display_name": None},
    ),
    row(
        "merge asks all, and the first value of a field wins",
        "role=Decides:role names=Decides:name",
        "role decided, names decided",
        **MERGED,
        sent=BOTH,
        fields={"role": ROLE_FIELDS, "names": ["remote_display_name"]},
    ),
    row(
        "the priority says which value is the first",
        "role=Decides:role+20 names=Decides:name+10",
        "names decided, role decided",
        **{**MERGED, "by": "names"},
        sent={**BOTH, "spotlight": 2},
        fields={"names": ["remote_display_name", "spotlight"], "role": ["preauthenticated_role"]},
    ),
    row(
        "a dictionary is merged, and a plugin that abstains or continues gives nothing",
        "ours=Decides:continue none=Decides:abstain role=Decides:role tags=Decides:table",
        "ours decided, none abstained, role decided, tags decided",
        **MERGED,
        sent={"preauthenticated_role": "chair", "call_tag": "vip"},
        fields={"ours": [], "role": ROLE_FIELDS, "tags": ["call_tag"]},
    ),
    row(
        "a continue alone is a continue",
        "ours=Decides:continue none=Decides:abstain",
        "ours decided, none abstained",
        **{**MERGED, "by": "ours"},
        reason="not ours",
    ),
    row(
        "a plugin whose fields are all given already gives none",
        "role=Decides:role again=Decides:role",
        "role decided, again decided",
        **MERGED,
        sent={"spotlight": 1},
        fields={"role": ROLE_FIELDS, "again": []},
    ),
    row(
        "no plugin decides: the default",
        "a=Decides:abstain b=Decides:abstain",
        "a abstained, b abstained",
        **{**MERGED, "by": "default"},
    ),
    row(
        "any reject ends it",
        "role=Decides:role stops=Decides:reject names=Decides:name",
        "role decided, stops decided",
        **{**MERGED, "by": "stops"},
        action="reject",
        reason="closed",
    ),
    row(
        "a plugin that fails is left out",
        "role=Decides:role bad=Decides:fail names=Decides:name",
        "role decided, bad failed, names decided",
        **MERGED,
        sent=BOTH,
        detail="no database",
    ),
    row(
        "a plugin that is late and has on_error = reject rejects",
        "role=Decides:role bad=Decides:late+brief+strict",
        "role decided, bad timed_out",
        **{**MERGED, "by": "bad"},
        action="reject",
        reason="bad was late, and its on_error is reject",
        detail="no answer",
    ),
    row(
        "an invalid part is left out",
        "role=Decides:role bad=Decides:nonsense names=Decides:name",
        "role decided, bad invalid, names decided",
        **MERGED,
        sent=BOTH,
        detail="is not a decision of participant_properties",
    ),
    row(
        "parts from processes are merged",
        "role=Decides:role+process names=Decides:name+process",
        "role decided, names decided",
        **MERGED,
        sent=BOTH,
        fields={"role": ROLE_FIELDS, "names": ["remote_display_name"]},
    ),
    row(
        "a merged decision is adjusted",
        "role=Decides:role names=Decides:name a=Adjusts:rename",
        "role decided, names decided, a adjusted",
        **MERGED,
        sent={**BOTH, "remote_display_name": "Guest"},
        changes={"a": {"remote_display_name": {"from": "Dana", "to": "Guest"}}},
    ),
    row(
        "a reject among merged decisions stays",
        "role=Decides:role stops=Decides:reject a=Adjusts:leave",
        "role decided, stops decided, a invalid",
        **{**MERGED, "by": "stops"},
        action="reject",
        reason="closed",
        detail="may_admit",
    ),
    row(
        "a shadow would give another field",
        "role=Decides:role names=Decides:name+shadow",
        "role decided",
        **MERGED,
        sent={"spotlight": 1},
        shadow={"differs": True, "decided_by": "names"},
    ),
    row(
        "a shadow would give nothing new",
        "role=Decides:role same=Decides:role+shadow",
        "role decided",
        **MERGED,
        sent={"spotlight": 1},
        shadow={"differs": False, "decided_by": "same"},
    ),
]


@pytest.mark.parametrize(("row", "instead"), cases(*MERGES))
async def test_on_the_wire(serving: Serve, row: Row, instead: dict[str, str]) -> None:
    await check(serving, row, instead)
