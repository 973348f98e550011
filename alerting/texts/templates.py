"""Templates that people write into a configuration: Jinja's syntax, and only what can do no harm of it.

Jinja parses; what it parsed is checked against a list of what is allowed, and then walked by a small interpreter of our
own: no code is made from a template, no call, attribute or method of a Python object can be reached, and the cost is
bounded by the lengths of the source, the loops and the output, and by the steps that are taken.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from jinja2 import Environment, TemplateSyntaxError, nodes

from alerting.rules.expressions import did_you_mean
from alerting.texts.alert_context import VARIABLES, context_of
from alerting.texts.template_filters import FILTERS, Filter, plain, zone_of
from alerting.texts.template_interpreter import Exhausted, Interpreter
from tables.errors import ConfigError

__all__ = ["VARIABLES", "Template", "compile_template", "context_of"]

logger = logging.getLogger(__name__)

LONGEST_SOURCE: Final = 8192
LONGEST_OUTPUT: Final = 8192
CUT_MARK: Final = "… (cut)"
_DEEPEST: Final = 30

_PARSER: Final = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)

_ALLOWED: Final = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.CondExpr),
    *(nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const, nodes.Tuple, nodes.List, nodes.Filter),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg),
)
_EXPECTED: Final = "names, .keys, [items], constants, comparisons, and/or/not, if, one level of for, and filters"


class Template:
    """A template that has been checked; equal contexts give equal texts."""

    __slots__ = ("_filters", "_has_complained", "_longest", "_tree", "_where")

    def __init__(self, tree: nodes.Template, where: str, filters: Mapping[str, Filter], longest: int) -> None:
        """Of a tree that `compile_template` has checked."""
        self._tree = tree
        self._where = where
        self._filters = filters
        self._longest = longest
        self._has_complained = False

    def render(self, context: Mapping[str, Any]) -> str:
        """The text; what is not in `context` is empty in it. Never raises.

        An expression that does not fit its values, such as `"a" < 1`, leaves a mark in the text, and a line in the log
        the first time. A text that is too long, or takes more than 50,000 steps, is cut, and ends
        in a mark.
        """
        parts: list[str] = []
        length = 0
        is_whole = True
        try:
            for part in Interpreter(self._filters, self._complain).parts(self._tree.body, plain(context)):
                parts.append(part)
                length += len(part)
                if length > self._longest:
                    break
        except Exhausted:
            is_whole = False
        text = "".join(parts)
        if is_whole and length <= self._longest:
            return text
        return text[: self._longest - len(CUT_MARK)] + CUT_MARK

    def _complain(self, node: nodes.Node, error: Exception) -> None:
        if not self._has_complained:
            self._has_complained = True
            logger.warning("%s: line %d of the template: %s", self._where, node.lineno, error)


def compile_template(
    source: object,
    where: str,
    names: Iterable[str] = VARIABLES,
    filters: Mapping[str, Filter] = FILTERS,
    *,
    longest: int = LONGEST_OUTPUT,
) -> Template:
    """Check a template that may use `names`; without these, what `context_of` an alert gives.

    `longest`: characters of a text that is made from it.

    Raises ConfigError, which begins with `where`, names the line and says what was expected there.
    """
    if not isinstance(source, str):
        raise ConfigError(f"{where}: expected text (put it in quotes), got {source!r}")
    if len(source.encode(errors="replace")) > LONGEST_SOURCE:
        raise ConfigError(f"{where}: expected a template of at most {LONGEST_SOURCE} bytes, got {len(source)}")
    try:
        tree = _PARSER.parse(source)
        _check(tree, where, frozenset(names), filters, depth=0, in_loop=False)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{where}: line {error.lineno} of the template: {_one_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{where}: expected a template nested at most {_DEEPEST} deep, got more") from None
    except ValueError as error:
        raise ConfigError(f"{where}: expected a template, got one with an unreadable number: {error}") from None
    return Template(tree, where, filters, longest)


def _check(
    node: nodes.Node, where: str, names: frozenset[str], filters: Mapping[str, Filter], *, depth: int, in_loop: bool
) -> None:
    here = f"{where}: line {node.lineno} of the template"
    if depth > _DEEPEST:
        raise ConfigError(f"{here}: expected a template nested at most {_DEEPEST} deep, got more")
    if type(node) not in _ALLOWED:
        raise ConfigError(f"{here}: {_named(node)} is not allowed; expected {_EXPECTED}")
    if isinstance(node, nodes.For):
        if in_loop:
            raise ConfigError(f"{here}: expected one level of for, got a loop in a loop")
        if not isinstance(node.target, nodes.Name) or node.test is not None or node.recursive:
            raise ConfigError(f"{here}: expected `for NAME in LIST`, got more")
        _check(node.iter, where, names, filters, depth=depth + 1, in_loop=True)
        inner = names | {_fit_name(node.target.name, here)}
        for child in (*node.body, *node.else_):
            _check(child, where, inner, filters, depth=depth + 1, in_loop=True)
        return
    if isinstance(node, nodes.Name) and _fit_name(node.name, here) not in names:
        raise ConfigError(
            f"{here}: unknown name {node.name!r}{did_you_mean(node.name, names)}; expected {', '.join(sorted(names))}"
        )
    if isinstance(node, nodes.Getattr):
        _fit_name(node.attr, here)
    if isinstance(node, nodes.Filter):
        _check_filter(node, here, filters)
    for child in node.iter_child_nodes():
        _check(child, where, names, filters, depth=depth + 1, in_loop=in_loop)


def _check_filter(node: nodes.Filter, here: str, filters: Mapping[str, Filter]) -> None:
    if node.name not in filters:
        raise ConfigError(
            f"{here}: unknown filter {node.name!r}{did_you_mean(node.name, filters)}; expected {', '.join(filters)}"
        )
    if node.node is None or node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
        raise ConfigError(f"{here}: expected VALUE|{node.name} with plain arguments, got more")
    try:
        inspect.signature(filters[node.name]).bind(node.node, *node.args)
    except TypeError as error:
        raise ConfigError(f"{here}: the filter {node.name} has {error}") from None
    if node.name == "time" and node.args:
        # A zone is a file: it is read here, and never because an event says so.
        if not isinstance(node.args[0], nodes.Const):
            raise ConfigError(f'{here}: expected a zone in quotes, such as time("Asia/Shanghai")')
        try:
            zone_of(str(node.args[0].value))
        except ConfigError as error:
            raise ConfigError(f"{here}: {error}") from None


def _fit_name(name: str, here: str) -> str:
    if name.startswith("_"):
        raise ConfigError(f"{here}: expected a name that does not begin with _, got {name!r}")
    return name


def _named(node: nodes.Node) -> str:
    return {"Call": "a call", "Add": "+", "Sub": "-", "Mul": "*", "Pow": "**", "Concat": "~"}.get(
        type(node).__name__, type(node).__name__.lower()
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
