"""Imports without the garbage collector."""

import subprocess
import sys


def test_modules_are_frozen_and_the_collector_runs_again():
    code = (
        "import gc\n"
        "from efficientps.cli.imports import uncollected\n"
        "with uncollected():\n"
        "    assert not gc.isenabled()\n"
        "    import decimal\n"
        "frozen = gc.get_freeze_count()\n"
        "assert gc.isenabled() and frozen > 0\n"
        "later = []\n"
        "later.append(later)\n"
        "with uncollected():\n"
        "    import decimal\n"
        "assert gc.get_freeze_count() == frozen, 'nothing was imported'\n"
        "del later\n"
        "assert gc.collect() >= 1, 'new objects are collected'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
