"""The lines that stay on a terminal, without colours and without what a progress bar has drawn over."""

from __future__ import annotations

import re
from collections.abc import Callable

_CONTROL = re.compile(
    r"\x1b\[(?P<numbers>[?\d;]*)(?P<command>[@-~])"  # colours, movements of the cursor, erasures
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|(?P<end>\r?\n)|(?P<start>\r)|[\x00-\x08\x0b-\x1f\x7f]"
)


class TerminalLines:
    r"""Takes what a program writes to a terminal, and gives the lines that stay there.

    It knows what progress bars do: those of one line write over it after a carriage return; those of several lines hide
    the cursor, and go up and erase before they draw again. Lines below a bar of the latter kind are given when the bar
    is drawn again.

    Args:
        keep: is called with each line, without its end.

    >>> lines = TerminalLines(print)
    >>> lines.write("\rstep 1\rstep 2\n\x1b[1mdone\x1b[0m\n")
    step 2
    done
    """

    def __init__(self, keep: Callable[[str], None]) -> None:
        """Begin with an empty line."""
        self._keep = keep
        self._line = ""
        self._returned = False  # whether the cursor is at the start of the line, which the next text replaces
        self._above: list[str] = []  # lines that a bar can still erase
        self._erased = False
        self._has_bar = False

    def write(self, text: str) -> None:
        """Take text, with control codes."""
        place = 0
        for found in _CONTROL.finditer(text):
            self._add(text[place : found.start()])
            self._obey(found)
            place = found.end()
        self._add(text[place:])

    def close(self) -> None:
        """Give what has not been given, also a line without an end."""
        self._give_above()
        if self._line:
            self._keep(self._line.rstrip())
        self._line = ""

    def _add(self, text: str) -> None:
        if not text:
            return
        if self._erased:  # the bar is drawn again: what is above its place stays
            self._give_above()
        self._line = text if self._returned else self._line + text
        self._erased = self._returned = False

    def _obey(self, found: re.Match[str]) -> None:
        """Follow a control code; those that are not known, colours among them, do nothing."""
        numbers, command = found["numbers"], found["command"]
        if found["end"]:
            self._above.append(self._line)
            self._line, self._returned = "", False
            if not self._has_bar:
                self._give_above()
        elif found["start"]:
            self._returned = True
        elif command == "K":
            self._line, self._erased = "", True
        elif command == "A":
            for _ in range(int(numbers) if numbers.isdecimal() else 1):
                self._line = self._above.pop() if self._above else ""
            self._erased = True
        elif numbers == "?25":
            self._has_bar = command == "l"  # the cursor is hidden
            if not self._has_bar:
                self._give_above()

    def _give_above(self) -> None:
        lines, self._above = self._above, []
        for line in lines:
            self._keep(line.rstrip())
