"""Import of maps of subnets: JSON with the longest prefix first."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from multidict import MultiDict

from pexpolicy import MediaLocationRequest, Outcome
from pexpolicy.builder import policy_from
from pexpolicy.cli.main import main
from pexpolicy.testing import decide

MAP = {
    "default_location": "Frankfurt",
    "default_overflow_locations": ["Oslo"],
    "mappings": [
        {"subnet": "10.1.2.3/16", "location": "Oslo", "overflow_locations": ["Bergen"]},
        {"subnet": "10.1.4.0/24", "location": "Bergen", "description": "Branch"},
        {"subnet": "10.1.0.0/16", "location": "Never"},
        {"subnet": "2001:db8::/32", "location": "Oslo", "overflow_locations": []},
    ],
}


def imported(file: Path, into: Path) -> Result:
    return CliRunner().invoke(main, ["import", "subnets", str(file), "--into", str(into)])


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def location(config: Path, address: str, protocol: str = "webrtc") -> Any:
    request = MediaLocationRequest(MultiDict(remote_address=address, protocol=protocol))

    async def asked() -> Outcome:
        async with policy_from(config).serving() as policy:
            return await decide(policy, request)

    fields = asyncio.run(asked()).decision.set_fields()
    return fields.get("location"), fields.get("overflow_locations")


@pytest.mark.parametrize("before", ["", "[plugins.locations.settings]\nsubnets = [\n]\n"])
def test_a_json_map_answers_as_its_server_did(tmp_path: Path, before: str) -> None:
    config = written(tmp_path, "config.toml", before)
    file = written(tmp_path, "subnet_map.json", json.dumps(MAP))
    result = imported(file, config)
    assert result.exit_code == 0, result.output
    assert "mappings[0]: 10.1.2.3/16 has host bits set: it is 10.1.0.0/16" in result.output
    assert "mappings[2]: 10.1.0.0/16 is left out: an earlier entry decides" in result.output
    assert result.output.endswith(f"{config}: 3 added\n")
    assert location(config, "10.1.9.9") == ("Oslo", ["Bergen"])
    assert location(config, "10.1.4.4") == ("Bergen", None)
    assert location(config, "2001:db8::1") == ("Oslo", None)
    assert location(config, "192.0.2.1") == ("Frankfurt", ["Oslo"])
    text = config.read_text()
    again = imported(file, config)
    assert again.output.endswith(f"{config}: 3 unchanged\n")
    assert config.read_text() == text


def test_an_update_keeps_comments_and_other_entries(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        "config.toml",
        "[plugins.locations.settings]\n"
        'default = "Here"  # ours\n\n'
        "[[plugins.locations.settings.subnets]]\n"
        'subnet = "10.1.4.0/24"  # the branch\nlocation = "Old"\n\n'
        "[[plugins.locations.settings.subnets]]\n"
        'subnet = "10.9.0.0/16"\nlocation = "Kept"\n',
    )
    result = imported(written(tmp_path, "map.json", json.dumps(MAP)), config)
    assert result.output.endswith("2 added, 1 changed, 1 kept though not in the file\n")
    text = config.read_text()
    assert "# the branch" in text
    assert 'default = "Here"  # ours' in text
    assert location(config, "10.1.4.4") == ("Bergen", None)
    assert location(config, "10.9.0.1") == ("Kept", None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not valid JSON"),
        ("[]", "has no list of mappings"),
        ('{"mappings": [{"subnet": "x", "location": "a"}]}', "'x' is not a subnet"),
        ('{"mappings": [{"subnet": "::/0"}]}', "location is no text, or empty"),
        (
            '{"mappings": [{"subnet": "::/0", "location": "a", "overflow_locations": "b"}]}',
            "overflow_locations is no list of texts, or empty",
        ),
        ('{"mappings": [{"subnet": "::/0", "location": ["a"]}]}', "location is no text"),
        ('{"mappings": []}', "has no subnets"),
    ],
)
def test_a_file_that_cannot_be_imported_changes_nothing(
    tmp_path: Path, text: str, problem: str
) -> None:
    result = imported(written(tmp_path, "map.json", text), tmp_path / "config.toml")
    assert result.exit_code == 65
    assert problem in result.output
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("subnets", ['"10.0.0.0/8"', "[5]"])
def test_a_configuration_of_another_form_is_not_touched(tmp_path: Path, subnets: str) -> None:
    text = f"[plugins.locations.settings]\nsubnets = {subnets}\n"
    config = written(tmp_path, "config.toml", text)
    result = imported(written(tmp_path, "map.json", json.dumps(MAP)), config)
    assert result.exit_code == 65
    assert "write each subnet below a line [[plugins.locations.settings.subnets]]" in result.output
    assert config.read_text() == text
