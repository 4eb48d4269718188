"""The pages for authors that tell a story: every command works in its turn, as it is shown."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pexpolicy.testing import ConfigError, decide_sync, make_policy, make_request
from tests.support import clean_install, doc_pages, live_server, samples

pytestmark = pytest.mark.slow

ADDRESS = "http://127.0.0.1:8000"


@dataclass
class Session:
    """A shell in which a reader follows a page; it remembers the folder that the reader is in."""

    environment: clean_install.Environment
    folder: Path
    servers: ExitStack
    url: str = ADDRESS
    said: str = ""

    def write(self, block: samples.Block) -> None:
        """Replace a file by what the page shows of it."""
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text.partition("\n")[2])

    def run(self, command: str) -> None:
        """Run what a reader pastes."""
        if command == "pexpolicy serve\n":
            python = self.environment.python
            started = live_server.running(self.folder / "config.toml", python=python)
            self.url = self.servers.enter_context(started).url
            self.said = f"answers on {ADDRESS}"
            return
        left = self.environment.folder / "left-in"
        pasted = command.replace(ADDRESS, self.url).replace("curl ", "curl --silent ")
        script = f"set -e\n{pasted}\npwd > {left}"
        self.said = self.environment.run(script, self.folder, {"COLUMNS": "120"})
        self.folder = Path(left.read_text().strip())

    def compare(self, shown: str) -> None:
        """What was printed is what the page shows, but for ids and times."""
        if self.said.startswith("answers on "):
            assert self.said in shown
        else:
            assert doc_pages.normalize(self.said) == doc_pages.normalize(shown)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> clean_install.Environment:
    """Return an environment with the wheel of the core, to which each page adds its package."""
    folder = tmp_path_factory.mktemp("core")
    environment = clean_install.create_environment(folder / "venv")
    core = clean_install.build_wheel(environment, live_server.ROOT, folder / "wheels")
    install = ["pip", "install", "-q", "--ignore-installed", "--no-deps", str(core)]
    environment.run([environment.python, "-m", *install], folder)
    return environment


@pytest.fixture
def session(tmp_path: Path, installed: clean_install.Environment) -> Iterator[Session]:
    with ExitStack() as servers:
        yield Session(installed, tmp_path, servers)


@samples.covers("tutorial.md")
def test_the_tutorial_works_from_its_first_line_to_its_last(session: Session) -> None:
    for block in samples.blocks("tutorial.md"):
        if block.file:
            session.write(block)
        elif block.language == "sh":
            session.run(block.text)
        else:
            assert block.language == "text"
            session.compare(block.text)


@samples.covers("packaging.md")
def test_a_package_with_two_plugins_is_built_and_both_are_found(session: Session) -> None:
    project, command, call, build, image, config, module = samples.blocks("packaging.md")
    session.folder = session.folder / "pexpolicy-harbour"
    session.write(project)
    for name in ("pilots", "tugs"):
        path = session.folder / "src" / "pexpolicy_harbour" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(module.text.replace("Closed", name.capitalize()))
    session.write(command)
    session.run(build.text.replace("--wheel", "--wheel --no-isolation"))
    session.environment.install(*(session.folder / "dist").glob("*.whl"))
    session.write(config)
    session.write(module)
    session.run(call.text)
    assert session.said == "north: 04:10, 16:35\n"
    session.run("pexpolicy --help")
    assert "(pexpolicy-harbour)" in session.said or "of pexpolicy-harbour" in session.said
    session.run("pexpolicy plugins --json")
    states = {listed["name"]: listed["state"] for listed in json.loads(session.said)["plugins"]}
    assert (states["closed"], states["pilots"], states["tugs"]) == (
        "active",
        "available",
        "available",
    )
    session.run("pexpolicy explain /policy/v1/service/configuration?local_alias=a")
    assert '"reason":"closed for today"' in session.said
    assert image.text.startswith("docker build --build-arg PEXPOLICY=")


@samples.covers("upgrading.md")
def test_a_plugin_says_which_hook_api_it_is_for(session: Session) -> None:
    _, refusal, check = samples.blocks("upgrading.md")
    plugin = samples.section("upgrading.md", "The hook API").names["Keeper"]
    outcome = decide_sync(plugin, make_request("service_configuration"))
    assert outcome.decided_by == "keeper"
    newer = type("Keeper", (plugin,), {"pexpolicy_api": 2})
    with pytest.raises(ConfigError) as refused:
        make_policy(newer)
    known = re.sub(r"\(.*?\)", "(pexpolicy-keeper 1.0.0)", str(refused.value.problems[0]), count=1)
    assert refusal.text == f"config.toml: 1 error\n  {known}\n"
    session.run("pexpolicy new-plugin keeper && cd pexpolicy-keeper && python -m pip install -q .")
    session.run("python -m pytest -W error::DeprecationWarning")
    assert "passed" in session.said
    session.run(check.text)
    assert "config.toml: valid" in session.said
