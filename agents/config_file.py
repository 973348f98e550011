"""A YAML file read so that every mistake in it can name its line and field.

`read_file` gives the top `Section`; `Section.take` converts one field, `Section.finish` reports the keys that
nobody asked for. Mistakes are collected, not raised: one run shows all of them.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from tables.errors import ConfigError

LONGEST_FILE: Final = 1 << 20
"""Bytes."""
DEEPEST: Final = 50
MOST_VALUES: Final = 100_000
"""Of a file, an alias counted as all that it stands for."""
_LONGEST_NUMBER: Final = 100

_USER_INFO = re.compile(r"//[^/\s]*@")
_INTEGER: Final = "tag:yaml.org,2002:int"

T = TypeVar("T")
Converter = Callable[[object], T]
Stamp = tuple[tuple[str, int, int] | None, ...]


class Mistakes:
    """The mistakes found so far, one line each."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def note(self, message: str, line: int = 0) -> None:
        """Add one; `line` is its line in the file, 0 where it is elsewhere (an option, the environment)."""
        self._found[line, message] = None

    def in_order(self) -> list[str]:
        """All of them: those outside of the file first, then those inside by line."""
        return [message for _, message in sorted(self._found, key=lambda mistake: mistake[0])]

    def convert(self, place: str, value: object, converter: Converter[T], default: T, *, line: int = 0) -> T:
        """Convert `value`; on a ValueError note "PLACE: MESSAGE, got VALUE" and give `default`.

        A ConfigError says by itself what was found.
        """
        try:
            return converter(value)
        except ValueError as error:
            self.note(f"{place}: {error}, got {show(value)}", line)
        except ConfigError as error:
            self.note(f"{place}: {error}", line)
        return default


class Section:
    """One mapping of the file (or an absent one): hands out fields and remembers which were asked for."""

    def __init__(self, source: str, path: str, node: yaml.MappingNode | None, mistakes: Mistakes) -> None:
        self._source = source
        self._path = path
        self._mistakes = mistakes
        self._line = node.start_mark.line + 1 if node is not None else 0
        self._known: list[str] = []
        self._keys: dict[str, int] = {}
        self._values: dict[str, yaml.Node] = {}
        for key, value in node.value if node is not None else ():
            self._keys[str(key.value)] = key.start_mark.line + 1
            self._values[str(key.value)] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def keys(self) -> Set[str]:
        """The keys that are there."""
        return self._keys.keys()

    @property
    def where(self) -> str:
        """ "FILE:LINE: PATH" of the mapping itself."""
        return f"{self._source}:{self._line}: {self._path}"

    def place(self, name: str) -> str:
        """ "FILE:LINE: PATH" of a field, for messages; the mapping's own line where the field is absent."""
        return f"{self._source}:{self._line_of(name)}: {self._child(name)}"

    def mistake(self, name: str, message: str) -> None:
        """Note a mistake of field `name` (of the whole mapping where `name` is empty)."""
        self._mistakes.note(f"{self.place(name) if name else self.where}: {message}", self._line_of(name))

    def take(self, name: str, converter: Converter[T], default: T) -> T:
        """The field converted, or `default` where it is absent, null or (noted as a mistake) wrong."""
        value = self.plain(name)
        if value is None:
            return default
        return self._mistakes.convert(self.place(name), value, converter, default, line=self._line_of(name))

    def plain(self, name: str) -> Any:
        """The field as plain Python values; None where it is absent."""
        self._known.append(name)
        node = self._values.get(name)
        return None if node is None else construct(node)

    def is_block(self, name: str) -> bool:
        """Whether the field is a text in lines of its own, below its key."""
        node = self._values.get(name)
        return isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")

    def section(self, name: str) -> "Section":
        """A nested mapping; an empty one where it is absent or null."""
        self._known.append(name)
        node = self._values.get(name)
        if node is not None and not isinstance(node, yaml.MappingNode):
            if construct(node) is not None:
                self.mistake(name, f"expected a mapping, got {show(construct(node))}")
            node = None
        return Section(self._source, self._child(name), node, self._mistakes)

    def sections(self, name: str) -> list["Section"]:
        """A nested list of mappings; empty where it is absent or null."""
        self._known.append(name)
        node = self._values.get(name)
        if node is None or (isinstance(node, yaml.ScalarNode) and construct(node) is None):
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.mistake(name, f"expected a list, got {show(construct(node))}")
            return []
        found = []
        for index, item in enumerate(node.value):
            path = f"{self._child(name)}[{index}]"
            if isinstance(item, yaml.MappingNode):
                found.append(Section(self._source, path, item, self._mistakes))
            else:
                line = item.start_mark.line + 1
                got = show(construct(item))
                self._mistakes.note(f"{self._source}:{line}: {path}: expected a mapping, got {got}", line)
        return found

    def rewrite(self, message: str) -> None:
        """Note a message of others that begins with `where`; a field that it names next gets its own line."""
        rest = message.removeprefix(self.where)
        match = re.match(r"\.(\w+)", rest) if rest != message else None
        if match is None or match[1] not in self:
            self._mistakes.note(message, self._line)
        else:
            self.mistake(match[1], rest[match.end() :].removeprefix(": "))

    def mapping(self) -> dict[str, Any]:
        """The whole mapping as plain Python values; whoever reads it looks for unknown keys."""
        self._known.extend(self._values)
        return {name: construct(node) for name, node in self._values.items()}

    def refuse(self, names: Mapping[str, str]) -> None:
        """Note a mistake for each of these keys that is there: a secret that belongs somewhere else.

        :param names: forbidden key -> what to do instead. The value is never shown.
        """
        for name, instead in names.items():
            if name in self._values:
                self._known.append(name)
                self.mistake(name, f"a secret does not belong in this file: {instead}")

    def leave(self, names: Iterable[str]) -> None:
        """Go on as if these keys were not there, whatever they hold."""
        for name in names:
            self._keys.pop(name, None)
            self._values.pop(name, None)

    def finish(self) -> None:
        """Note every key that was never asked for, with the nearest known one."""
        for name, line in self._keys.items():
            if name in self._known:
                continue
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(set(self._known)))}"
            self._mistakes.note(f"{self._source}:{line}: {self._child(name)}: unknown key; {hint}", line)

    def _line_of(self, name: str) -> int:
        # A missing mapping has no line of its own; the top of the file is as near as it gets.
        return self._values[name].start_mark.line + 1 if name in self._values else max(self._line, 1)

    def _child(self, name: str) -> str:
        if not self._path or not name:
            return self._path or name
        return f"{self._path}.{name}"


