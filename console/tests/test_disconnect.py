"""An admin ends the call of a participant from the page of a decision."""

import asyncio
import random
from pathlib import Path

from pexpolicy.config.loader import load
from pexpolicy.fleet.policy_hash import own_token
from pexpolicy.testing import ManagementApi, Simulator, make_request, url_of
from tests.support import live_server
from tests.support.live_console import running_console
from tests.support.server_process import free_port

CONFIG = """
[admin]
port = {admin}
[audit]
path = "audit.jsonl"
[sources.mgr]
driver = "infinity"
url = "{url}"
user = "reader"
password_file = "password"
command_user = "commander"
command_password_file = "password"
[infinity]
source = "mgr"
"""


async def test_an_admin_disconnects_a_participant(tmp_path: Path) -> None:
    platform = Simulator(random.Random(2))
    person = platform.join("red", "sip")
    request = make_request(
        "participant_properties", participant_uuid=person.uuid, service_name="red"
    )

    def watch(config: Path) -> None:
        with (
            live_server.running(config, own_admin_port=True) as server,
            running_console(config) as console,
        ):
            assert server.ask(str(url_of(request))).status == 200
            page = f"/decisions/{server.lines()[-1]['decision_id']}"
            button, path = "Disconnect this participant", f"{page}/disconnect"
            assert button not in console.log_in("operator").eventually(page, "Steps")
            assert console.post(path).status == 403
            assert button in console.log_in("admin").get(page).text
            assert "was disconnected" in console.post(path).text
            assert "is not there any more" in console.post(path).text
            done = [one for one in console.actions() if one["event"] == "disconnect"]
            assert [(one["user"], one["participant"]) for one in done] == [("ann", person.uuid)] * 2
            assert server.operator("/disconnect/x", method="POST").status == 401
            headers = {"Authorization": f"Bearer {own_token(load(config))}"}
            assert server.operator("/disconnect/x", headers=headers).status == 405
            assert server.operator("/disconnect/x", method="POST", headers=headers).status == 404

    async with ManagementApi(platform).serving() as url:
        config = tmp_path / "config.toml"
        (tmp_path / "password").write_text("of the platform")
        config.write_text(CONFIG.format(url=url, admin=free_port()))
        await asyncio.to_thread(watch, config)
    assert platform.truth()["red"].participants == 0
