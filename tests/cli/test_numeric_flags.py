"""No numeric flag takes what is no number, is negative without sense, or would never end."""

import importlib
import re
from pathlib import Path

import pytest

from medsegdiff_auto.cli.command import CommandParser
from medsegdiff_auto.dataset_conversion.core.registry import converter_names
from medsegdiff_auto.numeric_flags import ITERATIONS, POSITIVE, SHARE, STEP_SIZE, Numbers

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
COMMANDS = re.findall(r'^medsegdiff_\w+ = "(medsegdiff_auto\.cli\.\w+):main"', PYPROJECT.read_text(), re.MULTILINE)
UNBOUNDED = {"--threshold"}  # an intensity of the user's masks
NUMBERS_OF_THINGS = {"-d", "-f", "--seed", "-part_id", "--task"}  # a dataset, a fold, a seed, a part, a task


class Parsed(Exception):
    pass


def parsers(monkeypatch) -> list[CommandParser]:
    found = []

    def stop(self, args=None, namespace=None):
        found.append(self)
        raise Parsed

    monkeypatch.setattr(CommandParser, "parse_args", stop)
    for command in COMMANDS:
        for argv in [[name] for name in converter_names()] if command.endswith("convert") else [[]]:
            with pytest.raises(Parsed):
                importlib.import_module(command).main(argv)
    monkeypatch.undo()
    return found


def test_every_numeric_flag_of_every_command_has_a_range_and_refuses_what_lies_outside_of_it(monkeypatch, capsys):
    num_flags = 0
    for parser in parsers(monkeypatch):
        for action in parser._actions:
            numbers = action.type if isinstance(action.type, Numbers) else None
            if action.type not in (int, float) and numbers is None:
                continue
            flag, num_flags = action.option_strings[0], num_flags + 1
            if numbers is None and action.choices is None:
                assert flag in (UNBOUNDED if action.type is float else NUMBERS_OF_THINGS), (parser.prog, flag)
            outside = ["nan", "inf", "-inf", "x"] + ["-1"] * (flag not in UNBOUNDED)
            outside += ["1e30" if action.type in (float, POSITIVE) else "1" + "0" * 30] * (flag not in UNBOUNDED)
            for value in outside:
                several = isinstance(action.nargs, int) and value != "-inf"
                with pytest.raises(SystemExit) as end:
                    parser.parse_args([flag, *[value] * action.nargs] if several else [f"{flag}={value}"])
                lines = capsys.readouterr().err.splitlines()
                assert end.value.code == 2 and len(lines) == 4, (parser.prog, flag, value, lines)
                assert flag in lines[0] and (value in lines[1] or value == "-inf"), lines
    assert num_flags > 50


@pytest.mark.parametrize("numbers, text, value", [
    (STEP_SIZE, "0.5", 0.5), (STEP_SIZE, "1", 1.0), (STEP_SIZE, "0.01", 0.01), (SHARE, "1e-9", 1e-9),
    (POSITIVE, "1e6", 1e6), (Numbers(int, 0, 2**63 - 1), "9223372036854775807", 2**63 - 1),
    (ITERATIONS, "250000", 250_000)])
def test_the_bounds_themselves_are_accepted(numbers, text, value):
    assert numbers(text) == value and type(numbers(text)) is type(value)


@pytest.mark.parametrize("value, what", [
    ("1e-6", "must be at least 0.01"), ("0", "must be at least 0.01"), ("1.5", "must be at most 1"),
    ("nan", "must be a finite number"), ("-inf", "must be a finite number")])
def test_a_refusal_names_the_flag_the_bound_and_the_range(capsys, value, what):
    parser = CommandParser(prog="medsegdiff_example")
    parser.add_argument("-step_size", type=STEP_SIZE)
    with pytest.raises(SystemExit):
        parser.parse_args([f"-step_size={value}"])
    assert capsys.readouterr().err.splitlines() == [
        f"error: -step_size {what}.", f"  found:    {value}", "  expected: a number from 0.01 to 1",
        "  fix:      correct -step_size; see medsegdiff_example --help"]
