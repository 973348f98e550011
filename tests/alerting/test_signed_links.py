from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.signed_links import PATH, Claim, LinkSigner, hide_tokens
from tables.errors import ConfigError, InputError

BASE = "https://tidemark.example.com/ops/"
SECRET = "a secret of enough bytes"
HOUR = 3_600_000
NOW = 1_777_629_600_000


def signer(secret: str = SECRET, now: int = NOW) -> LinkSigner:
    return LinkSigner(BASE, secret, HOUR, lambda: now)


def token_of(url: str) -> str:
    return url.removeprefix(BASE.rstrip("/") + PATH)


def test_a_link_says_what_it_allows() -> None:
    acknowledge = token_of(signer().ack_url(("00000000000000a1",), "wecom-ops"))
    assert signer().verify(acknowledge) == Claim("acknowledge", ("00000000000000a1",), 0, "wecom-ops", NOW + HOUR)
    silence = token_of(signer().silence_url(("00000000000000a1",), 60))
    assert signer().verify(silence) == Claim("silence", ("00000000000000a1",), 60, "", NOW + HOUR)


def test_a_link_is_short_and_needs_no_escapes() -> None:
    url = signer().silence_url(("00000000000000a1",), 60, "wecom-ops")
    assert len(url) < 200
    assert token_of(url).replace("-", "").replace("_", "").isalnum()


def test_a_link_for_a_whole_message_is_no_longer_than_a_robot_takes() -> None:
    names = (*(f"{number:016x}" for number in range(19)), "of another")
    url = signer().ack_url(names, "wecom-ops")
    assert len(url) < 400
    assert signer().verify(token_of(url)).alert_ids == names


def test_who_pressed_it_is_named_by_the_channel() -> None:
    assert signer().verify(token_of(signer().ack_url(("a1",), "ops"))).who == "link on ops"
    assert signer().verify(token_of(signer().ack_url(("a1",)))).who == "link"
    assert len(signer().verify(token_of(signer().ack_url(("a1",), "c" * 95))).who) == 100


def test_a_link_expires() -> None:
    token = token_of(signer().ack_url(("a1",)))
    assert signer(now=NOW + HOUR - 1).verify(token).alert_ids == ("a1",)
    with pytest.raises(InputError, match="has expired"):
        signer(now=NOW + HOUR).verify(token)


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    token = token_of(signer().silence_url(("a1",), 60, "告警"))
    place = data.draw(st.integers(0, len(token) - 1))
    flipped = token[:place] + chr(ord(token[place]) ^ 1 << data.draw(st.integers(0, 6))) + token[place + 1 :]
    with pytest.raises(InputError, match="damaged or not ours"):
        signer().verify(flipped)


@pytest.mark.parametrize("bits", range(1, 16))
def test_bits_that_base64_passes_over_count_too(bits: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # Of such a length that the last character carries four bits of nothing.
    token = next(token for length in range(3) if len(token := token_of(signer().ack_url(("a" * length,)))) % 4 == 2)
    altered = token[:-1] + alphabet[alphabet.index(token[-1]) ^ bits]
    padding = "=" * (-len(token) % 4)
    assert base64.urlsafe_b64decode(altered + padding) == base64.urlsafe_b64decode(token + padding)
    with pytest.raises(InputError, match="damaged or not ours"):
        signer().verify(altered)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_we_have_not_made_is_refused(token: str) -> None:
    with pytest.raises(InputError):
        signer().verify(token)


def test_longer_than_any_link_is_refused() -> None:
    with pytest.raises(InputError, match="damaged or not ours"):
        signer().verify(token_of(signer().ack_url(("a" * 2000,))))


def test_of_many_long_ids_as_many_as_have_room_are_in_a_link() -> None:
    ids = tuple(f"{number:036d}" for number in range(20))
    kept = signer().verify(token_of(signer().ack_url(ids))).alert_ids
    assert 15 < len(kept) < 20 and kept == ids[: len(kept)]


def test_another_secret_makes_no_links_of_ours() -> None:
    with pytest.raises(InputError, match="damaged or not ours"):
        signer().verify(token_of(signer("another secret of bytes").ack_url(("a1",))))


def test_a_rightly_signed_token_of_another_version_is_refused() -> None:
    ours = signer()
    payload = msgspec.msgpack.encode(["forget", b"", ["a1"], 0, "", NOW + HOUR])
    token = base64.urlsafe_b64encode(payload + ours._mac(payload)).rstrip(b"=").decode()
    with pytest.raises(InputError, match="got one of another"):
        ours.verify(token)


@pytest.mark.parametrize(
    ("base", "secret", "ttl", "expected"),
    [
        ("ftp://tidemark", SECRET, 1, "expected an address"),
        ("tidemark.example.com", SECRET, 1, "expected an address"),
        ("https://tidemark/?a=1", SECRET, 1, "expected an address"),
        (BASE, "hush", 1, "at least 16 bytes"),
        (BASE, SECRET, 0, "hold for some time"),
    ],
)
def test_a_mistaken_configuration_is_told_without_the_secret(base: str, secret: str, ttl: int, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        LinkSigner(base, secret, ttl, lambda: NOW)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("slash", ["/", "\\/", "\\\\/", "%2F", "%252f", "\\u002f", "&#x2F;", "&#47;"])
def test_a_token_is_hidden_however_it_is_quoted(slash: str) -> None:
    token = token_of(signer().ack_url(("00000000000000a1",), "wecom-ops"))
    quoted = f"POST {slash}a{slash}{token} failed"
    assert hide_tokens(quoted) == f"POST {slash}a{slash}*** failed"


def test_what_is_no_link_is_not_hidden() -> None:
    said = "/a/short, data/recommender-home-of-2026, a recommender-home-of-2026"
    assert hide_tokens(said) == said


def test_no_secret_is_shown() -> None:
    assert SECRET not in repr(signer())
