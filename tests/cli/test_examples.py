"""Every command shows examples that it accepts, its version, and one line where Ctrl-C ends it."""

import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import medsegdiff_auto
from medsegdiff_auto.cli import command
from medsegdiff_auto.cli.examples import EXAMPLES, OF_A_SOURCE
from medsegdiff_auto.cli.info import main as info

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r'^(medsegdiff_\w+) = "(\S+)"$', PROJECT, re.MULTILINE))
COMMAND_LINES = [(script, line) for script, lines in EXAMPLES.items() for line in lines]
COMMAND_LINES += [("medsegdiff_convert", f"lgg {line}") for line in OF_A_SOURCE]


def module_of(script):
    return importlib.import_module(SCRIPTS[script].split(":")[0])


def test_every_command_has_two_or_three_examples_and_only_commands_have():
    assert set(EXAMPLES) == set(SCRIPTS)
    assert {len(lines) for lines in EXAMPLES.values()} <= {2, 3}


@pytest.mark.parametrize("script", EXAMPLES)
def test_the_help_ends_with_the_examples(script, capsys):
    with pytest.raises(SystemExit):
        module_of(script).main(["--help"])
    shown = capsys.readouterr().out.split("\nexamples:\n")[1].splitlines()
    assert shown == [f"  {script} {line}".rstrip() for line in EXAMPLES[script]]


def test_the_help_of_a_source_ends_with_its_examples(capsys):
    with pytest.raises(SystemExit):
        module_of("medsegdiff_convert").main(["lgg", "--help"])
    shown = capsys.readouterr().out.split("\nexamples:\n")[1].splitlines()
    assert shown == [f"  medsegdiff_convert lgg {line}" for line in OF_A_SOURCE]


@pytest.mark.parametrize("script, line", COMMAND_LINES)
def test_an_example_is_accepted_and_ctrl_c_in_it_gives_one_line_and_130(script, line, capsys, monkeypatch):
    begun = []

    def interrupted(*args, **kwargs):
        begun.append(args)
        raise KeyboardInterrupt

    monkeypatch.setattr(module_of(script), "run", lambda function, *args: command.run(interrupted, *args))
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)  # pytest keeps its own
    assert module_of(script).main(shlex.split(line)) == 130 and len(begun) == 1
    assert capsys.readouterr().err == "Interrupted: what is complete stays.\n"


def test_ctrl_c_while_a_command_is_imported_gives_one_line_and_130():
    begin = ("import medsegdiff_auto.cli, signal; print('begun')\n"
             "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background work ignores it\n"
             "signal.raise_signal(signal.SIGINT)")
    done = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "begun\n")
    assert done.stderr == "Interrupted: what is complete stays.\n"
    failed = subprocess.run([sys.executable, "-c", "import medsegdiff_auto.cli; 1 / 0"], capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_version_is_that_of_the_package(script, capsys):
    with pytest.raises(SystemExit) as end:
        module_of(script).main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"{script} {medsegdiff_auto.__version__}\n")


def completions(words, folder, **environment):
    """What ``argcomplete`` would offer for a command line of ``medsegdiff_info``."""
    answer = folder / "answer"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "COMP_LINE": words, "COMP_TYPE": "9",
             "COMP_POINT": str(len(words)), "_ARGCOMPLETE_IFS": "\n"}
    done = subprocess.run([sys.executable, "-c", "from medsegdiff_auto.cli.info import main; main()"],
                          env=os.environ | asked | environment, capture_output=True, text=True)
    return done, answer.read_text().split() if answer.exists() else []


def test_a_shell_completes_flags(tmp_path):
    pytest.importorskip("argcomplete")
    done, found = completions("medsegdiff_info --ext", tmp_path)
    assert (done.returncode, found) == (0, ["--ext_trainer_dir"])
    assert completions("medsegdiff_info --json --v", tmp_path)[1] == ["--version"]


def test_without_argcomplete_a_command_goes_on(monkeypatch, capsys):
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with contextlib.suppress(SystemExit):
        info(["--version"])
    assert capsys.readouterr().out.startswith("medsegdiff_info ")
