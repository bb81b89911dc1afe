"""``medsegdiff_import``: a model file of somebody else as a model folder, after its self-test."""

from __future__ import annotations

import os
from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.cores import compute_on_cpu, num_cores


def main(argv=None) -> int:
    return run(_import, command_parser().parse_args(argv))


def command_parser() -> CommandParser:
    """The flags of ``medsegdiff_import``."""
    parser = CommandParser(
        prog="medsegdiff_import", description="Checks a file of medsegdiff_export, runs its self-test, and leaves a "
        "model folder that every command and nnU-Net's predictor read. Nothing in the file is run as code.")
    parser.add_argument("file", metavar="FILE", help="the model file")
    parser.add_argument("-o", metavar="FOLDER",
                        help="a new folder for the model (default: nnU-Net's place of it in nnUNet_results)")
    parser.add_argument("-results", metavar="FOLDER", help="overrides nnUNet_results")
    return parser


def _import(args) -> None:
    paths.use_folders(results=args.results)
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    from medsegdiff_auto.handover.card import NOT_STATED
    from medsegdiff_auto.handover.importing import import_model

    compute_on_cpu()
    imported = import_model(Path(args.file), Path(args.o) if args.o else None)
    terms = imported.manifest.terms
    print(f"{imported.manifest.dataset}, {imported.manifest.model} in {imported.folder}")
    print(f"Self-test: {imported.self_test}.")
    for what, licence in (("weights", terms.weights_licence), ("data", terms.data_licence)):
        print(f"Licence of the {what}: {' '.join((licence or NOT_STATED).split())}")
    print(f"Read {imported.folder / 'README.md'}, then: "
          f"medsegdiff_predict -m {imported.folder} -i IMAGES -o MASKS")
