"""The secrets of a request stay out of the failures of a plugin in a process of its own."""

from pathlib import Path

import pytest

from pexpolicy.errors import describe_error
from pexpolicy.isolation.child import ChildError
from pexpolicy.models.errors import DecisionError
from pexpolicy.testing import make_request
from tests.support.isolated import PluginFolder

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@pytest.mark.parametrize(
    "body", ["return {}[passcode]", "return {'service_type': passcode}", "raise OSError(passcode)"]
)
async def test_the_passcode_of_a_request_leaves_no_worker(shelf: PluginFolder, body: str) -> None:
    source = (
        "@hookimpl\n"
        "async def service_configuration(self, request):\n"
        "    passcode = request.params['third_party_passcode']\n"
        f"    {body}\n"
    )
    isolated = shelf.start(shelf.hooks(source))
    request = make_request("service_configuration", third_party_passcode="hunter2")
    async with isolated.lifespan():
        with pytest.raises((ChildError, DecisionError)) as caught:
            await isolated.hooks["service_configuration"](request)
    assert "***" in str(caught.value)
    assert "hunter2" not in f"{caught.value} {describe_error(caught.value)}"
