"""The command framework: strict flags, suggestions, four lines, exit codes."""

import logging
import subprocess
import sys

import pytest

from medsegdiff_auto.cli.command import CommandParser, did_you_mean, run
from medsegdiff_auto.errors import UserError


def example_parser() -> CommandParser:
    parser = CommandParser(prog="medsegdiff_example")
    parser.add_argument("dataset")
    parser.add_argument("-np", type=int, default=1)
    parser.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("-f", nargs="+", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("-shift", type=float)
    return parser


def refusal(capsys, *argv: str) -> list[str]:
    """The lines that the example command prints to stderr when it refuses ``argv`` with exit code 2."""
    with pytest.raises(SystemExit) as exit_info:
        example_parser().parse_args(argv)
    assert exit_info.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_flags_of_nnunet_with_one_dash_and_several_letters_are_parsed():
    args = example_parser().parse_args(["4", "-np", "3", "-device", "cuda", "-f", "0", "1", "-shift", "-2.8"])
    assert (args.dataset, args.np, args.device, args.f, args.shift) == ("4", 3, "cuda", [0, 1], -2.8)


@pytest.mark.parametrize("argv, suggestion", [
    (["4", "--epoch", "5"], "--epochs"),
    (["4", "--epochs_=5"], "--epochs"),
    (["4", "-dev", "cpu"], "-device"),
    (["4", "-npp", "2"], "-np"),
    (["4", "-n", "2"], "-np"),
])
def test_a_mistyped_or_abbreviated_flag_is_refused_in_four_lines_with_the_nearest_flag(capsys, argv, suggestion):
    lines = refusal(capsys, *argv)
    assert len(lines) == 4
    assert lines[0].startswith("error: medsegdiff_example has no flag ")
    assert lines[1] == f"  found:    {argv[1]}"
    assert f"did you mean {suggestion}?" in lines[3]


def test_a_flag_glued_to_its_value_is_not_taken_for_another_flag(capsys):
    assert refusal(capsys, "4", "-fold", "0")[1] == "  found:    -fold"


def test_a_wrong_choice_is_refused_in_four_lines_with_the_nearest_choice(capsys):
    lines = refusal(capsys, "4", "-device", "cdua")
    assert lines[:3] == ["error: -device cannot be cdua.", "  found:    cdua", "  expected: one of cpu, cuda, mps"]
    assert "did you mean cuda?" in lines[3] and len(lines) == 4


@pytest.mark.parametrize("argv, what, expected", [
    ([], "medsegdiff_example needs dataset.", "medsegdiff_example [-h]"),
    (["4", "-np", "many"], "-np cannot be many.", "-np followed by a whole number"),
    (["4", "-f", "0", "one"], "-f cannot be one.", "-f followed by one or more values, each a whole number"),
    (["4", "-np"], "medsegdiff_example: -np: expected one argument.", "-np followed by a whole number"),
    (["4", "5"], "medsegdiff_example does not know what to do with 5.", "medsegdiff_example [-h]"),
])
def test_other_mistakes_on_the_command_line_are_named_in_four_lines(capsys, argv, what, expected):
    lines = refusal(capsys, *argv)
    assert len(lines) == 4
    assert lines[0] == f"error: {what}"
    assert lines[2].startswith(f"  expected: {expected}")


def test_what_stands_behind_a_double_dash_is_not_taken_for_a_flag():
    assert example_parser().parse_args(["--", "-strange-name"]).dataset == "-strange-name"


def test_a_word_without_a_near_candidate_gets_no_suggestion():
    assert did_you_mean("zebra", ["--epochs", "-np"]) == ""


def test_a_second_candidate_is_suggested_only_if_it_is_as_near_as_the_first():
    assert did_you_mean("--hlep", ["--chill", "--help"]) == "did you mean --help? "
    assert did_you_mean("fold_x", ["fold_a", "fold_b"]) == "did you mean fold_b or fold_a? "


def test_a_user_error_is_printed_as_four_lines_and_gives_exit_code_2(capsys):
    def fail():
        raise UserError("The scan is empty.", found="0 bytes", expected="an image", fix="copy it again")

    assert run(fail) == 2
    assert capsys.readouterr().err == ("error: The scan is empty.\n  found:    0 bytes\n"
                                       "  expected: an image\n  fix:      copy it again\n")


@pytest.mark.parametrize("returned, code", [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_the_exit_code_is_the_int_that_the_function_returned_or_zero(returned, code):
    assert run(lambda value: value, returned) == code


def test_a_mistake_of_ours_propagates_with_its_own_exception():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


def test_the_log_reaches_the_users_of_run(caplog):
    with caplog.at_level(logging.INFO, logger="medsegdiff_auto"):
        run(lambda: logging.getLogger("medsegdiff_auto.example").info("epoch 1 of 2"))
    assert caplog.messages == ["epoch 1 of 2"]


def test_in_a_plain_process_the_log_is_plain_text_on_stderr():
    program = ("import logging; from medsegdiff_auto.cli.command import run\n"
               "log = logging.getLogger('medsegdiff_auto.example')\n"
               "run(lambda: (log.info('epoch 1'), log.debug('hidden'), log.warning('small')))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "epoch 1\nwarning: small\n")


def test_a_reader_that_leaves_early_ends_the_command_without_a_traceback():
    program = ("from medsegdiff_auto.cli.command import run\nimport sys\n"
               "sys.exit(run(lambda: [print('a line that fills the pipe', number) for number in range(100_000)] and "
               "None))")
    done = subprocess.run(f"{sys.executable} -c \"{program}\" | head -n 1; echo ${{PIPESTATUS[0]}}", shell=True,
                          executable="/bin/bash", capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("a line that fills the pipe 0\n141\n", "")
