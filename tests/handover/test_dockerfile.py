"""The Dockerfile of either kind, instruction by instruction, since no container can be built here."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from limited_program import BASE

from medsegdiff_auto.handover import challenge_texts
from medsegdiff_auto.handover.challenge_folder import LOCK, _write_wheel

ROOT = Path(__file__).parents[2]
KINDS = {"grand-challenge": challenge_texts.GRAND_CHALLENGE, "folder": challenge_texts.CASES}
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


@pytest.fixture(params=KINDS, scope="module")
def folder(request, tmp_path_factory) -> Path:
    """What the image is built of, with an empty model; to be read only."""
    stage, kind = tmp_path_factory.mktemp("stage"), KINDS[request.param]
    (stage / "wheels").mkdir()
    _write_wheel(stage)
    (stage / "model").mkdir()
    (stage / kind.settings).write_text("{}")
    (stage / "Dockerfile").write_text(kind.dockerfile(BASE))
    for name, text in kind.programs("name").items():
        (stage / name).write_text(text)
    return stage


def instructions(folder: Path) -> list[tuple[str, str]]:
    """Each with its argument; a line that ends in a backslash goes on."""
    lines = (folder / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def replayed(folder: Path, image: Path) -> dict:
    """The state at the end: files as they are copied below ``image``, and the last of what else is set."""
    state = {"commands": [], "ENV": {}}
    for name, argument in instructions(folder):
        if name == "COPY":
            *sources, target = argument.split()
            place = image / state["WORKDIR"].lstrip("/") / target
            assert len(sources) == 1 or target.endswith("/"), argument
            for source in sources:
                if (folder / source).is_dir():
                    shutil.copytree(folder / source, place)
                else:
                    assert target.endswith("/"), argument
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copy(folder / source, place)
        elif name == "RUN":
            state["commands"] += [(state.get("USER", "root"), shlex.split(one)) for one in argument.split("&&")]
        elif name == "ENV":
            state["ENV"] |= dict(word.split("=", 1) for word in shlex.split(argument))
        else:
            state[name] = argument
    return state


@pytest.mark.skipif(HADOLINT is None, reason="hadolint has no wheel for this system")
def test_the_linter_finds_nothing(folder, tmp_path):
    done = subprocess.run([HADOLINT, "--no-color", folder / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp\n")
    assert subprocess.run([HADOLINT, tmp_path / "Dockerfile"], capture_output=True).returncode == 1, "it looks"


def test_what_is_started_is_there_and_does_not_run_as_root(folder, tmp_path):
    state = replayed(folder, tmp_path)
    user, group = state["USER"].split(":")
    added = next(words for _, words in state["commands"] if words[0] == "useradd")
    assert int(user) > 0 and added[added.index("--uid") + 1] == user
    assert next(words for _, words in state["commands"] if words[0] == "groupadd")[2] == group
    assert instructions(folder)[-1][0] in ("ENTRYPOINT", "CMD") and instructions(folder)[-2][0] == "USER"
    program, file = json.loads(state.get("ENTRYPOINT") or state["CMD"])
    place = tmp_path / state["WORKDIR"].lstrip("/")
    assert program in ("python", "sh") and (place / file).is_file()
    if program == "sh":
        assert subprocess.run(["sh", "-n", place / file]).returncode == 0
        started = re.search(r'exec python "\$\(dirname "\$0"\)/(\S+)" "\$@"', (place / file).read_text())
        assert started[1] == "inference.py"
    tree = ast.parse((place / "inference.py").read_text())
    imports = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    module = next(name for name in imports if name.startswith("medsegdiff_auto"))
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert {path.name for path in place.iterdir()} == {
        "requirements.lock", "wheels", "inference.py", *(("predict.sh", "cases.json", "model") if program == "sh" else (
            "sockets.json", ))}
    assert {"HOME": "/tmp", "HF_HUB_OFFLINE": "1"}.items() <= state["ENV"].items()


def test_pip_installs_the_package_from_the_wheels_alone(folder, tmp_path):
    """The lock is resolved by its lines: each is one version, and every need of the package is among them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    state = replayed(folder, tmp_path / "image")
    place = tmp_path / "image" / state["WORKDIR"].lstrip("/")
    of_lock, of_package = (words for user, words in state["commands"] if "pip" in words and user == "root")
    assert "$PIP_INDEX" in of_lock and state["ARG"] == 'PIP_INDEX=""', "--no-index where it is given"
    assert of_lock[of_lock.index("--requirement") + 1] == LOCK
    assert of_lock[of_lock.index("--find-links") + 1] == "wheels"
    assert {"--no-index", "--no-deps"} <= set(of_package)
    wheel, = place.glob(of_package[-1])
    words = [*of_package[1:-1], "--dry-run", "--ignore-installed", str(wheel)]
    done = subprocess.run([sys.executable, *words], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0 and "Would install medsegdiff" in done.stdout, done.stderr
    lines = [line.split("#")[0].strip() for line in (place / LOCK).read_text().splitlines()]
    locked = {canonicalize_name(one.name): one for one in map(Requirement, filter(None, lines))}
    assert all([spec.operator for spec in one.specifier] == ["=="] for one in locked.values())
    metadata = subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, tmp_path / "unpacked"])
    assert metadata.returncode == 0
    text = next((tmp_path / "unpacked").glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    needs = [Requirement(line.split(": ", 1)[1]) for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    needed = [one for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert len(needed) > 5
    for one in needed:
        version = next(iter(locked[canonicalize_name(one.name)].specifier)).version
        assert one.specifier.contains(version, prereleases=True), one
