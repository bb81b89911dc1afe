"""What every command shares: strict parsing, four-line errors, logging and exit codes.

Exit codes: 0 done, 1 a failure of ours (traceback), 2 what the user can repair, 75 paused with what it takes to go
on (``medsegdiff_train``, ``medsegdiff_crossval``), 130 ended by Ctrl-C.
"""

import argparse
import difflib
import importlib.util
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from medsegdiff_auto import __version__
from medsegdiff_auto.cli import EXIT_INTERRUPTED, INTERRUPTED
from medsegdiff_auto.cli.examples import examples_of
from medsegdiff_auto.failures import as_user_error
from medsegdiff_auto.numeric_flags import Numbers, OutOfRange, default_numbers
from medsegdiff_auto.cores import require_process_counts
from medsegdiff_auto.errors import UserError

EXIT_USER_ERROR, EXIT_BROKEN_PIPE = 2, 141  # the latter as of processes that SIGPIPE ends

HEADING = "examples:"
SECONDS_OF_A_FORK = 0.05
_COMMANDS: set[int] = set()

if multiprocessing.current_process().name != "MainProcess":  # a spawned worker, which imports the command's module
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's: it ends its workers


class CommandParser(argparse.ArgumentParser):
    """An argument parser that accepts no abbreviation, suggests the nearest flag, and speaks in four lines.

    Single-dash spellings of several letters (``-np``, ``-device``) are whole flags: argparse alone would read
    ``-npp 0`` as ``-n pp``, so every token with a leading dash has to be a declared flag, a number, or stand behind
    ``--``. Numbers are in the range of their flag's :class:`~medsegdiff_auto.numeric_flags.Numbers`; a flag of type
    ``int`` takes those from 0, one of type ``float`` finite ones. Every command has ``--version``.

    The help ends with the command's :data:`~medsegdiff_auto.cli.examples.EXAMPLES`.
    """

    _is_completing = False

    def __init__(self, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _HelpWithExamples)
        super().__init__(**kwargs)
        if examples_of(self.prog):
            lines = [HEADING, *(f"  {self.prog} {one}".rstrip() for one in examples_of(self.prog))]
            self.epilog = (f"{self.epilog}\n\n" if self.epilog else "") + "\n".join(lines)
        self.add_argument("--version", action="version", version=f"{self.prog} {__version__}")
        for kind, numbers in default_numbers().items():
            self.register("type", kind, numbers)

    def parse_known_args(self, args=None, namespace=None):
        """Parse ``args``, after refusing the flags that this command does not have; complete where a shell asks."""
        if "_ARGCOMPLETE" in os.environ and not self._is_completing:
            self._is_completing = True  # argcomplete parses the words before the cursor
            _complete(self)
        args = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown_flags(args)
        return super().parse_known_args(args, namespace)

    def _get_value(self, action, arg_string):
        """Convert a value, after naming the range where a number lies outside of it."""
        try:
            return super()._get_value(action, arg_string)
        except OutOfRange as outside:
            flag = "/".join(action.option_strings) or action.metavar or action.dest
            self.fail(UserError(f"{flag} {outside}.", found=arg_string, expected=outside.expected,
                                fix=f"correct {flag}; see {self.prog} --help"))

    def error(self, message: str):
        """Print argparse's complaint as four lines and end with exit code 2."""
        self.fail(self._explain(message))

    def fail(self, error: UserError):
        """Print ``error`` and end with exit code 2."""
        self.exit(EXIT_USER_ERROR, f"error: {error}\n")

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def _refuse_unknown_flags(self, args: Sequence[str]) -> None:
        flags = self._flags()
        for token in args:
            if token == "--":
                return
            flag = token.split("=", 1)[0]
            if token.startswith("-") and token != "-" and not _is_number(token) and flag not in flags:
                self.fail(UserError(
                    f"{self.prog} has no flag {flag}.", found=token, expected=f"one of {', '.join(flags)}",
                    fix=f"{did_you_mean(flag, flags)}see {self.prog} --help"))

    def _explain(self, message: str) -> UserError:
        see_help = f"see {self.prog} --help"
        named = re.match(r"argument (\S+): (.*)", message, re.DOTALL)
        action = self._action_named(named.group(1)) if named else None
        if action is not None:
            return self._explain_argument(named.group(1), action, named.group(2))
        if message.startswith("the following arguments are required: "):
            missing = message.split(": ", 1)[1]
            return UserError(f"{self.prog} needs {missing}.", found="a command line without it",
                             expected=self._usage_line(), fix=f"add {missing}; {see_help}")
        if message.startswith("unrecognized arguments: "):
            surplus = message.split(": ", 1)[1]
            return UserError(f"{self.prog} does not know what to do with {surplus}.", found=surplus,
                             expected=self._usage_line(), fix=f"leave it out, or name its flag; {see_help}")
        return UserError(f"{self.prog}: {message}.", found=message, expected=self._usage_line(), fix=see_help)

    def _explain_argument(self, name: str, action: argparse.Action, complaint: str) -> UserError:
        see_help = f"see {self.prog} --help"
        value = re.search(r"(?:invalid choice|invalid .*? value): '?(.*?)'?(?: \(choose from .*)?$", complaint,
                          re.DOTALL)
        if value is None:
            return UserError(f"{self.prog}: {name}: {complaint}.", found=complaint, expected=_expectation(action, name),
                             fix=see_help)
        suggestion = did_you_mean(value.group(1), [str(choice) for choice in action.choices or ()])
        return UserError(f"{name} cannot be {value.group(1)}.", found=value.group(1),
                         expected=_expectation(action, name), fix=f"{suggestion}{see_help}")

    def _action_named(self, name: str) -> argparse.Action | None:
        for action in self._actions:
            if name in ("/".join(action.option_strings), action.metavar, action.dest):
                return action
        return None

    def _usage_line(self) -> str:
        return " ".join(self.format_usage().split()).removeprefix("usage: ")


