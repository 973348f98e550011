"""Matchers, with what Alertmanager's own parser takes and refuses as a table."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.desk.matchers import (
    LONGEST_LABEL,
    LONGEST_VALUE,
    MOST_MATCHERS,
    OPERATORS,
    Matcher,
    match_all,
    parse_matcher,
    parse_matchers,
)
from tables.errors import ConfigError

#: The strings of Alertmanager's parse_test.go that are matchers, and which.
TAKEN = [
    ('{foo="bar"}', [("foo", "=", "bar")]),
    ('{foo=~"bar.*"}', [("foo", "=~", "bar.*")]),
    ('{foo!="bar"}', [("foo", "!=", "bar")]),
    ('{foo!~"bar.*"}', [("foo", "!~", "bar.*")]),
    ('{foo="bar", baz!="quux"}', [("foo", "=", "bar"), ("baz", "!=", "quux")]),
    ('{foo="bar", baz!~"quux.*"}', [("foo", "=", "bar"), ("baz", "!~", "quux.*")]),
    ('{foo="bar",baz!~".*quux", derp="wat"}', [("foo", "=", "bar"), ("baz", "!~", ".*quux"), ("derp", "=", "wat")]),
    ('{foo="bar", baz!="quux", derp="wat"}', [("foo", "=", "bar"), ("baz", "!=", "quux"), ("derp", "=", "wat")]),
    (
        '{foo="bar", baz!~".*quux.*", derp="wat"}',
        [("foo", "=", "bar"), ("baz", "!~", ".*quux.*"), ("derp", "=", "wat")],
    ),
    ('{foo="bar", instance=~"some-api.*"}', [("foo", "=", "bar"), ("instance", "=~", "some-api.*")]),
    ('{foo=""}', [("foo", "=", "")]),
    ('{foo="bar,quux", job="job1"}', [("foo", "=", "bar,quux"), ("job", "=", "job1")]),
    ('{foo = "bar", dings != "bums", }', [("foo", "=", "bar"), ("dings", "!=", "bums")]),
    ("foo=bar,dings!=bums", [("foo", "=", "bar"), ("dings", "!=", "bums")]),
    (
        r'{quote="She said: \"Hi, ladies! That' + r"""'s gender-neutral…\""}""",
        [("quote", "=", 'She said: "Hi, ladies! That' + """'s gender-neutral…\"""")],
    ),
    ('statuscode=~"5.."', [("statuscode", "=~", "5..")]),
    ("tricky=~~~", [("tricky", "=~", "~~")]),
    (r"trickier==\\=\=\"", [("trickier", "=", r'=\=\="')]),
    (
        r'contains_quote != "\"" , contains_comma !~ "foo,bar" , ',
        [("contains_quote", "!=", '"'), ("contains_comma", "!~", "foo,bar")],
    ),
]

#: Those that are none, and what is said of them.
REFUSED = [
    ("job=", "expected a value after job="),
    ('job="value', "expected quotes around"),
    ('job=value"', "expected quotes around"),
    (r'trickier==\\=\=\""', "expected quotes around"),
    ('contains_unescaped_quote = foo"bar', "expected quotes around"),
    ('{invalid-name = "valid label"}', "expected a matcher such as"),
    ('{foo=~"invalid[regexp"}', r"expected a regular expression \(RE2\), got 'invalid\[regexp': missing \]"),
    (r'"{foo=\"bar"}', "expected a matcher such as"),
    (r'"foo=\"bar"', "expected a matcher such as"),
    (r'"foo=\"bar\""', "expected a matcher such as"),
    (r'"foo=\"bar\"', "expected a matcher such as"),
    (r'"{foo=\"bar\"}"', "expected a matcher such as"),
    ('"foo="bar""', "expected a matcher such as"),
]


def test_the_table_is_whole() -> None:
    assert len(TAKEN) + len(REFUSED) == 32