def read_file(path: Path, mistakes: Mistakes) -> Section:
    """The top section of a YAML file.

    :raises ConfigError: the file cannot be read, is not YAML, or does not hold a mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE + 1)
        if len(data) > LONGEST_FILE:
            raise ConfigError(f"{path}: expected a file of at most {LONGEST_FILE:,} bytes, got a longer one")
        text = data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: expected UTF-8 text") from error
    return read_text(text, str(path), mistakes)


def stamp_of(files: Iterable[Path]) -> Stamp:
    """Changes whenever one of them does; editors and orchestrators replace files rather than write into them."""
    return tuple(map(_stamp, files))


def _stamp(file: Path) -> tuple[str, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return str(file.resolve()), found.st_mtime_ns, found.st_size


def read_text(text: str, source: str, mistakes: Mistakes) -> Section:
    """As `read_file`, for text that is there already; `source` is the file name in messages."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {error.reason}") from error
    if node is None:
        return Section(source, "", None, mistakes)
    _check_tree(node, source, (), {})
    try:
        value = construct(node)
    except (yaml.MarkedYAMLError, ValueError) as error:
        # Such as an unknown tag, a mapping as a key, or the 31st of February.
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
        raise ConfigError(f"{place}: not valid YAML: {problem}") from error
    if value is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{source}:1: expected a mapping of sections, got {show(value)}")
    return Section(source, "", node if isinstance(node, yaml.MappingNode) else None, mistakes)


def construct(node: yaml.Node) -> Any:
    """A node as plain Python values."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Composes only what the interpreter's stack is certain to hold."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One value and all that it holds."""
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"expected values nested at most {DEEPEST} deep", mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _check_tree(
    node: yaml.Node, source: str, above: tuple[int, ...], known: dict[int, tuple[int, int]]
) -> tuple[int, int]:
    """How many values it holds, and how deep. Raises on what PyYAML lets pass: a key given twice, an alias inside of
    what it stands for, aliases that multiply, numbers that nobody can show."""
    if id(node) in above:
        raise ConfigError(f"{source}:{_line(node)}: not valid YAML: an anchor that contains itself")
    if id(node) in known:
        return known[id(node)]
    size, depth, below = 1, 0, (*above, id(node))
    for child in _children(node, source):
        its_size, its_depth = _check_tree(child, source, below, known)
        size, depth = size + its_size, max(depth, its_depth + 1)
    if isinstance(node, yaml.ScalarNode) and node.tag == _INTEGER and len(node.value) > _LONGEST_NUMBER:
        raise ConfigError(f"{source}:{_line(node)}: expected a number of at most {_LONGEST_NUMBER} digits, got more")
    if size > MOST_VALUES:
        raise ConfigError(f"{source}:{_line(node)}: expected at most {MOST_VALUES:,} values, got more")
    if depth > DEEPEST:
        raise ConfigError(f"{source}:{_line(node)}: expected values nested at most {DEEPEST} deep")
    known[id(node)] = size, depth
    return size, depth


def _children(node: yaml.Node, source: str) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), _line(key)
            if name in lines:
                raise ConfigError(f"{source}:{line}: {name}: the key was given already in line {lines[name]}")
            lines[name] = line
            yield from (key, value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def show(value: object) -> str:
    """A value as a message shows it: one line, cut where it is long, without the password of a URL."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    text = _USER_INFO.sub("//***@", text)
    return text if len(text) <= 80 else text[:77] + "..."
