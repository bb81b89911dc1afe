"""Every console script imports, helps at once and without torch, and refuses a typo."""

import resource
import subprocess
import sys
from importlib.metadata import distribution

import pytest

SCRIPTS = {
    entry.name: entry
    for entry in distribution("medsegdiff-auto").entry_points if entry.group == "console_scripts"
}
HELP_SECONDS = 0.3


def call(script: str, *argv: str) -> subprocess.CompletedProcess:
    module, function = SCRIPTS[script].value.split(":")
    program = (f"import sys; from {module} import {function}\n"
               f"try:\n    code = {function}({list(argv)!r})\nexcept SystemExit as end:\n    code = end.code\n"
               "heavy = {'torch', 'nnunetv2', 'numpy', 'SimpleITK'} & set(sys.modules)\n"
               "print('heavy:', *sorted(heavy))\nsys.exit(code)")
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def processor_seconds() -> float:
    """Processor time of all finished child processes: unlike the time on the wall, it does not depend on what else the
    machine does.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_help_names_the_command_and_comes_at_once_without_heavy_imports(script):
    seconds = []
    for _ in range(3):
        before = processor_seconds()
        done = call(script, "--help")
        seconds.append(processor_seconds() - before)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script} ") and done.stdout.splitlines()[-1].strip() == "heavy:"
    assert min(seconds) < HELP_SECONDS


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_typo_ends_with_exit_code_2_and_a_suggestion_in_four_lines(script):
    done = call(script, "--hlep")
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[0] == f"error: {script} has no flag --hlep." and len(lines) == 4
    assert "did you mean --help?" in lines[3]
