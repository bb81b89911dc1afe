"""``python -m medsegdiff_auto.cli COMMAND ...`` is ``medsegdiff_COMMAND ...`` with this Python, where no script is
installed or another one's would be found.
"""

import importlib
import sys
from pathlib import Path

from medsegdiff_auto.cli.command import CommandParser
from medsegdiff_auto.errors import UserError


def main() -> int:
    parser = CommandParser(prog="python -m medsegdiff_auto.cli", add_help=False)
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    commands = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    if name not in commands:
        parser.fail(UserError("There is no such command.", found=name or "none", expected=", ".join(commands),
                              fix="give one of these as the first word"))
    return importlib.import_module(f"medsegdiff_auto.cli.{name}").main()


if __name__ == "__main__":
    sys.exit(main())
