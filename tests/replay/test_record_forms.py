"""Forms of records: each is found by itself, whatever its compression, and counted exactly."""

import gzip
import html
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_main import invoked
from tests.replay import audits
from tests.support import live_server

ENGINEERING = "/policy/v1/service/configuration?local_alias=engineering&call_direction=dial_in"
AVATAR = "/policy/v1/participant/avatar/alice%40example.com?width=40&height=40"
SUPPORT = (
    '2026-11-20T12:00:00.123+00:00 node1 2026-11-20 12:00:00,123 Level="INFO" '
    'Name="support.externalpolicy" Message="External policy request" Method="GET" '
    'URL="https://policy.example.com{}" Timeout="5" Request-Id="2fe46e75"'
)
OTHER = (
    '2026-11-20T12:00:00.123+00:00 node1 2026-11-20 12:00:00,123 Level="INFO" '
    'Name="administrator.conference" Message="Participant attempting to join conference."'
)
COMMON = '10.0.0.7 - pexip [20/Nov/2026:12:00:00 +0000] "GET {} HTTP/1.1" 200 321'
HAPROXY = (
    "Nov 20 12:00:00 lb haproxy[7]: 10.0.0.7:40000 [20/Nov/2026:12:00:00.123] policy policy/a "
    '0/0/1/2/3 200 321 - - ---- 1/1/0/0/0 0/0 "GET {} HTTP/1.1"'
)
JSON_LINE = '{{"time": "2026-11-20T12:00:00Z", "status": 200, "request": "GET {} HTTP/1.1"}}'

FORMS = {
    "support log": SUPPORT,
    "support log of syslog": "<134>Nov 20 12:00:00 node1 " + SUPPORT,
    "common": COMMON,
    "combined": COMMON + ' "-" "Infinity/39"',
    "HAProxy": HAPROXY,
    "JSON": JSON_LINE,
    "JSON with a path": JSON_LINE.replace("request", "path"),
    "URLs": "{}",
    "whole URLs": "https://policy.example.com/base{}",
}


def replayed(*records: Path, code: int = 0) -> Any:
    return audits.replayed(*records, "--config", live_server.SHIPPED, code=code)


def counts(found: Any) -> tuple[int, ...]:
    return tuple(found["records"].values())


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_found_by_itself(tmp_path: Path, form: str) -> None:
    path = tmp_path / "records"
    path.write_text("".join(FORMS[form].format(u) + "\n" for u in (ENGINEERING, AVATAR)))
    found = replayed(path)
    assert counts(found) == (2, 0, 0, 0)
    assert found["not_compared"] == 2
    assert [row["endpoint"] for row in found["matrix"]] == [
        "participant_avatar",
        "service_configuration",
    ]
    if "URLs" not in form:
        # HAProxy writes the time of its machine without a zone; it is read as that of this one.
        noon = datetime(2026, 11, 20, 12, tzinfo=None if form == "HAProxy" else UTC)
        assert found["first"].startswith(noon.astimezone(UTC).isoformat()[:19])


def test_a_page_of_the_support_log_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    lines = [html.escape(SUPPORT.format(ENGINEERING)), html.escape(OTHER)]
    path.write_text("<pre>\n" + "<br>\n".join(lines) + "</pre>\n")
    assert counts(replayed(path)) == (1, 0, 0, 0)


