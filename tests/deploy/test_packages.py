"""The packages: one version, one list, the same bytes each time."""

import importlib
import re
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import pexpolicy
from pexpolicy.cli.main import main
from tests.support.paths import ROOT

FOLDERS = sorted(
    path.parent
    for path in (*ROOT.glob("plugins/*/pyproject.toml"), ROOT / "console/pyproject.toml")
)
CORE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROJECTS: list[dict[str, Any]] = [
    tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in FOLDERS
]
IDS = [project["name"] for project in PROJECTS]


@pytest.mark.parametrize("project", PROJECTS, ids=IDS)
def test_each_package_has_the_version_of_the_core(project: dict[str, Any]) -> None:
    assert project["version"] == pexpolicy.__version__


def test_the_extra_all_names_every_package_with_its_extras() -> None:
    of_core = sorted(CORE["optional-dependencies"].keys() - {"all"})
    names = {f"pexpolicy[{','.join(of_core)}]"}
    for project in PROJECTS:
        extras = (
            f"[{','.join(found)}]"
            if (found := sorted(project.get("optional-dependencies", ())))
            else ""
        )
        names.add(f"{project['name']}{extras}=={pexpolicy.__version__}")
    assert set(CORE["optional-dependencies"]["all"]) == names


def test_a_new_version_is_written_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "deploy"))
    program = importlib.import_module("set_version")
    names = ["pexpolicy/__init__.py", "pyproject.toml", "CHANGELOG.md"]
    names += ["deploy/kubernetes/kustomization.yaml"]
    names += [str((folder / "pyproject.toml").relative_to(ROOT)) for folder in FOLDERS]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(program, "ROOT", tmp_path)
    program.set_version("9.8.7")
    for name in names:
        text = (tmp_path / name).read_text()
        assert "9.8.7" in text, name
        if name != "CHANGELOG.md":
            assert f'"{pexpolicy.__version__}"' not in text, name
            assert f"=={pexpolicy.__version__}" not in text, name
    assert re.search(r"## \[Unreleased\]\n\n## \[9\.8\.7\] - 20", (tmp_path / names[2]).read_text())


@pytest.mark.slow
def test_a_package_is_built_to_the_same_bytes(tmp_path: Path) -> None:
    built = []
    for number, umask in enumerate((0o022, 0o077)):
        target = tmp_path / str(number)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target)]
        subprocess.run(
            [*command, str(ROOT / "plugins/domains")],
            check=True,
            stdout=subprocess.DEVNULL,
            umask=umask,
        )
        built.append({p.name: sha256(p.read_bytes()).hexdigest() for p in target.iterdir()})
    assert len(built[0]) == 2
    assert built[0] == built[1]


def test_the_release_runs_targets_that_exist_and_stores_no_password() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    workflow = yaml.safe_load(text)
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"make ([a-z-]+)", text))
    assert {"dist", "sbom", "test"} <= targets
    assert all(f"\n{target}: " in makefile for target in targets)
    assert workflow["permissions"] == {}
    assert set(re.findall(r"secrets\.(\w+)", text)) == {"GITHUB_TOKEN"}
    jobs = workflow["jobs"]
    needed = [job.get("needs", []) for job in jobs.values()]
    names = {name for need in needed for name in ([need] if isinstance(need, str) else need)}
    assert names < set(jobs)
    assert jobs["publish"]["permissions"]["id-token"] == "write"
    steps = {
        step["uses"]: step.get("with", {}) for step in jobs["image"]["steps"] if "uses" in step
    }
    (build,) = (given for action, given in steps.items() if "build-push-action" in action)
    assert build["platforms"] == "linux/amd64,linux/arm64"


def test_each_action_is_pinned_to_a_commit() -> None:
    used = [
        line
        for path in (ROOT / ".github").rglob("*.yml")
        for line in path.read_text().splitlines()
        if re.match(r" *(- )?uses:", line)
    ]
    assert len(used) > 10
    pinned = re.compile(r" *(- )?uses: [\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
    assert [line for line in used if not pinned.fullmatch(line)] == []


def test_the_hooks_and_the_action_call_commands_that_exist() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    action = yaml.safe_load((ROOT / ".github/actions/plugin/action.yml").read_text())
    lines = [hook["entry"] for hook in hooks]
    lines += [
        step["run"] for step in action["runs"]["steps"] if "pexpolicy " in step.get("run", "")
    ]
    for line in lines:
        found = re.match(r"pexpolicy (\w+)((?: --[a-z]+)*)", line)
        assert found is not None, line
        help_text = CliRunner().invoke(main, [found[1], "--help"]).output
        assert all(option in help_text for option in found[2].split()), line
