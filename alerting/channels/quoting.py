"""Words of the other side in our reasons, which are logged and become dead letters: short, and without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from alerting.alert import printable
from alerting.signed_links import hide_tokens

_SHOWN: Final = 200
#: A message that is quoted back has URLs, and their paths may let whoever reads them act: plain, in JSON, in a URL.
_PATH: Final = re.compile(r"(://|:\\/\\/|%3a%2f%2f)([^\s/\"'<>\\%]+)(?:\\?/|%2f)[^\s\"'<>]*", re.IGNORECASE)


def quoted(said: str, hidden: Iterable[str]) -> str:
    """`said` as one line of at most 200 characters, with `***` for what is hidden, for paths of URLs and signed links.

    `hidden`: the longest first, where some contain others.
    """
    for secret in hidden:
        said = said.replace(secret, "***")
    return printable(_PATH.sub(r"\1\2/***", hide_tokens(said.strip())), _SHOWN)
