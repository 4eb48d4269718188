"""What the documentation says, tried: commands, replies, configurations, tables and links."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from multidict import MultiDict
from pydantic import BaseModel

from docs import generate_api, generate_audit, generate_findings, generate_settings
from docs.generate_reference import table_in, with_meanings
from pexpolicy.cli.main import main
from pexpolicy.config.schema.plugins import ObjectLists
from pexpolicy.config.settings import Document
from pexpolicy.endpoints import ENDPOINTS
from tests.support import certificates, doc_pages, fake_plugins, forked, live_server, paths
from tests.support.mmdb import write_mmdb

OWN = ("decision_id", "decided_by", "reason")
"""The keys of a reply that are ours, and that Infinity only logs."""


def pexpolicy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a folder, which is also where it finds further plugins."""
    found = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": found,
        "COLUMNS": "200",
        "PEXPOLICY_PASSWORD": "a password",
    }
    return forked.run(*arguments, cwd=folder, env=environment, merged=True)


def checked(folder: Path, patch: pytest.MonkeyPatch) -> Result:
    """Run check in a folder, but in this process: to start another one takes most of the time."""
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    patch.setenv("PEXPOLICY_PASSWORD", "a password")
    loaded = set(sys.modules)
    result = CliRunner().invoke(main, ["check"])
    for path in folder.glob("*.py"):
        if path.stem not in loaded:
            sys.modules.pop(path.stem, None)
    return result


@pytest.fixture
def blocklist(tmp_path: Path) -> Path:
    """A folder with the plugin of the README, as an installation leaves it."""
    written = next(
        t for _, t in doc_pages.blocks(doc_pages.README) if t.startswith("# pyproject.toml")
    )
    project = tomllib.loads(written)["project"]
    ((plugin, source),) = project["entry-points"]["pexpolicy"].items()
    module = source.partition(":")[0]
    (tmp_path / f"{module}.py").write_text(doc_pages.block(doc_pages.README, "python"))
    metadata = tmp_path / f"{module}-{project['version']}.dist-info"
    metadata.mkdir()
    known = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(known)
    (metadata / "entry_points.txt").write_text(f"[pexpolicy]\n{plugin} = {source}\n")
    return tmp_path


@pytest.mark.parametrize("example", doc_pages.examples("curl"), ids=str)
def test_a_curl_line_gets_the_reply_that_is_shown(
    running_server: live_server.Running, example: doc_pages.Example
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    command = example.command.replace("http://127.0.0.1:8000", running_server.url)
    said = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
    printed = said.stdout.splitlines()
    if example.command.split()[1] == "plugins":
        # A reader of the README may have its plugin installed, and rows that the page has not.
        ours = {line.split()[0] for line in example.output.splitlines() if line.strip()}
        printed = [line for line in printed if not line.strip() or line.split()[0] in ours]
    assert doc_pages.normalize("\n".join(printed)) == doc_pages.normalize(example.output)


@pytest.mark.parametrize("example", doc_pages.examples(".venv/bin/pexpolicy", "pexpolicy"), ids=str)
def test_a_command_prints_what_is_shown(tmp_path: Path, example: doc_pages.Example) -> None:
    if example.page == doc_pages.README:
        written = live_server.SHIPPED.read_text()
    else:
        written = doc_pages.configurations(example.page)[0]
    (tmp_path / "config.toml").write_text(written)
    said = pexpolicy(tmp_path, *shlex.split(example.command)[1:])
    assert doc_pages.normalize(said.stdout) == doc_pages.normalize(example.output)
    assert doc_pages.policy_hashes(said.stdout) == doc_pages.policy_hashes(example.output)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        pytest.param(page, text, id=f"{page.relative_to(paths.ROOT)}-{number}")
        for page in doc_pages.OPERATOR_PAGES
        for number, text in enumerate(doc_pages.configurations(page))
    ],
)
def test_a_configuration_that_is_shown_passes_check(
    blocklist: Path, monkeypatch: pytest.MonkeyPatch, page: Path, text: str
) -> None:
    (blocklist / "password.txt").write_text("a password\n")
    (blocklist / "webhook-secret").write_text("a secret of the webhook\n")
    for name in ("pin.key", "photos-token", "graph-secret"):
        (blocklist / name).write_text("a secret of 18 bytes\n")
    for kind, content in doc_pages.blocks(page):
        if kind == "csv":
            for name in ("rooms.csv", "people.csv", "devices.csv"):
                (blocklist / name).write_text(content)
    write_mmdb(blocklist / "GeoLite2-Country.mmdb", {"192.0.2.0/24": {}})
    (blocklist / "sign.pem").write_bytes(certificates.signing_key())
    write_mmdb(blocklist / "GeoLite2-Country.mmdb", {})
    certificates.write_pair(blocklist)
    certificates.write_authority(blocklist)
    here = re.sub(r'(?<=\npassword_file = )".*?"', '"password.txt"', text)
    (blocklist / "config.toml").write_text(here)
    result = checked(blocklist, monkeypatch)
    assert result.exit_code == 0, result.output
    assert "config.toml: valid" in result.output


