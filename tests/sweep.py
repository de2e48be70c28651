"""One test over many cases, in place of one test for each."""

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def sweep(names: str, cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on each case and name every case that fails, where ``pytest.mark.parametrize`` makes a test of each.

    Each case has a ``tmp_path`` of its own; ``monkeypatch`` is undone and ``capsys`` or ``capfd`` emptied between two.

    Args:
        names: the arguments of the test that a case holds, with commas between them.
        cases: a value each, or a tuple where there is more than one name.
    """
    words = [word.strip() for word in names.split(",")]
    cases = list(cases)
    assert cases, "a test of no case cannot fail"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            failures = []
            for number, case in enumerate(cases):
                values = dict(zip(words, case if len(words) > 1 else (case,), strict=True))
                try:
                    _run_case(test, number, fixtures, values)
                except (Exception, pytest.fail.Exception) as error:
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    failures.append(f"{values}\n  {place.filename}:{place.lineno}: {type(error).__name__}: {error}")
            if failures:
                pytest.fail(f"{len(failures)} of {len(cases)} cases fail:\n" + "\n".join(failures), pytrace=False)

        signature = inspect.signature(test)
        rest = [parameter for name, parameter in signature.parameters.items() if name not in words]
        run.__signature__ = signature.replace(parameters=rest)
        return run

    return decorate


def _run_case(test: Callable[..., None], number: int, fixtures: dict[str, Any], values: dict[str, Any]) -> None:
    own = dict(fixtures)
    for name in {"capsys", "capfd"} & own.keys():
        own[name].readouterr()
    if "tmp_path" in own:
        own["tmp_path"] = own["tmp_path"] / f"case_{number}"
        own["tmp_path"].mkdir()
    if "monkeypatch" not in own:
        return test(**own, **values)
    with own["monkeypatch"].context() as patches:
        test(**own | {"monkeypatch": patches}, **values)
