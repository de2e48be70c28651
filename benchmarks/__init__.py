"""Measurements against peers, behind ``scripts/benchmark.py``.

Each benchmark is a module with a function ``run`` that returns a ``Report``: times of the compared sides, which take
turns in one process, other measurements, and the bars that the project sets itself.
"""
