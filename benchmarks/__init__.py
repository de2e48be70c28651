"""Measurements against peers, behind ``scripts/benchmark.py``.

Each benchmark is a module with one function that returns a ``Report``: sides that are timed in turns within one
process, what else was measured, and the bars that the project sets itself.
"""
