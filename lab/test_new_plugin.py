"""A package that `pexpolicy new-plugin` writes works as it is written."""

import re
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from pexpolicy.cli.new_plugin import MAX_NAME, plugin_name, render
from pexpolicy.endpoints import ENDPOINTS
from tests.support import clean_install, live_server

HOOKS = list(ENDPOINTS)
DESK = "pexpolicy-front-desk"
CALL = "/policy/v1/service/configuration?call_direction=dial_in&local_alias=sip:welcome@example.com"


def new_plugin(folder: Path, *arguments: str) -> Result:
    folder.mkdir(exist_ok=True)
    with chdir(folder):
        return CliRunner().invoke(main, ["new-plugin", *arguments])


@dataclass(frozen=True)
class Written:
    """A plugin written by the command of an installed pexpolicy, and what the command said."""

    core: Path
    folder: Path
    said: str


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The core is installed from its wheel, so that a template which is not in there is missed."""
    folder = tmp_path_factory.mktemp("author")
    builder = clean_install.create_environment(folder / "builder")
    core = clean_install.build_wheel(builder, live_server.ROOT, folder / "wheels")
    author = with_core(core, folder / "venv")
    said = author.run("pexpolicy new-plugin Front-Desk", folder)
    return Written(core, folder / "pexpolicy-front-desk", said)


def with_core(core: Path, folder: Path) -> clean_install.Environment:
    """A fresh environment into which pexpolicy was installed, as an author does it first."""
    made = clean_install.create_environment(folder)
    install = ["pip", "install", "-q", "--ignore-installed", "--no-deps", str(core)]
    made.run([made.python, "-m", *install], folder)
    return made


def test_a_wheel_of_it_decides_a_call_over_http(written: Written, tmp_path: Path) -> None:
    other = clean_install.create_environment(tmp_path / "venv")
    other.install(clean_install.build_wheel(other, written.folder, tmp_path / "wheels"))
    config = live_server.with_audit(written.folder / "config.toml", tmp_path)
    with live_server.running(config, python=other.python) as server:
        reply = server.ask(CALL)
        elsewhere = server.ask(CALL.replace("welcome", "goodbye"))
        lines = server.lines()
    assert reply.json["decided_by"] == "front_desk"
    assert reply.result == {
        "name": "Welcome Room",
        "service_tag": "welcome",
        "service_type": "conference",
    }
    assert elsewhere.json["decided_by"] == "default"
    assert [line["decided_by"] for line in lines] == ["front_desk", "default"]


def test_every_step_of_its_ci_passes(written: Written, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    shutil.copytree(written.folder, folder)
    author = with_core(written.core, tmp_path / "venv")
    steps = re.findall(r"- run: (.*)", (folder / ".github/workflows/ci.yml").read_text())
    assert {step.split()[0] for step in steps} == {"python", "ruff", "mypy", "pexpolicy"}
    for step in steps:
        # The build has no index here either.
        local = step.replace("-m build", "-m build --no-isolation")
        author.run(local.replace("${{ matrix.pexpolicy }}", "pexpolicy"), folder)
    assert len(list((folder / "dist").iterdir())) == 2


def test_what_to_do_next_works_as_pasted(written: Written, tmp_path: Path) -> None:
    folder = tmp_path / "my work"
    shutil.copytree(written.folder, folder / "pexpolicy-front-desk")
    config = folder / "pexpolicy-front-desk" / "config.toml"
    config.write_text(config.read_text().replace("8000", "0"))
    install, test, serve = re.findall(r"^  (.*)$", written.said, re.MULTILINE)
    assert serve == "pexpolicy serve"
    entered = install.partition("&&")[0]
    author = with_core(written.core, tmp_path / "venv")
    author.run(install, folder)
    assert "passed" in author.run(f"{entered} && {test}", folder)
    with live_server.running(config, python=author.python) as server:
        assert server.ask(CALL).json["decided_by"] == "front_desk"


def test_its_dockerfile_adds_it_to_the_image(written: Written, tmp_path: Path) -> None:
    image = clean_install.create_environment(tmp_path / "image")
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in re.findall(
        r"^!(.*)$", (written.folder / ".dockerignore").read_text(), re.MULTILINE
    ):
        found = written.folder / name
        (shutil.copytree if found.is_dir() else shutil.copy)(found, copied / name)
    recipe = (written.folder / "Dockerfile").read_text()
    for step in re.findall(r"^RUN (.*)$", recipe, re.MULTILINE):
        local = step.replace("/opt/pexpolicy", str(image.folder))
        local = local.replace("/usr/src/plugin", str(copied))
        image.run(local.replace("pip ", f"{image.python} -m pip "), tmp_path)
    assert not copied.exists()
    assert "front_desk" in image.run(
        [image.python, "-m", "pexpolicy", "plugins", "--config", str(live_server.SHIPPED)], tmp_path
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_has_a_plugin_that_is_typed_tested_and_asked(
    hook: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert new_plugin(tmp_path, "front-desk", "--hook", hook).exit_code == 0
    folder = tmp_path / DESK
    here = clean_install.Environment(Path(sys.prefix))
    # The same for all hooks: a second run of mypy takes a fifth of the time.
    cache = tmp_path_factory.getbasetemp() / "mypy"
    found = {"PYTHONPATH": "src", "MYPYPATH": "src", "MYPY_CACHE_DIR": str(cache)}
    assert "passed" in here.run([here.python, "-m", "pytest", "-q"], folder, found)
    assert "Success" in here.run([here.python, "-m", "mypy"], folder, found)
    request = re.findall(r"curl 'http://127.0.0.1:8000(.*)'", (folder / "README.md").read_text())
    assert _decided_by(folder, request[0]) == "front_desk"
    _passes_its_cases(folder, {"PYTHONPATH": "src"})


def _passes_its_cases(folder: Path, environment: dict[str, str]) -> None:
    here = clean_install.Environment(Path(sys.prefix))
    command = [here.python, "-m", "pexpolicy"]
    config = ["--config", "config.toml"]
    here.run([*command, "check", "--strict", "--open", *config], folder, environment)
    assert "passed" in here.run([*command, "test", "cases.toml", *config], folder, environment)


def _install(folder: Path, distribution: str, package: str) -> None:
    entry = folder / "src" / f"{package}-0.1.0.dist-info"
    entry.mkdir()
    (entry / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n"
    )
    (entry / "entry_points.txt").write_text(
        f"[pexpolicy]\nfront_desk = {package}:FrontDeskPlugin\n"
    )


def _decided_by(folder: Path, target: str) -> str:
    """Who decides a request with the plugin that lies in a folder; nothing is installed."""
    _install(folder, "pexpolicy-front-desk", "pexpolicy_front_desk")
    config = live_server.with_audit(folder / "config.toml", folder / "src")
    with live_server.running(config, environment={"PYTHONPATH": str(folder / "src")}) as server:
        server.ask(target)
        return str(server.lines()[0]["decided_by"])


def test_the_layout_is_right_for_short_and_long_names(tmp_path: Path) -> None:
    for hook in HOOKS:
        for name in ("a", "x" * MAX_NAME, "a_1"):
            new_plugin(tmp_path / hook, name, "--hook", hook)
    ruff = Path(sys.executable).with_name("ruff")
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *arguments, "--no-cache", tmp_path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("written", "name", "distribution", "package", "class_name"),
    [
        ("lobby", "lobby", "pexpolicy-lobby", "pexpolicy_lobby", "LobbyPlugin"),
        (
            "Front-Desk",
            "front_desk",
            "pexpolicy-front-desk",
            "pexpolicy_front_desk",
            "FrontDeskPlugin",
        ),
        (
            " front.desk ",
            "front_desk",
            "pexpolicy-front-desk",
            "pexpolicy_front_desk",
            "FrontDeskPlugin",
        ),
        ("pexpolicy-lobby", "lobby", "pexpolicy-lobby", "pexpolicy_lobby", "LobbyPlugin"),
        ("pexpolicy_a_1", "a_1", "pexpolicy-a-1", "pexpolicy_a_1", "A1Plugin"),
        (
            "conference",
            "conference",
            "pexpolicy-conference",
            "pexpolicy_conference",
            "ConferencePlugin",
        ),
        ("warning", "warning", "pexpolicy-warning", "pexpolicy_warning", "WarningPlugin"),
    ],
)
def test_one_name_names_everything(
    written: str, name: str, distribution: str, package: str, class_name: str
) -> None:
    found = plugin_name(written)
    files = render(found, HOOKS[0])
    assert found == name
    assert f'name = "{distribution}"' in files[f"{distribution}/pyproject.toml"]
    assert f"class {class_name}(" in files[f"{distribution}/src/{package}/__init__.py"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("2nd floor", "is not a plugin name"),
        ("lübeck", "is not a plugin name"),
        ("a/b", "is not a plugin name"),
        ("../elsewhere", "is not a plugin name"),
        ("class", "is not a plugin name"),
        ("x" * (MAX_NAME + 1), "is not a plugin name"),
        ("", "is not a plugin name"),
        ("-", "is not a plugin name"),
        ("42", "is not a plugin name"),
        ("rooms", "'rooms' is taken: pexpolicy-rooms"),
        ("pexpolicy-domains", "'domains' is taken: pexpolicy-domains"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(name: str, says: str, tmp_path: Path) -> None:
    result = new_plugin(tmp_path, "--", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / DESK
    folder.mkdir()
    (folder / "mine").write_text("my work")
    result = new_plugin(tmp_path, "front-desk")
    assert result.exit_code == 2
    assert f"{folder.name} cannot be read or written: File exists" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["mine"]
