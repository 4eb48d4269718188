"""The staff directory and what uses it."""

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from acme_platform.staff import Names, Staff
from pexpolicy.testing import decide, make_request

PEOPLE = {"sip:Alice@acme.example": "Alice of Accounts"}


async def people(_: web.Request) -> web.Response:
    return web.json_response(PEOPLE)


def staff(url: str, folder: Path) -> Staff:
    return Staff(Staff.Settings(url=url, cache=folder / "staff.json", every=300.0))


@pytest.mark.parametrize(
    ("alias", "name"), [("alice@acme.example", "Alice of Accounts"), ("bob@acme.example", None)]
)
async def test_people_have_the_name_of_the_directory(
    alias: str, name: str | None, tmp_path: Path
) -> None:
    application = web.Application()
    application.router.add_get("/people.json", people)
    request = make_request("participant_properties", remote_alias=alias)
    async with TestServer(application, host="127.0.0.1") as server:
        url = str(server.make_url("/people.json"))
        async with staff(url, tmp_path) as directory:
            outcome = await decide((Names, {"staff": directory}), request)
            assert outcome.decision.set_fields().get("remote_display_name") == name
    # The service is down at the next start, and the file has the names.
    async with staff(url, tmp_path) as directory:
        outcome = await decide((Names, {"staff": directory}), request)
        assert outcome.decision.set_fields().get("remote_display_name") == name
