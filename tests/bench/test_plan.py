"""What is measured, of whom and in which order, and that djsup takes the configuration that it is given."""

import os
import sys
from pathlib import Path

import pytest
from benchmarks import ours, servers, workloads
from benchmarks.__main__ import read_arguments
from benchmarks.launch import Launch, make_certificate
from benchmarks.servers import BY_NAME
from benchmarks.workloads import BLOG, WORKLOADS

from djsup import config
from djsup.core.model import WorkerCount


def test_without_names_everything_is_measured_of_everybody() -> None:
    plan = read_arguments([])
    assert plan.servers == list(servers.SERVERS)
    assert plan.workloads == list(WORKLOADS)
    assert plan.others == ["memory", "reloads"]


def test_complete_run_is_expected_to_take_twenty_minutes_at_most() -> None:
    assert read_arguments([]).estimate_s() <= 20 * 60
    assert read_arguments(["--quick", "bare"]).estimate_s() <= 60


def test_names_pick_workloads_and_servers_each_of_their_kind() -> None:
    plan = read_arguments(["granian", "bare", "memory", "djsup"])
    assert [each.name for each in plan.servers] == ["djsup", "granian"]
    assert [each.name for each in plan.workloads] == ["bare"]
    assert plan.others == ["memory"]


def test_unknown_name_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments(["grainian"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert 'there is no "grainian"' in said
    assert "granian" in said
    assert "tls-new" in said


def test_each_workload_is_in_one_session_for_each_number_of_workers() -> None:
    found = [
        (each.name, session.workers)
        for session in workloads.sessions(list(WORKLOADS))
        for each in session.workloads
    ]
    assert sorted(found) == sorted((each.name, number) for each in WORKLOADS for number in each.workers)


def test_workloads_share_a_session_only_with_the_same_application_threads_and_tls() -> None:
    for session in workloads.sessions(list(WORKLOADS)):
        for each in session.workloads:
            assert (each.application, each.threads, each.tls) == (
                session.application,
                session.threads,
                session.tls,
            )


def test_server_that_closes_with_other_options_only_is_run_twice() -> None:
    picked = [workloads.BY_NAME["bare"], workloads.BY_NAME["close"]]
    one, _ = workloads.sessions(picked)
    assert [run.keep_alive for run in BY_NAME["uwsgi"].runs(one)] == [True, False]
    assert [run.workloads for run in BY_NAME["djsup"].runs(one)] == [tuple(picked)]


def test_server_that_can_do_nothing_of_a_session_is_not_started_for_it() -> None:
    one, two = workloads.sessions([workloads.BY_NAME["tls"]])
    assert BY_NAME["waitress"].runs(one) == []
    assert BY_NAME["waitress"].cannot(one.workloads[0], 1) == "it has no TLS"
    assert BY_NAME["granian-1-thread"].runs(two) == []


@pytest.mark.parametrize(
    "tls", [False, pytest.param(True, marks=pytest.mark.skipif(not ours.CAN_TLS, reason="no TLS yet"))]
)
def test_configuration_of_djsup_is_accepted_without_a_warning(
    tmp_path: Path, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    launch = Launch(
        application=BLOG,
        workers=2,
        threads=8,
        port=8001,
        folder=tmp_path,
        environment=Path(sys.prefix),
        tls=make_certificate(tmp_path) if tls else None,
        keep_alive=True,
    )
    ours.command(launch)
    loaded = config.load(tmp_path / "djsup.toml", {"HOME": str(tmp_path)})
    assert loaded.warnings == ()
    (site,) = loaded.settings.sites
    assert (site.threads, site.workers) == (8, WorkerCount(2, 2))