class _HelpWithExamples(argparse.HelpFormatter):
    """Wraps the description, and leaves the command lines of the examples as they are."""

    def _fill_text(self, text, width, indent):
        before, examples, commands = text.partition(f"{HEADING}\n")
        wrapped = super()._fill_text(before, width, indent) if before.strip() else ""
        return "\n\n".join(part for part in (wrapped, f"{examples}{commands}") if part)


def _complete(parser: CommandParser) -> None:
    """Answers a shell that completes a command line by ``argcomplete``, where that is installed, and ends."""
    if importlib.util.find_spec("argcomplete") is None:
        return
    import argcomplete

    argcomplete.autocomplete(parser)


def did_you_mean(word: str, candidates: Sequence[str]) -> str:
    """``"did you mean A? "`` for the candidate nearest to ``word``, with a second that is as near; else an empty
    string.
    """
    folded = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(word.lower(), folded, n=2, cutoff=0.6)
    likeness = [difflib.SequenceMatcher(None, match, word.lower()).ratio() for match in matches]
    near = [folded[match] for match, ratio in zip(matches, likeness) if ratio > 0.9 * likeness[0]]
    return f"did you mean {' or '.join(near)}? " if near else ""


def run(function: Callable, *args, **kwargs) -> int:
    """Call ``function`` as the body of a command and return its exit code.

    A :class:`UserError`, and what the machine refuses (:mod:`~medsegdiff_auto.failures`), is printed to stderr as
    four lines and gives 2, Ctrl-C as one line and gives 130; the int that ``function`` returned, or 0, otherwise. Any
    other exception is a mistake of ours and propagates with its traceback.
    """
    configure_logging()
    _leave_interrupts_to(os.getpid())
    try:
        require_process_counts()
        result = function(*args, **kwargs)
        sys.stdout.flush()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is still being cleared away
        print(INTERRUPTED, file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # who reads our output has left, as head and less do
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as failure:
        error = as_user_error(failure)
        if error is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return result if isinstance(result, int) else 0


def _leave_interrupts_to(command: int) -> None:
    """Lets the processes that this one forks ignore Ctrl-C: a terminal sends it to all of them.

    During a fork itself Python would swallow the interruption: it comes again a moment later.
    """
    if not hasattr(os, "register_at_fork") or command in _COMMANDS:
        return
    _COMMANDS.add(command)
    forking: list[bool] = []

    def interrupt(*_) -> None:
        if not forking:
            raise KeyboardInterrupt
        threading.Timer(SECONDS_OF_A_FORK, os.kill, (os.getpid(), signal.SIGINT)).start()

    os.register_at_fork(before=lambda: forking.append(True), after_in_parent=forking.clear,
                        after_in_child=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    if threading.current_thread() is threading.main_thread() and signal.getsignal(
            signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def configure_logging() -> None:
    """Send the package's log from INFO upwards to stderr as plain text, unless the caller has set up logging."""
    logger = logging.getLogger("medsegdiff_auto")
    logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        handler = _StderrHandler()
        handler.setFormatter(_PlainFormatter())
        logger.addHandler(handler)
        logger.propagate = False  # a library may give the root logger a handler later: one line is enough


class _StderrHandler(logging.StreamHandler):
    """Writes to what ``sys.stderr`` is at that moment, so that it may be replaced between two commands."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr


class _PlainFormatter(logging.Formatter):
    """The bare message, headed by the level from WARNING upwards."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def _expectation(action: argparse.Action, name: str) -> str:
    if action.choices is not None:
        return f"one of {', '.join(str(choice) for choice in action.choices)}"
    numbers = action.type if isinstance(action.type, Numbers) else default_numbers().get(action.type)
    kind = str(numbers) if numbers else "a value" if action.type in (None, str) else "a valid value"
    several = action.nargs in ("+", "*") or (isinstance(action.nargs, int) and action.nargs > 1)
    return f"{name} {'followed by one or more values, each ' if several else 'followed by '}{kind}"


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True
