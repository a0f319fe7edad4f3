"""The shape of JSON values: keys and types, without the values.

A scalar is the name of its type, several are joined by `|`. A list is a list of the shape of its items. An object has
its keys; those that some of the objects lack end in `?`. A map, whose keys are data, has the one key `*`. What holds
the user's own data is `any`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


@dataclass
class Shape:
    """What was seen in one place so far."""

    scalars: set[str] = field(default_factory=set)
    items: Shape | None = None
    objects: int = 0
    keys: dict[str, tuple[int, Shape]] = field(default_factory=dict)
    is_any: bool = False
    is_map: bool = False

    def add(self, value: Any, maps: Collection[str] = (), free: Collection[str] = ()) -> None:
        """See one more value. `maps` and `free` = names of keys that hold a map, or the user's own data."""
        if isinstance(value, dict):
            self.objects += 1
            for key, each in value.items():
                name = "*" if self.is_map else key
                count, shape = self.keys.get(name, (0, Shape(is_any=key in free, is_map=key in maps)))
                shape.add(each, maps, free)
                self.keys[name] = (count + 1, shape)
        elif isinstance(value, list):
            self.items = self.items or Shape()
            for each in value:
                self.items.add(each, maps, free)
        else:
            self.scalars.add(_NAMES[type(value)])

    def told(self) -> Any:
        """The shape as JSON."""
        if self.is_any:
            return "any"
        names = self.scalars - ({"integer"} if "number" in self.scalars else set())
        parts: list[Any] = ["|".join(sorted(names))] if names else []
        if self.items is not None:
            parts.append([] if self.items.is_empty else [self.items.told()])
        if self.objects:
            parts.append(
                {
                    key if self.is_map or count == self.objects else f"{key}?": shape.told()
                    for key, (count, shape) in self.keys.items()
                }
            )
        return parts[0] if len(parts) == 1 else {"one of": parts}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen here."""
        return not (self.scalars or self.items or self.objects)


def shape_of(values: Iterable[Any], maps: Collection[str] = (), free: Collection[str] = ()) -> Any:
    """The shape of all `values` together."""
    shape = Shape()
    for value in values:
        shape.add(value, maps, free)
    return shape.told()
