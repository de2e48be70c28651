"""Count the objects that no cell of SOLOv2's grids learns: the command of ``efficientps.cli.data.grid_coverage``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from efficientps.cli.data.grid_coverage import main

if __name__ == "__main__":
    sys.exit(main())
