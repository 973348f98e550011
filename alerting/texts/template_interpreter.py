"""The interpreter of templates: walks what has been checked, and counts its steps.

What is hidden in one step, such as a comparison of two long lists, counts by the size of what it looks at, so that a
template costs no more than its budget, however large the values are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from jinja2 import nodes

from alerting.texts.template_filters import Filter, to_text

MOST_ROUNDS: Final = 20
"""Items of a list that a loop is over; what is beyond is left out."""
MOST_STEPS: Final = 50_000
"""Of one text; far more than a template of any use takes."""
_CHARACTERS_A_STEP: Final = 100

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda item, items: item in items,
    "notin": lambda item, items: item not in items,
}
_MISTAKES: Final = (TypeError, ValueError, ArithmeticError, LookupError)


class Exhausted(Exception):
    """The steps of a text are used up."""


class Interpreter:
    """Of one text; `complain` is told of every expression that does not fit its values."""

    __slots__ = ("_complain", "_filters", "_left")

    def __init__(self, filters: Mapping[str, Filter], complain: Callable[[nodes.Node, Exception], None]) -> None:
        self._filters = filters
        self._complain = complain
        self._left = MOST_STEPS

    def parts(self, body: Iterable[nodes.Node], names: Mapping[str, Any]) -> Iterator[str]:
        """What stands in its place, one after the other. Raises Exhausted."""
        for node in body:
            if isinstance(node, nodes.Output):
                for item in node.nodes:
                    yield item.data if isinstance(item, nodes.TemplateData) else self._shown(item, names)
            elif isinstance(node, nodes.If):
                taken = next((branch for branch in (node, *node.elif_) if self._judge(branch.test, names)), None)
                yield from self.parts(node.else_ if taken is None else taken.body, names)
            elif isinstance(node, nodes.For):
                assert isinstance(node.target, nodes.Name)  # it has been checked
                items = self._judge(node.iter, names)
                if isinstance(items, list) and items:
                    for item in items[:MOST_ROUNDS]:
                        yield from self.parts(node.body, {**names, node.target.name: item})
                else:
                    yield from self.parts(node.else_, names)

    def _shown(self, node: nodes.Node, names: Mapping[str, Any]) -> str:
        try:
            value = self._value(node, names)
            self._spend(value)
            return to_text(value)
        except _MISTAKES as error:
            self._complain(node, error)
            return f"[{type(error).__name__} in line {node.lineno}]"

    def _judge(self, node: nodes.Node, names: Mapping[str, Any]) -> Any:
        """The value of what decides over other parts; a mistaken one is as if it were absent."""
        try:
            return self._value(node, names)
        except _MISTAKES as error:
            self._complain(node, error)
            return None

    def _value(self, node: nodes.Node, names: Mapping[str, Any]) -> Any:
        self._spend()
        match node:
            case nodes.Const():
                return node.value
            case nodes.Name():
                return names.get(node.name)
            case nodes.Getattr():
                return _item(self._value(node.node, names), node.attr)
            case nodes.Getitem():
                return _item(self._value(node.node, names), self._value(node.arg, names))
            case nodes.Filter():
                assert node.node is not None  # `{% filter %}` blocks have none, and are refused
                values = [self._value(item, names) for item in (node.node, *node.args)]
                self._spend(*values)
                return self._filters[node.name](*values)
            case nodes.Compare():
                return self._compare(node, names)
            case nodes.And():
                return self._value(node.left, names) and self._value(node.right, names)
            case nodes.Or():
                return self._value(node.left, names) or self._value(node.right, names)
            case nodes.Not():
                return not self._value(node.node, names)
            case nodes.Neg():
                return -self._value(node.node, names)
            case nodes.CondExpr():
                chosen = node.expr1 if self._value(node.test, names) else node.expr2
                return None if chosen is None else self._value(chosen, names)
            case nodes.Tuple() | nodes.List():
                return [self._value(item, names) for item in node.items]
        raise TypeError(f"{type(node).__name__} is not allowed")

    def _compare(self, node: nodes.Compare, names: Mapping[str, Any]) -> bool:
        left = self._value(node.expr, names)
        for operand in node.ops:
            right = self._value(operand.expr, names)
            self._spend(left, right)
            if not _COMPARE[operand.op](left, right):
                return False
            left = right
        return True

    def _spend(self, *values: object) -> None:
        self._left -= 1 + sum(map(_size, values))
        if self._left < 0:
            raise Exhausted


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value) // _CHARACTERS_A_STEP
    if isinstance(value, list):
        return len(value) + sum(map(_size, value))
    if isinstance(value, Mapping):
        return len(value) + sum(map(_size, value.values()))
    return 0


def _item(value: object, key: object) -> Any:
    """Keys of mappings and places of lists, which plain data has; nothing else has any."""
    if isinstance(value, Mapping):
        return value.get(key) if isinstance(key, str) else None
    if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool):
        return value[key] if -len(value) <= key < len(value) else None
    return None
