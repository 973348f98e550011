"""Who may act: programs, and pages that this worker serves."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from agents.other_sites import OtherSites
from agents.problem import Problem

BASE_URL = "https://tidemark.example.com"


def may_act(web_host: str, headers: dict[str, str]) -> bool:
    try:
        OtherSites(web_host, BASE_URL).refuse(make_mocked_request("POST", "/api/v1/silences", headers))
    except Problem as problem:
        assert problem.status == 403
        return False
    return True


def page_of(host: str, scheme: str = "http") -> dict[str, str]:
    return {"Host": host, "Origin": f"{scheme}://{host}"}


@pytest.mark.parametrize("host", ["127.0.0.1:6066", "localhost:6066", "LOCALHOST", "[::1]:6066", "127.0.0.2:6066"])
def test_a_page_of_this_machine_may(host: str) -> None:
    assert may_act("127.0.0.1", page_of(host))


def test_a_page_under_the_name_that_people_know_may() -> None:
    assert may_act("127.0.0.1", page_of("tidemark.example.com", "https"))


@pytest.mark.parametrize("host", ["evil.example:6066", "localhost.evil.example", "10.0.0.7", "[::1", ""])
def test_a_name_that_was_made_to_mean_this_machine_may_not(host: str) -> None:
    assert not may_act("localhost", page_of(host))


def test_a_worker_that_listens_for_others_is_reached_by_many_names() -> None:
    for listens_on in ("0.0.0.0", "", "10.0.0.7"):
        assert may_act(listens_on, page_of("shop-7.internal:6066"))
        assert not may_act(listens_on, {"Host": "shop-7.internal:6066", "Origin": "http://evil.example"})


@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
def test_a_page_of_another_site_may_not(origin: str) -> None:
    assert not may_act("127.0.0.1", {"Host": "localhost:6066", "Origin": origin})


@pytest.mark.parametrize(("site", "expected"), [("cross-site", False), ("same-site", False), ("same-origin", True)])
def test_a_browser_that_says_whose_page_it_is_need_not_name_the_page(site: str, expected: bool) -> None:
    assert may_act("127.0.0.1", {"Host": "localhost:6066", "Sec-Fetch-Site": site}) == expected


def test_a_program_may_by_whatever_name() -> None:
    assert may_act("127.0.0.1", {"Host": "behind-a-proxy.internal"})