@pytest.mark.parametrize(
    "text",
    [t for t in doc_pages.configurations(doc_pages.README) if "[server]" not in t],
    ids=lambda text: text.partition("\n")[0],
)
def test_what_the_readme_adds_can_be_appended_to_the_shipped_configuration(
    blocklist: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (blocklist / "config.toml").write_text(f"{live_server.SHIPPED.read_text()}\n{text}")
    result = checked(blocklist, monkeypatch)
    assert result.exit_code == 0, result.output


def test_the_plugin_of_the_readme_is_found_and_asked_first(blocklist: Path) -> None:
    text = next(text for text in doc_pages.configurations(doc_pages.README) if "blocklist" in text)
    (blocklist / "config.toml").write_text(f"{live_server.SHIPPED.read_text()}\n{text}")
    path = "/policy/v1/service/configuration?local_alias=engineering&remote_alias="
    blocked = pexpolicy(blocklist, "explain", f"{path}sip:Mallory@evil.example;transport=tls")
    assert '"action":"reject"' in blocked.stdout
    assert '"decided_by":"blocklist"' in blocked.stdout
    assert '"decided_by":"rooms"' in pexpolicy(blocklist, "explain", f"{path}alice").stdout


def keys(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the configuration with its default, as the page writes them."""
    for name, field in model.model_fields.items():
        inner = table_in(field.annotation)
        if inner is ObjectLists:  # explained with [infinity]
            yield before + name, "empty"
        elif inner is not None:
            named = "dict[" in str(field.annotation)
            yield from keys(inner, f"{before}{name}.{'NAME.' if named else ''}")
            if not named and field.default is None and before:
                yield before + name, "unset"
        elif field.is_required():
            yield before + name, "required"
        else:
            yield before + name, _shown(field.get_default(call_default_factory=True))


def _shown(default: Any) -> str:
    return "unset" if default is None else "empty" if default == {} else json.dumps(default)


def test_every_key_of_the_configuration_is_explained_with_its_default() -> None:
    there = dict(keys(Document))
    explained = {row[0]: row[2] for row in doc_pages.rows(doc_pages.CONFIGURATION) if len(row) == 4}
    assert explained == there


def test_the_meaning_of_each_key_is_that_of_the_schema() -> None:
    text = doc_pages.CONFIGURATION.read_text()
    assert text == with_meanings(text), "run make reference"


def test_every_setting_of_the_shipped_plugins_is_explained() -> None:
    assert doc_pages.SETTINGS.read_text() == generate_settings.page(), "run make reference"


@pytest.mark.parametrize(
    ("table", "hook"), [(0, fake_plugins.always(None)), (1, fake_plugins.raises(ValueError()))]
)
@pytest.mark.parametrize("name", ENDPOINTS)
async def test_the_replies_without_a_decision_are_those_of_the_two_tables(
    name: str, table: int, hook: fake_plugins.Hook
) -> None:
    shown = [row[1] for row in doc_pages.rows(doc_pages.CONFIGURATION) if row[0] == name][table]
    toy = {"toy": fake_plugins.plugin(**{name: hook})}
    made = fake_plugins.policy(toy, {"toy": {"on_error": "reject"}})
    async with made.serving():
        request = ENDPOINTS[name].parse(MultiDict(), "alice")
        reply = (await made.answer(request, "an id")).reply
    if shown.isdigit():
        assert reply.status == int(shown)
    else:
        body = json.loads(reply.body)
        assert {key: body[key] for key in body if key not in OWN} == json.loads(shown)


def test_the_audit_line_that_is_shown_is_one(tmp_path: Path) -> None:
    sample = doc_pages.block(doc_pages.OPERATIONS, "json")
    shown = json.loads(sample)
    pins = {"pin": "482913", "guest_pin": "170356"}
    room = "\n".join(f"{k} = {json.dumps(v)}" for k, v in {**shown["sent"], **pins}.items())
    source = tmp_path / "source.toml"
    source.write_text(f'[plugins.rooms.settings.rooms."board@example.com"]\n{room}\n')
    asked = {**shown["request"], "third_party_passcode": "99887", "new_in_v99": "x"}
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    config = live_server.with_audit(source, tmp_path, 'instance = "policy-1"\n')
    with live_server.running(config) as server:
        server.ask(f"/policy/v1/service/configuration?{query}")
        (line,) = server.audit.read_text().splitlines()
    assert json.loads(doc_pages.normalize(line)) == json.loads(doc_pages.normalize(sample))
    explained = {row[0] for row in doc_pages.rows(doc_pages.AUDIT_LINES)}
    assert shown.keys() - {"instance", "boot_id", "seq", "hash"} <= explained


def test_every_field_outcome_and_refusal_is_explained() -> None:
    assert doc_pages.AUDIT_LINES.read_text() == generate_audit.page(), "run make reference"


def test_the_index_of_the_api_has_every_name() -> None:
    assert generate_api.PAGE.read_text() == generate_api.page(), "run make reference"


def test_every_level_and_topic_of_a_finding_is_explained() -> None:
    assert doc_pages.FINDINGS.read_text() == generate_findings.page(), "run make reference"


@pytest.mark.parametrize("page", doc_pages.ALL, ids=lambda page: str(page.relative_to(paths.ROOT)))
def test_a_link_leads_somewhere(page: Path) -> None:
    for target, anchor in doc_pages.links(page):
        aim = page.parent / target if target else page
        assert aim.exists(), target
        assert not anchor or anchor in doc_pages.anchors(aim), f"{target}#{anchor}"
