"""The shape of JSON values: keys and types, without the values.

A scalar is the name of its type, several are joined by `|`; of a text that is one of a few words, the words in quotes.
A list is a list of the shape of its items. An object has its keys; those that some of the objects lack end in `?`. A
map, whose keys are data, has the one key `*`. What holds the user's own data is `any`.

A shape fits a promised one if nothing in it goes beyond that: whether a rate was still unknown, or a bulk operation was
running already, depends on the moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Names:
    """What is known of keys by their names: those of maps, of the user's own data, and of words."""

    maps: Collection[str] = ()
    free: Collection[str] = ()
    words: Collection[str] = ()

    def shape(self, key: str) -> Shape:
        """Of what stands under a key, before any was seen."""
        return Shape(is_any=key in self.free, is_map=key in self.maps, are_words=key in self.words)


NO_NAMES = Names()
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


@dataclass
class Shape:
    """What was seen in one place so far."""

    scalars: set[str] = field(default_factory=set)
    are_words: bool = False
    items: Shape | None = None
    objects: int = 0
    keys: dict[str, tuple[int, Shape]] = field(default_factory=dict)
    is_any: bool = False
    is_map: bool = False

    def add(self, value: Any, names: Names) -> None:
        """See one more value."""
        if isinstance(value, dict):
            self.objects += 1
            for key, each in value.items():
                name = "*" if self.is_map else key
                count, shape = self.keys.get(name) or (0, names.shape(key))
                shape.add(each, names)
                self.keys[name] = (count + 1, shape)
        elif isinstance(value, list):
            self.items = self.items or Shape(are_words=self.are_words)
            for each in value:
                self.items.add(each, names)
        elif self.are_words and isinstance(value, str):
            self.scalars.add(f"'{value}'")
        else:
            self.scalars.add(_NAMES[type(value)])

    def as_json(self) -> Any:
        """The shape as JSON."""
        if self.is_any:
            return "any"
        names = self.scalars - ({"integer"} if "number" in self.scalars else set())
        parts: list[Any] = ["|".join(sorted(names))] if names else []
        if self.items is not None:
            parts.append([] if self.items.is_empty else [self.items.as_json()])
        if self.objects:
            parts.append(
                {
                    key if self.is_map or count == self.objects else f"{key}?": shape.as_json()
                    for key, (count, shape) in self.keys.items()
                }
            )
        return parts[0] if len(parts) == 1 else {"one of": parts}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen here."""
        return not (self.scalars or self.items or self.objects)


def shape_of(values: Iterable[Any], names: Names = NO_NAMES) -> Any:
    """The shape of all `values` together."""
    shape = Shape()
    for value in values:
        shape.add(value, names)
    return shape.as_json()


def fits(found: Any, promised: Any) -> bool:
    """Whether all that was seen is promised; a key that is always there stays so."""
    if found == promised or promised == "any":
        return True
    if isinstance(promised, dict) and set(promised) == {"one of"}:
        parts = found["one of"] if isinstance(found, dict) and set(found) == {"one of"} else [found]
        return all(any(fits(part, one) for one in promised["one of"]) for part in parts)
    if isinstance(found, str) and isinstance(promised, str):
        return set(found.split("|")) <= set(promised.split("|"))
    if isinstance(found, list) and isinstance(promised, list):
        return all(any(fits(item, one) for one in promised) for item in found)
    return isinstance(found, dict) and isinstance(promised, dict) and _keys_fit(found, promised)


def unite(found: Any, promised: Any) -> Any:
    """What is promised, and what was seen beyond it. No promise is taken back: what was not seen stays, and a key that
    is always there stays so, which is for a person to change."""
    if fits(found, promised):
        return promised
    if found == "any":
        return found
    scalars: set[str] = set()
    items: list[Any] = []
    objects: list[dict[str, Any]] = []
    for part in (*_parts_of(promised), *_parts_of(found)):
        if isinstance(part, str):
            scalars |= set(part.split("|"))
        elif isinstance(part, list):
            items.append(part)
        else:
            objects.append(part)
    parts: list[Any] = ["|".join(sorted(scalars))] if scalars else []
    if items:
        parts.append(_unite_items(*items))
    if objects:
        parts.append(_unite_keys(*objects))
    return parts[0] if len(parts) == 1 else {"one of": parts}


def _parts_of(shape: Any) -> list[Any]:
    return shape["one of"] if isinstance(shape, dict) and set(shape) == {"one of"} else [shape]


def _unite_items(promised: list[Any], *found: list[Any]) -> list[Any]:
    for each in found:
        promised = [unite(each[0], promised[0])] if each and promised else each or promised
    return promised


def _unite_keys(promised: dict[str, Any], *found: dict[str, Any]) -> dict[str, Any]:
    known = {key.removesuffix("?"): key for key in promised}
    united = dict(promised)
    for each in found:
        for key, shape in each.items():
            name = known.get(key.removesuffix("?"), key)
            united[name] = unite(shape, united[name]) if name in united else shape
    return united


def _keys_fit(found: dict[str, Any], promised: dict[str, Any]) -> bool:
    seen = {key.removesuffix("?") for key in found}
    if any(not key.endswith("?") and key not in found for key in promised if key != "*"):
        return False
    known = {key.removesuffix("?") for key in promised}
    return seen <= known and all(
        fits(each, promised.get(key, promised.get(f"{key.removesuffix('?')}?"))) for key, each in found.items()
    )
