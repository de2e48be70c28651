"""The parser of the commands that start without PyTorch and Lightning."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import NoReturn


class CommandParser(argparse.ArgumentParser):
    """Answers a misspelt option with the one of its own that is nearest, and takes no abbreviations.

    Args:
        prog: name of the program in its help; ``None`` is the file that Python runs.
        description: what the command does.
    """

    def __init__(self, prog: str | None, description: str) -> None:
        """Make a parser without options."""
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def format_help(self) -> str:
        """Return the help with the default of each option that has one."""
        return re.sub(r"\s+\(default:\s*(None|False|\[\])?\)", "", super().format_help())

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with code 2."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        near = self._near(unknown[1]) if unknown else None
        super().error(f"{message}; did you mean {near}?" if near else message)

    def refuse_misspelt(self, words: Iterable[str]) -> None:
        """Exit with an error if one of the words that ``parse_known_args`` has left is nearly an option."""
        for word in words:
            option = word.partition("=")[0]
            if option.startswith("--") and self._near(option):
                self.error(f"unrecognized arguments: {word}")

    def _near(self, option: str) -> str | None:
        """Return the option that a misspelt one is nearest to, if there is one."""
        return next(iter(difflib.get_close_matches(option, re.findall(r"--[\w-]+", self.format_usage()), n=1)), None)