@pytest.mark.parametrize("members", [1, 2])
def test_a_file_may_be_compressed(tmp_path: Path, members: int) -> None:
    path = tmp_path / "support.log"
    member = gzip.compress(f"{OTHER}\n{SUPPORT.format(ENGINEERING)}\n".encode())
    path.write_bytes(member * members)
    assert replayed(path)["records"]["exact"] == members


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    (tmp_path / "node1").mkdir()
    (tmp_path / "node1" / "support_log").write_text(SUPPORT.format(ENGINEERING))
    (tmp_path / "urls").write_text(f"# two calls\n{ENGINEERING}\n\n{AVATAR}\n")
    assert counts(replayed(tmp_path)) == (3, 0, 0, 0)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (HAPROXY.format(ENGINEERING + "x" * 900)[:900], "not_replayable"),
        (SUPPORT.format(ENGINEERING)[:260], "not_replayable"),
        (html.escape(SUPPORT.format(ENGINEERING))[:300], "not_replayable"),
        (COMMON.format("/healthz"), "not_replayable"),
        (COMMON[:56] + '"\\x16\\x03\\x01\\"q\\x05" 400 157', "not_replayable"),
        (COMMON[:56] + '"-" 408 0 "-" "-"', "not_replayable"),
        (HAPROXY.partition('"')[0] + '"<BADREQ>"', "not_replayable"),
        (COMMON.format("/policy/v1/participant/audioavatar/a"), "not_replayable"),
        (COMMON.format(ENGINEERING).replace("20/Nov/2026:12:00:00 +0000", "-"), "exact"),
        ('{"event": "decision", "timestamp": "2026', "unreadable"),
        ("\x00\x01\x02", "unreadable"),
    ],
)
def test_each_record_has_its_class(tmp_path: Path, line: str, kind: str) -> None:
    path = tmp_path / "records"
    path.write_text(f"{COMMON.format(ENGINEERING)}\n{line}\n")
    found = replayed(path, code=2 if kind == "unreadable" else 0)
    expected = {"exact": 1, "partial": 0, "not_replayable": 0, "unreadable": 0}
    expected[kind] += 1
    assert found["records"] == expected


@pytest.mark.parametrize(("count", "cut", "least"), [(5_000, 2_000, 1_000), (50, 8, 50)])
def test_what_precedes_the_end_of_a_cut_file_is_replayed(
    tmp_path: Path, count: int, cut: int, least: int
) -> None:
    path = tmp_path / "support.log.gz"
    lines = "".join(SUPPORT.format(f"{ENGINEERING}&call_tag={n}") + "\n" for n in range(count))
    path.write_bytes(gzip.compress(lines.encode())[:-cut])
    found = replayed(path, code=2)
    assert found["records"]["exact"] >= least
    assert found["records"]["unreadable"] == 1
    assert "end" in found["unreadable"][0]["reason"]


def test_a_line_that_is_too_long_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "urls"
    path.write_text(f"{ENGINEERING}&call_tag={'x' * (5 << 20)}\n{ENGINEERING}\n")
    found = replayed(path, code=2)
    assert counts(found) == (1, 0, 0, 1)
    assert found["unreadable"][0]["place"] == f"{path}:1"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"request": {"local_alias": 5}}, "unreadable"),
        ({"request": "x"}, "unreadable"),
        ({"timestamp": "9999-99-20T06:00:00Z", "request": {}}, "unreadable"),
        ({"endpoint": "participant_avatar", "request": {"alias": ["a", "b"]}}, "not_replayable"),
        ({"endpoint": "nothing", "request": {}}, "not_replayable"),
        ({"request": {}, "redaction_error": "KeyError"}, "not_replayable"),
        ({"event": "refused", "reason": "unknown path", "path": "/a"}, "not_replayable"),
        ({"request": {"local_alias": "a"}, "sent": {"name": 1}}, "exact"),
    ],
)
def test_a_changed_audit_line_ends_no_replay(
    tmp_path: Path, line: dict[str, Any], kind: str
) -> None:
    whole = {
        "timestamp": "2026-11-20T06:00:00Z",
        "event": "decision",
        "endpoint": "service_configuration",
    }
    path = tmp_path / "audit.jsonl"
    path.write_text(json.dumps({**whole, **line}) + "\n")
    done = invoked("replay", str(path), "--config", str(live_server.SHIPPED), "--json")
    assert json.loads(done.stdout)["records"][kind] == 1
