"""The one exception for mistakes that the user can repair."""

from functools import partial


class UserError(Exception):
    """A mistake that the user can repair: what is wrong, what was found, what was expected, how to fix it.

    The commands print it as four lines and end with exit code 2, without a traceback.
    """

    def __init__(self, what: str, *, found: str, expected: str, fix: str):
        super().__init__(what)
        self.what, self.found, self.expected, self.fix = what, found, expected, fix

    def __reduce__(self):
        """Pickles by keyword, so that an error of a worker process arrives as itself."""
        return partial(type(self), self.what, found=self.found, expected=self.expected, fix=self.fix), ()

    def __str__(self) -> str:
        return (f"{self.what}\n"
                f"  found:    {self.found}\n"
                f"  expected: {self.expected}\n"
                f"  fix:      {self.fix}")
