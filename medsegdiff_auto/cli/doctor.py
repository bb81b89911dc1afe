"""``medsegdiff_doctor``: whether this machine can train and predict, and what to repair."""

from __future__ import annotations

import json

from medsegdiff_auto.cli.command import CommandParser, run

EXIT_ILL = 1


def main(argv=None) -> int:
    parser = CommandParser(
        prog="medsegdiff_doctor", description="Looks at libraries, device, memory, cores, disk and folders, as far as "
        "they are granted to this process; one line each, with a fix. Ends with 1 where something has to be repaired.")
    parser.add_argument("--compile", action="store_true", help="try torch.compile too, which takes up to minutes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return run(_examine, parser.parse_args(argv))


def _examine(args) -> int:
    from medsegdiff_auto.checks.machine import judged, measured

    return show(judged(measured(args.compile)), args.json)


def show(judgements, as_json: bool) -> int:
    """Prints the judgements, and returns the exit code."""
    from dataclasses import asdict

    from medsegdiff_auto.checks.machine import ERROR

    is_well = all(one.state != ERROR for one in judgements)
    if as_json:
        print(json.dumps({"is_well": is_well, "judgements": [asdict(one) for one in judgements]}, indent=2))
    else:
        for one in judgements:
            print(f"{one.state:<8} {one.subject:<22} {one.found}" + (f"; fix: {one.fix}" if one.fix else ""))
    return 0 if is_well else EXIT_ILL
