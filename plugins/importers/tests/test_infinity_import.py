"""``pexpolicy import infinity``: rooms of Infinity that the plugin rooms reads."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from pexpolicy.testing import ManagementApi, decide_sync, make_request

CONFIG = """
[sources.mgr]
driver = "infinity"
url = "{url}"
user = "reader"
password_file = "password"
[infinity]
source = "mgr"
"""


def platform() -> ManagementApi:
    api = ManagementApi()
    (theme,) = api.add("ivr_theme", {"name": "Acme"})
    api.add("identity_provider_group", {"name": "Staff"})
    room, reception, _, safe, odd = api.add(
        "conference",
        {"name": "Clinic", "service_type": "conference", "tag": "t=acme", "pin": "0482",
         "guest_pin": "", "allow_guests": True, "max_callrate_in": 1024, "ivr_theme": theme,
         "host_view": "one_main_seven_pips",
         "participant_limit": None},
        {"name": "Hall", "service_type": "two_stage_dialing", "tag": ""},
        {"name": "Bare", "service_type": "conference"},
        {"name": "Safe", "host_identity_provider_group": "/gone/"},
        {"name": "Odd", "pin": "12ab"},
    )  # fmt: skip
    aliases = {
        "clinic@example.com": room,
        "2301": room,
        "hall": reception,
        "safe": safe,
        "odd": odd,
    }
    for alias, conference in aliases.items():
        api.add("conference_alias", {"alias": alias, "conference": conference})
    return api


def imported(folder: Path, into: str, fault: Any = None) -> Result:
    (folder / "password").write_text("of the platform")
    config = folder / "config.toml"

    async def run() -> Result:
        api = platform()
        api.faults |= {"*": fault} if fault else {}
        async with api.serving() as url:
            config.write_text(CONFIG.format(url=url))
            arguments = ["import", "infinity", "--config", str(config), "--into"]
            return await asyncio.to_thread(
                CliRunner().invoke, main, [*arguments, str(folder / into)]
            )

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "keys"), [("rooms.csv", 'csv = "rooms.csv"'), ("rooms.toml", 'files = ["rooms.toml"]')]
)
def test_the_plugin_rooms_reads_what_was_written(name: str, keys: str, tmp_path: Path) -> None:
    result = imported(tmp_path, name)
    assert (result.exit_code, "2 rooms" in result.stdout) == (0, True), result.output
    for name_and_why in (
        "Bare is left out: it has no alias",
        "Safe is left out",
        "Odd is left out",
    ):
        assert name_and_why in result.stderr
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    config = tmp_path / "new.toml"
    config.write_text(f"[plugins.rooms.settings]\n{keys}\n")
    for alias in ("clinic@example.com", "2301"):
        call = make_request("service_configuration", local_alias=alias)
        decision = decide_sync(config, call).decision
        fields = decision.set_fields()
        assert fields["name"] == "Clinic"
        assert fields["service_tag"] == "t=acme"
        assert (fields["pin"], fields["max_callrate_in"]) == ("0482", 1_024_000)
        assert fields["ivr_theme_name"] == "Acme"
        assert fields["allow_guests"] is True
    assert imported(tmp_path, name).exit_code == 65


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    assert imported(tmp_path, "rooms.json").exit_code == 65


def test_an_api_that_is_down_is_exit_code_75(tmp_path: Path) -> None:
    assert imported(tmp_path, "rooms.csv", "broken").exit_code == 75
    assert not (tmp_path / "rooms.csv").exists()