@pytest.mark.parametrize(("text", "expected"), [*TAKEN, ("{}", []), ("", [])])
def test_what_alertmanager_takes(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(matcher.name, matcher.op, matcher.value) for matcher in parse_matchers(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"), [*REFUSED, ("a=b,,c=d", "expected a matcher"), (",", "expected a matcher")]
)
def test_what_it_refuses(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_matchers(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # There is no need for quotes, nor for a known escape after a backslash.
        (r"path=C:\temp", r"C:\temp"),
        (r'path="C:\temp"', r"C:\temp"),
        (r'text="two\nlines"', "two\nlines"),
        ('text="a line\nend as it is"', "a line\nend as it is"),
        ("text=ends with \\", "ends with \\"),
        ('text=" spaces "', " spaces "),
        ("text=  spaces  ", "spaces"),
    ],
)
def test_values(text: str, expected: str) -> None:
    assert parse_matcher(text).value == expected


@given(
    name=st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,9}", fullmatch=True),
    op=st.sampled_from(["=", "!="]),
    value=st.text(),
)
def test_a_matcher_is_read_as_it_was_written(name: str, op: str, value: str) -> None:
    matcher = parse_matcher(f'{name}{op}""')
    matcher = Matcher(matcher.name, matcher.op, value)
    assert parse_matcher(str(matcher)) == matcher
    assert parse_matchers(f"{{{matcher}, {matcher}}}") == (matcher, matcher)


@pytest.mark.parametrize(
    ("text", "label", "expected"),
    [
        ('a="x"', "x", True),
        ('a="x"', "xx", False),
        ('a!="x"', "xx", True),
        # A label that is missing is empty.
        ('a=""', None, True),
        ('a!=""', None, False),
        ('a=~".*"', None, True),
        ('a=~".+"', None, False),
        ('a!~".+"', None, True),
        # Anchored, alternatives included.
        ('a=~"major|minor"', "minor", True),
        ('a=~"major|minor"', "minority", False),
        ('a=~"b.|c"', "xc", False),
        ('a=~"b.|c"', "bx", True),
        ('a=~"rec"', "recommender", False),
        ('a=~"rec.*"', "recommender", True),
        ('a!~"rec.*"', "recommender", False),
        ('a=~"^rec.*$"', "recommender", True),
        ('a=~"(?i)REC.*"', "recommender", True),
        (r'a=~"v\d{1,2}"', "v12", True),
        (r'a=~"v\d{1,2}"', "v123", False),
        ('a=~""', "", True),
        ('a=~""', "x", False),
        ('a=~"[一-龥]+"', "推荐", True),
        # An id may hold anything.
        ('a=~"x.*y"', "x\ny", True),
        ('a=~"x.y"', "x\0y", True),
        ('a=~"x.y"', "x\ud800y", True),
        # Quotes of SQL are nothing special.
        ('a=~"\'.*"', "'; drop table x", True),
    ],
)
def test_what_fits(text: str, label: str | None, expected: bool) -> None:
    assert parse_matcher(text).matches({} if label is None else {"a": label}) is expected


def test_all_of_them_have_to_fit() -> None:
    matchers = parse_matchers('a="1",b="2"')
    assert match_all(matchers, {"a": "1", "b": "2", "c": "3"})
    assert not match_all(matchers, {"a": "1"})
    assert match_all((), {})


@pytest.mark.parametrize("pattern", ["(a|a)*b", "(a*)*b", "(a*)*(a*)*(a*)*b", ".*.*.*.*.*.*.*b", "(a?){50}a{50}b"])
def test_no_pattern_hangs(pattern: str) -> None:
    began = time.monotonic()
    assert not Matcher("a", "=~", pattern).matches({"a": "a" * LONGEST_LABEL})
    # A backtracking engine takes years for most of them.
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)b", "(?!a)b", "a{1001}", "((a{100}){100}){100}", "*", "a)|(b"])
def test_patterns_that_are_not_linear_or_not_whole_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a regular expression \(RE2\)"):
        Matcher("a", "=~", pattern)


def test_everything_is_bounded() -> None:
    assert Matcher("a", "=", "x" * LONGEST_VALUE).matches({"a": "x" * LONGEST_VALUE})
    assert len(parse_matchers("a=b," * MOST_MATCHERS)) == MOST_MATCHERS
    with pytest.raises(ConfigError, match=f"at most {LONGEST_VALUE} characters"):
        Matcher("a", "=", "x" * (LONGEST_VALUE + 1))
    with pytest.raises(ConfigError, match=f"at most {MOST_MATCHERS} matchers, got {MOST_MATCHERS + 1}"):
        parse_matchers("a=b," * (MOST_MATCHERS + 1))
    with pytest.raises(ConfigError) as caught:
        parse_matcher("-" * 10_000 + "\x1b[31m")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_what_is_no_matcher_is_refused_however_it_is_made() -> None:
    assert OPERATORS == ("=", "!=", "=~", "!~")
    with pytest.raises(ConfigError, match="expected a label such as severity"):
        Matcher("model id", "=", "x")
    with pytest.raises(ConfigError, match="expected one of = != =~ !~"):
        Matcher("a", "==", "x")  # type: ignore[arg-type]  # as from a file of somebody else
