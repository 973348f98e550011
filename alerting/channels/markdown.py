"""The mark-up of messages in the dialects of chat tools, such that what came from events stays text.

The dialects differ in what a backslash does, and say little about it. So nothing is escaped: a character that some tool
would read as mark-up is replaced by its full-width twin, which looks alike and means nothing (NFKC turns it back).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote

from alerting.texts.splitting import split_bytes

_TOKEN: Final = re.compile(
    r"\\(?P<escaped>[\\`*_\[\]()<>#])"
    r"|(?P<bold>\*\*)"
    r"|\[(?P<text>(?:\\.|[^\\\[\]])*)\]\((?P<url>(?:\\.|[^\s()\\])+)\)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\([\\`*_\[\]()<>#])")
_FULL_WIDTH: Final = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
#: Mark-up wherever it stands.
_ANYWHERE: Final = {ord(char): _FULL_WIDTH[ord(char)] for char in "*`\\~"}
#: Mark-up only in its place: brackets of links, tags, headings, quotes, entities, emphasis at a word's edge, and what
#: clients make links of by themselves.
_IN_PLACE: Final = re.compile(
    r"\[(?![^\[\]]*\](?!\s*[(\[:]))|\](?=\s*[(\[:])"
    r"|<(?=[\w/@!?#])|^\s*[#>]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=\bwww)\.",
    re.IGNORECASE,
)
_WEB: Final = re.compile("https?://", re.IGNORECASE)
#: Of a URL, besides letters and digits; all else could end the link it stands in.
_URL_CHARACTERS: Final = "%/:?#[]@!$&'*+,;=~-._"


class Span(NamedTuple):
    """Plain text of one kind."""

    text: str
    bold: bool = False
    url: str = ""


class Line(NamedTuple):
    spans: tuple[Span, ...]
    quoted: bool = False


def neutral(text: str) -> str:
    """`text` without anything that a chat tool would read as mark-up, a link or a mention."""
    return _IN_PLACE.sub(lambda found: found[0].translate(_FULL_WIDTH), text.translate(_ANYWHERE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one tool writes what messages are made of."""

    bold: str = "**{}**"
    link: Callable[[str, str], str] = "[{}]({})".format
    """Of a text and a URL."""
    quote: str = "> "
    line_end: str = "\n"
    escape: Callable[[str], str] = neutral
    size: Callable[[str], int] = lambda text: len(text.encode())
    """What the tool's limit counts."""

    def draw(self, line: Line) -> str:
        drawn = [self._draw_span(span) for span in line.spans if span.text]
        return (self.quote if line.quoted else "") + "".join(drawn)

    def lines(self, lines: Sequence[Line], limit: int) -> list[str]:
        """`lines` in this dialect, those that are larger than `limit` broken into several."""
        drawn: list[str] = []
        waiting = list(reversed(lines))
        while waiting:
            line = waiting.pop()
            text = self.draw(line)
            if self.size(text) > limit and (broken := _break(line)):
                waiting += reversed(broken)
            else:
                drawn.append(text)
        return drawn

    def fill(self, lines: Iterable[str], limit: int, between: str | None = None) -> list[str]:
        """As few texts as hold `lines` in order, each no larger than `limit`; one at least. A line larger than that
        stands alone."""
        separator = self.line_end if between is None else between
        texts: list[list[str]] = [[]]
        used = 0
        for line in lines:
            size = self.size(line)
            if texts[-1] and used + size > limit:
                texts.append([])
                used = 0
            texts[-1].append(line)
            used += size + self.size(separator)
        return [separator.join(held) for held in texts]

    def _draw_span(self, span: Span) -> str:
        text = self.escape(span.text)
        if span.url:
            return self.link(text, quote(span.url, safe=_URL_CHARACTERS))
        return self.bold.format(text) if span.bold else text


def parse(markdown: str) -> list[Line]:
    """Lines of `**bold**`, `[text](url)` and `> quote`, with the backslashes before mark-up of events taken away. A
    link that is not http or https becomes text."""
    return [_parse_line(line) for line in markdown.removesuffix("\n").split("\n")]


def _parse_line(line: str) -> Line:
    quoted = line.startswith("> ")
    spans: list[Span] = []
    plain, bold = "", False
    for token in _TOKEN.finditer(line, 2 if quoted else 0):
        if token["url"] is None and token["bold"] is None:
            plain += token["escaped"] or token["other"]
            continue
        spans.append(Span(plain, bold))
        plain = ""
        if token["url"] is None:
            bold = not bold
        else:
            spans.append(_link(_ESCAPE.sub(r"\1", token["text"]), _ESCAPE.sub(r"\1", token["url"])))
    spans.append(Span(plain, bold))
    return Line(tuple(span for span in spans if span.text), quoted)


def _link(text: str, url: str) -> Span:
    """A link; text where `url` is not one for browsers."""
    if not _WEB.match(url):
        return Span(f"{text} ({url})")
    # Clients would make a link of their own of a text that is an address.
    return Span(_WEB.sub("", text or url), url=url)


def _break(line: Line) -> list[Line]:
    """Smaller lines that say the same; none where it cannot be made smaller."""
    if len(line.spans) > 1:
        middle = len(line.spans) // 2
        return [line._replace(spans=line.spans[:middle]), line._replace(spans=line.spans[middle:])]
    for span in line.spans:
        if span.url:
            return [line._replace(spans=(Span(f"{span.text}: {span.url}"),))]
        pieces = split_bytes(span.text, max(4, (len(span.text.encode()) + 1) // 2))
        if len(pieces) > 1:
            return [line._replace(spans=(span._replace(text=piece),)) for piece in pieces]
    return []
