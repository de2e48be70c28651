"""Print the lowest versions that requirements.txt allows, one ``name==version`` per line, for pip.

    python scripts/lowest_requirements.py > constraints.txt

``scripts/test.sh --lowest`` installs them and runs tests with them.
"""

import re
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"


def lowest(lines: list[str]) -> list[str]:
    """Return ``name==version`` for each line ``name[extras]>=version,...``; comments and empty lines are left out.

    Raises:
        ValueError: a requirement has no lower bound.

    >>> lowest(["# a comment", "numpy>=1.26", "jsonargparse[signatures]>=4.50,<5"])
    ['numpy==1.26', 'jsonargparse[signatures]==4.50']
    """
    pinned = []
    for line in lines:
        requirement = line.partition("#")[0].strip()
        if not requirement:
            continue
        found = re.match(r"([A-Za-z0-9._-]+(?:\[[^\]]+\])?)\s*>=\s*([^,;\s]+)", requirement)
        if found is None:
            raise ValueError(f"The requirement '{requirement}' has no lower bound; write it as name>=version.")
        pinned.append(f"{found[1]}=={found[2]}")
    return pinned


if __name__ == "__main__":
    try:
        print("\n".join(lowest(REQUIREMENTS.read_text().splitlines())))
    except ValueError as error:
        sys.exit(f"error: {error}")
