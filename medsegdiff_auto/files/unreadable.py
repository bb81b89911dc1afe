"""A file that is no sound image, and the words for what is wrong with it."""

from medsegdiff_auto.findings import Finding

COPY_AGAIN = "copy or convert the file again"


class UnreadableScan(Exception):
    """A file that cannot be read as an image; ``finding`` says why."""

    def __init__(self, finding: Finding):
        super().__init__(f"{finding.file} {finding.check}: {finding.found}")
        self.finding = finding


def not_an_image(shown: str, failure: Exception) -> UnreadableScan:
    """For what a library says of a file; its last line is shown."""
    return UnreadableScan(Finding(shown, "cannot be read as an image", last_line(failure),
                                  "an image of the dataset's file ending", COPY_AGAIN))


def last_line(failure: Exception) -> str:
    """The last line of an exception's text, or its type where it has none."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return (lines[-1] if lines else type(failure).__name__)[:200]
