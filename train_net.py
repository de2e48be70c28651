"""Train, evaluate and run a panoptic network: ``python train_net.py [fit | validate | test | predict] [options]``."""

import sys

from efficientps.cli.imports import uncollected

with uncollected():
    from efficientps.cli.train import run

if __name__ == "__main__":
    sys.exit(run())
