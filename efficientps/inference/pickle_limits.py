"""Limits of the pickle stream in an untrusted checkpoint, checked before PyTorch's restricted reader runs it.

PyTorch's reader calls harmless functions only, but a small stream can make them take minutes and gigabytes: a
``bytearray`` of any size, keys that all have one hash, tuples that are too deep to be hashed. The stream is therefore
followed once with a small number in the place of each value.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import torch

_MOST_OPERATIONS = 340_000
"""Three times what a checkpoint of EfficientNet-B7 with AdamW has."""

_DEEPEST = 100
"""Lists, tuples and dictionaries that are begun inside one another; checkpoints have less than ten."""

_LARGEST_ARGUMENT = 100
"""Values in the arguments of a call, or in a key that is a tuple."""

_MOST_RARE = 200
"""Keys that are neither texts nor short numbers, and objects that are given attributes."""

_LONGEST_NAME = 200
_LONGEST_NUMBER = 8
"""Bytes of a whole number that may be a key without being counted: few of these have one hash."""

_CALLED = frozenset(
    ["collections OrderedDict", "torch Size", "torch device", "torch.serialization _get_layout"]
    + ["torch._utils _rebuild_" + name for name in ("meta_tensor_no_storage", "parameter", "tensor_v2", "tensor_v3")]
)
"""Functions that take the same time whatever their arguments are, as long as these are few."""

# Values are followed as numbers: 0 is a text, a short number or an empty tuple; a positive number is how many values a
# tuple has in all; a negative number is a function, by its place in a list.
_SIMPLE, _OBJECT, _MANY = 0, 1, 1000

_PUSHED = {
    pickle.NONE: (0, _SIMPLE),
    pickle.NEWTRUE: (0, _SIMPLE),
    pickle.NEWFALSE: (0, _SIMPLE),
    pickle.BININT: (4, _SIMPLE),
    pickle.BININT1: (1, _SIMPLE),
    pickle.BININT2: (2, _SIMPLE),
    pickle.BINFLOAT: (8, _SIMPLE),
    pickle.EMPTY_TUPLE: (0, _SIMPLE),
    pickle.EMPTY_LIST: (0, _MANY),
    pickle.EMPTY_DICT: (0, _MANY),
}
"""Operations that push one value: the bytes that follow the operation, and the number of the value."""

_TEXTS = {pickle.BINUNICODE: 4, pickle.SHORT_BINSTRING: 1, pickle.LONG1: 1}
"""Operations whose value has a length, and the bytes of that length."""

_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_PUTS = {pickle.BINPUT: 1, pickle.LONG_BINPUT: 4}
_GETS = {pickle.BINGET: 1, pickle.LONG_BINGET: 4}


class PickleLimitError(ValueError):
    """A stream exceeds a limit; the message continues a sentence about the file."""


def check_stream(stream: bytes) -> None:
    """Check that PyTorch's restricted reader takes a time and a memory that grow with the length of the stream only.

    Args:
        stream: the part ``data.pkl`` of a file that ``torch.save`` wrote.

    Raises:
        PickleLimitError: the stream is damaged, exceeds a limit, or holds more than tensors and plain types.
    """
    try:
        _Follower(stream).follow()
    except (IndexError, KeyError, UnicodeDecodeError):
        raise PickleLimitError("is damaged: the list of its values breaks off") from None


class _Follower:
    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._at = 0
        self._stack: list[int] = []
        self._outer: list[list[int]] = []
        self._memo: dict[int, int] = {}
        self._functions: list[str] = []
        self._rare = 0
        self._trusted = _trusted_by_the_user()

    def follow(self) -> None:
        for _ in range(_MOST_OPERATIONS):
            code = self._bytes(1)
            if code in _PUSHED:
                length, value = _PUSHED[code]
                self._at += length
                self._stack.append(value)
            elif code in _PUTS:
                self._memo[self._number(_PUTS[code])] = self._stack[-1]
            elif code in _GETS:
                self._stack.append(self._memo[self._number(_GETS[code])])
            elif code in _TEXTS:
                length = self._number(_TEXTS[code])
                self._at += length
                self._stack.append(_OBJECT if code == pickle.LONG1 and length > _LONGEST_NUMBER else _SIMPLE)
            elif code == pickle.MARK:
                if len(self._outer) == _DEEPEST:
                    raise PickleLimitError(f"has values that are nested more than {_DEEPEST} deep")
                self._outer.append(self._stack)
                self._stack = []
            elif code == pickle.STOP:
                return
            else:
                self._reduce_stack(code)
        raise PickleLimitError(f"has more than {_MOST_OPERATIONS} values and operations beside its tensors")

    def _reduce_stack(self, code: bytes) -> None:
        if code in _TUPLES:
            items = [self._stack.pop() for _ in range(_TUPLES[code])]
            self._stack.append(_in_all(items))
        elif code == pickle.TUPLE:
            items = self._since_mark()
            self._stack.append(_in_all(items))
        elif code == pickle.SETITEM:
            self._stack.pop()
            self._check_keys([self._stack.pop()])
        elif code == pickle.SETITEMS:
            self._check_keys(self._since_mark()[::2])
        elif code == pickle.APPEND:
            self._stack.pop()
        elif code == pickle.APPENDS:
            self._since_mark()
        elif code in (pickle.REDUCE, pickle.NEWOBJ):
            arguments = self._stack.pop()
            self._check_call(self._stack.pop(), arguments, makes=code == pickle.NEWOBJ)
            self._stack.append(_OBJECT)
        elif code == pickle.BINPERSID:
            self._check_arguments(self._stack.pop())
            self._stack.append(_OBJECT)
        elif code == pickle.BUILD:
            self._stack.pop()
            self._count_rare(1)
        elif code == pickle.GLOBAL:
            self._functions.append(f"{self._line()} {self._line()}")
            self._stack.append(-len(self._functions))
        elif code == pickle.PROTO:
            self._at += 1
        else:
            raise _not_plain(f"operation {code[0]} of pickle")

    def _bytes(self, number: int) -> bytes:
        found = self._stream[self._at : self._at + number]
        if len(found) < number:
            raise IndexError
        self._at += number
        return found

    def _number(self, length: int) -> int:
        return int.from_bytes(self._bytes(length), "little")

    def _line(self) -> str:
        end = self._stream.find(b"\n", self._at, self._at + _LONGEST_NAME)
        if end < 0:
            raise PickleLimitError(f"names a class in more than {_LONGEST_NAME} characters")
        line = self._stream[self._at : end].decode()
        self._at = end + 1
        return line

    def _since_mark(self) -> list[int]:
        items = self._stack
        self._stack = self._outer.pop()
        return items

    def _check_keys(self, keys: Sequence[int]) -> None:
        if rare := [key for key in keys if key != _SIMPLE]:
            self._count_rare(len(rare))
            self._check_arguments(max(rare))

    def _check_arguments(self, number: int) -> None:
        if number > _LARGEST_ARGUMENT:
            raise PickleLimitError(f"has a call or a key of more than {_LARGEST_ARGUMENT} values")

    def _check_call(self, function: int, arguments: int, *, makes: bool) -> None:
        name = self._functions[-function - 1] if function < 0 else "no function"
        if name in self._trusted:
            return
        if makes or name not in _CALLED:
            raise _not_plain(name)
        self._check_arguments(arguments)

    def _count_rare(self, number: int) -> None:
        self._rare += number
        if self._rare > _MOST_RARE:
            raise PickleLimitError(f"has more than {_MOST_RARE} objects with attributes and keys that are not texts")


def _in_all(items: Sequence[int]) -> int:
    return min(len(items) + sum(item for item in items if item > 0), _MANY)


def _not_plain(what: str) -> PickleLimitError:
    text = "".join(character if character.isprintable() else "?" for character in what)
    return PickleLimitError(
        f"holds objects that are not tensors or plain types ({text}); it was refused, because loading it could run code"
    )


def _trusted_by_the_user() -> frozenset[str]:
    """Return what ``torch.serialization.add_safe_globals`` was given."""
    given = [item if isinstance(item, tuple) else (item, "") for item in torch.serialization.get_safe_globals()]
    names = [name or f"{item.__module__}.{item.__qualname__}" for item, name in given]
    # A stream of the protocol that torch.save writes has the name of Python 2 for the module of built-in functions.
    return frozenset(" ".join(name.rsplit(".", 1)).replace("builtins ", "__builtin__ ") for name in names)
