"""``medsegdiff_phantoms``: writes a synthetic raw dataset whose true posterior is known."""

from pathlib import Path

from medsegdiff_auto import paths
from medsegdiff_auto.cli.command import CommandParser, run
from medsegdiff_auto.numeric_flags import COUNT, COUNT_OR_NONE, POSITIVE


def main(argv=None) -> int:
    """Entry point of ``medsegdiff_phantoms``."""
    parser = CommandParser(
        prog="medsegdiff_phantoms",
        description="Writes synthetic cases with ambiguous boundaries as a raw nnU-Net dataset. Their "
        "true posterior P(mask | image) is known and stored in posterior/.")
    parser.add_argument("-o", metavar="RAW_FOLDER", help="where the dataset's folder goes (default: $nnUNet_raw)")
    parser.add_argument("-d", type=int, required=True, metavar="ID", help="dataset ID, 1 to 999")
    parser.add_argument("--name", default="Phantoms", help="name of the dataset (default: %(default)s)")
    parser.add_argument("--dimension", type=int, choices=(2, 3), default=3, help="(default: %(default)s)")
    parser.add_argument("--modality", choices=("CT", "MRI"), default="MRI", help="(default: %(default)s)")
    parser.add_argument("--channels", type=COUNT, default=1, metavar="N",
                        help="CT has 2 (CT, PET), MRI 4 (T1, T2, FLAIR, T1c) (default: %(default)s)")
    parser.add_argument("--structures", type=COUNT, default=2, metavar="N",
                        help="an organ and N - 1 lesions in or at it, 1 to 4 (default: %(default)s)")
    parser.add_argument("--shape", type=COUNT, nargs="+", metavar="VOXELS",
                        help="size along each array axis, z y x or y x (default: 40 48 40 or 96 96); varies by 10 %%")
    parser.add_argument("--spacing", type=POSITIVE, nargs="+", metavar="MM",
                        help="voxel spacing along each array axis (default: 1); varies by 8 %%")
    parser.add_argument("--cases", type=COUNT, default=24, metavar="N", help="training cases (default: %(default)s)")
    parser.add_argument("--test_cases", type=COUNT_OR_NONE, default=6, metavar="N",
                        help="test cases (default: %(default)s)")
    parser.add_argument("--raters", type=COUNT, default=1, metavar="N",
                        help="independent annotations of each case; labelsTr holds the first (default: %(default)s)")
    parser.add_argument("--regions", action="store_true", help="declare nested regions in place of labels")
    parser.add_argument("--ignore", action="store_true",
                        help="mark a third of every second training case with an ignore label")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files (default: %(default)s)")
    args = parser.parse_args(argv)
    return run(_write, args)


def _write(args) -> None:
    raw_folder = Path(args.o) if args.o else paths.require_folder("nnUNet_raw")
    from medsegdiff_auto.phantoms.nnunet_dataset import Labelling, write_phantom_dataset
    from medsegdiff_auto.phantoms.phantom import PhantomKind

    kind = PhantomKind(args.dimension, args.modality, args.channels, args.structures,
                       shape=tuple(args.shape) if args.shape else None,
                       spacing_mm=tuple(args.spacing) if args.spacing else None)
    folder = write_phantom_dataset(raw_folder, args.d, args.name, (args.cases, args.test_cases), kind,
                                   Labelling(args.raters, args.regions, args.ignore), args.seed)
    print(f"Wrote {args.cases} training and {args.test_cases} test cases to {folder}")
