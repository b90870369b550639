from __future__ import annotations

from typing import Any

import pytest

from djsup_worker.request_id import RequestIds


def test_every_request_gets_another_id_that_the_application_sees() -> None:
    ids = RequestIds()
    seen = set()
    for _ in range(1000):
        environ: dict[str, Any] = {}
        made = ids.mark(environ, "192.0.2.7")
        assert environ == {"HTTP_X_REQUEST_ID": made, "djsup.request_id": made}
        seen.add(made)
    assert len(seen) == 1000
    assert len(made) == 24


def test_two_workers_make_different_ids() -> None:
    assert RequestIds().mark({}, "") != RequestIds().mark({}, "")


def test_id_of_a_stranger_is_not_believed() -> None:
    environ = {"HTTP_X_REQUEST_ID": "mine"}
    assert RequestIds().mark(environ, "192.0.2.7") != "mine"
    assert environ["HTTP_X_REQUEST_ID"] != "mine"


def test_id_of_a_trusted_peer_is_taken() -> None:
    ids = RequestIds(lambda peer: peer == "10.0.0.1")
    for told in ("a", "Root=1-67891233-abcdef012345678912345678", "x" * 128):
        assert ids.mark({"HTTP_X_REQUEST_ID": told}, "10.0.0.1") == told
        assert ids.mark({"HTTP_X_REQUEST_ID": told}, "10.0.0.2") != told


@pytest.mark.parametrize("told", ["", "x" * 129, "a b", 'a"b', "a\nb", "a\\b", "ä", "a,b", "<a>"])
def test_id_that_is_not_well_formed_is_replaced(told: str) -> None:
    assert RequestIds(lambda _peer: True).mark({"HTTP_X_REQUEST_ID": told}, "10.0.0.1") != told
