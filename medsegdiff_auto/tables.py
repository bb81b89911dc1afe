"""Tables whose rows are files: a module of a package is a row, and its name is the row's name. Free of torch.

    table      folder               a row
    SOLVERS    diffusion/solvers    a :class:`~medsegdiff_auto.diffusion.solver.Solver` named ``SOLVER``
    DECODERS   decision/decoders    a :class:`~medsegdiff_auto.decision.decoder.Decoder` named ``DECODER``
    SCORES     evaluation/scores    a :class:`~medsegdiff_auto.evaluation.score.Score` named ``SCORE``

Names are read from the folder without importing a row, so that a command knows its choices before it loads torch. A row
is imported when it is asked for. To add one, add a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """The rows of one package.

    Attributes:
        package: dotted name of the folder whose modules are the rows.
        attribute: name that every row module gives its row.
    """

    package: str
    attribute: str

    def names(self) -> list[str]:
        """Names of all rows, sorted."""
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations is not None, self.package
        files = [file for folder in spec.submodule_search_locations for file in Path(folder).glob("*.py")]
        return sorted(file.stem for file in files if not file.stem.startswith("_"))

    def row(self, name: str) -> Any:
        """The row of this name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        if name not in self.names():
            raise ValueError(f"{name!r} is none of {', '.join(self.names())}")
        return getattr(import_module(f"{self.package}.{name}"), self.attribute)


SOLVERS = Table("medsegdiff_auto.diffusion.solvers", "SOLVER")
DECODERS = Table("medsegdiff_auto.decision.decoders", "DECODER")
SCORES = Table("medsegdiff_auto.evaluation.scores", "SCORE")
