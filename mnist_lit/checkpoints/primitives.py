"""Walk nested settings that may come from anyone."""

from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str, ...]  # the keys that lead to a value in nested settings


class RefusedError(Exception):
    """The reason to refuse a checkpoint, as the end of a sentence."""


def is_primitive(value: object) -> bool:
    """Whether a value is None or of a primitive type; a subclass of one is not."""
    return value is None or type(value) in (bool, int, float, str)


def values(value: Any, keys: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each value in nested settings with the keys that lead to it, and None for a container.

    Types are exact: a subclass, such as an ordered dictionary, is no primitive.
    """
    if type(value) is dict:
        yield keys, None
        for key, inner in value.items():
            if type(key) is not str or "." in key or key.startswith("__"):
                raise RefusedError(f"{'.'.join(keys)} has the key {key!r}")
            yield from values(inner, (*keys, key))
    elif type(value) in (list, tuple):
        yield keys, None
        for inner in value:
            yield from values(inner, keys)
    elif is_primitive(value):
        yield keys, value
    else:
        raise RefusedError(f"{'.'.join(keys)} is a {type(value).__name__}")


def leaves(value: Any) -> Iterator[Any]:
    """Yield each value in nested containers, and each container, as often as it occurs."""
    yield value
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)


def texts(value: Any) -> Iterator[str]:
    """Yield each string in nested values, keys included; a value may occur in many places."""
    pending, seen = [value], set()
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            pending += [*value, *value.values()] if isinstance(value, dict) else value


def without_tuples(value: Any) -> Any:
    """Replace each tuple in nested settings by a list, as a configuration has them."""
    if isinstance(value, dict):
        return {key: without_tuples(inner) for key, inner in value.items()}
    return [*map(without_tuples, value)] if isinstance(value, list | tuple) else value
