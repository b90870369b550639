"""Reloads: new code without a client noticing, and a broken deploy that changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from system.daemon import WSGI, DaemonUnderTest, Project, wait_for
from system.load import Load


def generation(daemon: DaemonUnderTest) -> int:
    return int(daemon.status("blog")["generation"])


def wait_for_generation(daemon: DaemonUnderTest, wanted: int) -> None:
    def arrived() -> bool:
        site = daemon.status("blog")
        workers = site["workers"]
        return (
            site["generation"] == wanted
            and site["state"] == "serving"
            and all(worker["generation"] == wanted for worker in workers)
        )

    wait_for(arrived, f"generation {wanted}")


def test_ten_hups_under_load_close_no_connection_and_fail_no_request(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    with Load(daemon.ports["blog"], connections=32) as load:
        for number in range(2, 12):
            blog.deploy(f"version {number}")
            daemon.signal(signal.SIGHUP)
            wait_for_generation(daemon, number)
            load.wait_for_requests(64)
    outcome = load.outcome
    assert outcome.closed == 0, outcome.summary()
    assert outcome.connections == 32, outcome.summary()
    assert b"version 11" in outcome.bodies
    assert outcome.requests > 1000


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt-get install wrk)")
def test_ten_hups_under_wrk_show_no_error(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    url = f"http://127.0.0.1:{daemon.ports['blog']}/"
    wrk = subprocess.Popen(
        ["wrk", "-t", "1", "-c", "32", "-d", "120s", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for number in range(2, 12):
        daemon.signal(signal.SIGHUP)
        wait_for_generation(daemon, number)
    assert wrk.poll() is None, "wrk has to run during all ten reloads"
    wrk.send_signal(signal.SIGINT)  # it prints what it has measured
    printed, _ = wrk.communicate(timeout=60)
    assert "Socket errors" not in printed, printed
    assert "Non-2xx" not in printed, printed
    found = re.search(r"(\d+) requests in", printed)
    assert found
    assert int(found[1]) > 1000, printed


def test_new_connections_during_reloads_are_served(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    with Load(daemon.ports["blog"], connections=8, keep_alive=False, pause_s=0.005) as load:
        for number in range(2, 6):
            daemon.reload_well()
            assert generation(daemon) == number
            load.wait_for_requests(30)
    assert load.outcome.requests > 100


def test_a_request_that_runs_during_a_reload_is_finished_by_the_old_code(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: answers.append(daemon.get("blog", "/slow?s=3")))
    asking.start()
    wait_for(lambda: any(worker["current"] for worker in daemon.workers("blog")), "the request to run")
    blog.deploy("two")
    daemon.done("reload")
    assert daemon.get("blog") == (200, b"two")
    asking.join(30)
    assert answers == [(200, b"one")]


def test_a_half_sent_request_survives_a_reload(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    with socket.create_connection(("127.0.0.1", daemon.ports["blog"]), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        blog.deploy("two")
        daemon.done("reload", "--no-wait")
        wait_for(lambda: generation(daemon) == 2, "the new generation")
        client.sendall(b"alhost\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(65536).endswith(b"two")


BREAKAGES = {
    "import": ("import no_such_module_anywhere\n", 200, "no_such_module_anywhere"),
    "health": (WSGI, 500, "500"),
    "hang": ("import time\ntime.sleep(3600)\n", 200, "boot_timeout"),
    "exit": ("import os\nos._exit(9)\n", 200, "9"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_deploy_leaves_the_old_code_serving(
    daemon: DaemonUnderTest, blog: Project, breakage: str
) -> None:
    wsgi, health, said = BREAKAGES[breakage]
    if breakage == "hang":
        daemon.sites["blog"] += "\n[sites.blog.limits]\nboot_timeout = 5\n"
        daemon.write()
    daemon.start()
    before = {worker["pid"] for worker in daemon.workers("blog")}
    with Load(daemon.ports["blog"], connections=8) as load:
        blog.deploy("broken", health=health, wsgi=wsgi)
        result = daemon.run("reload", "blog")
        assert result.status == 1, result
        assert said in result.stdout + result.stderr, result
        if breakage == "import":
            assert "Traceback (most recent call last)" in result.stdout + result.stderr
        load.wait_for_requests(100)
        site = daemon.status("blog")
        assert (site["state"], site["generation"]) == ("serving", 1)
        assert site["last_reload"]["result"] == "rolled-back"
        assert said in site["last_reload"]["error"]
        assert {worker["pid"] for worker in site["workers"]} == before, "the serving generation is as it was"
        assert [event for event in daemon.events("blog") if event["kind"] == "reload-rolled-back"]
        blog.deploy("fixed")
        daemon.reload_well("blog")
    assert load.outcome.closed == 0, load.outcome.summary()
    assert set(load.outcome.bodies) <= {b"one", b"fixed"}
    assert daemon.get("blog") == (200, b"fixed")
    assert daemon.status("blog")["last_reload"]["result"] == "done"


def test_a_dead_worker_is_replaced_with_the_old_code_after_a_broken_deploy(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    blog.deploy("broken", wsgi="import no_such_module\n")
    assert daemon.run("reload").status == 1
    victim = daemon.workers("blog")[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_for(
        lambda: (
            len([worker for worker in daemon.workers("blog") if worker["pid"] not in (victim, None)]) == 2
        ),
        "the replacement",
    )
    for _ in range(20):
        assert daemon.get("blog") == (200, b"one")


def test_a_reload_during_a_reload_gives_the_running_one_up(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    blog.deploy("slow", wsgi="import time\ntime.sleep(20)\n" + WSGI)
    daemon.done("reload", "--no-wait")
    wait_for(lambda: daemon.status("blog")["state"] == "reloading", "the slow reload")
    blog.deploy("newest")
    daemon.reload_well()
    assert daemon.get("blog") == (200, b"newest")


def test_an_invalid_configuration_changes_nothing_and_names_every_mistake(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    good = daemon.config.read_text()
    daemon.config.write_text(good + '\nwrokers = 3\n[sites.other]\ndirectory = "/no/such/folder"\n')
    result = daemon.run("reload")
    assert result.status == 2, result
    assert "wrokers" in result.stderr
    assert "/no/such/folder" in result.stderr
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: "settings-refused" in [event["kind"] for event in daemon.events()], "the refusal")
    assert generation(daemon) == 1
    assert daemon.get("blog") == (200, b"one")


def test_another_runtime_directory_waits_for_the_next_start_and_is_said(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    daemon.config.write_text(
        daemon.config.read_text().replace(f'"{daemon.runtime}"', f'"{daemon.folder / "elsewhere"}"')
    )
    daemon.signal(signal.SIGHUP)
    wait_for_generation(daemon, 2)
    (warning,) = (event["text"] for event in daemon.events() if "runtime_dir is" in event["text"])
    assert str(daemon.folder / "elsewhere") in warning
    assert "until it is stopped and started again" in warning


def test_hup_starts_added_sites_and_stops_removed_ones(
    daemon: DaemonUnderTest, blog: Project, django: object
) -> None:
    daemon.start()
    Project(daemon.folder / "shop").deploy("shop")
    daemon.site("shop", django)  # type: ignore[arg-type]
    with Load(daemon.ports["blog"], connections=4) as load:
        daemon.signal(signal.SIGHUP)
        wait_for(lambda: "shop" in [site["name"] for site in daemon.status()["sites"]], "the added site")
        daemon.wait_state("shop", "serving")
        assert daemon.get("shop") == (200, b"shop")
        daemon.sites.pop("shop")
        daemon.write()
        daemon.signal(signal.SIGHUP)
        wait_for(lambda: "shop" not in [site["name"] for site in daemon.status()["sites"]], "the site to go")
    assert load.outcome.closed == 0
    with pytest.raises(ConnectionRefusedError):
        daemon.get("shop")


def test_another_address_is_listened_on_after_a_reload(
    daemon: DaemonUnderTest, blog: Project, django: object
) -> None:
    daemon.start()
    old = daemon.ports.pop("blog")
    new = daemon.site("blog", django)  # type: ignore[arg-type]
    assert new != old
    daemon.reload_well()
    assert daemon.get("blog") == (200, b"one")
    daemon.ports["blog"] = old

    def refused() -> bool:
        try:
            daemon.get("blog")
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # nobody took it before the last one closed the address
            return False
        return False

    wait_for(refused, "the old address to be closed")


def test_another_number_of_workers_is_taken_over(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    assert daemon.done("scale", "blog=4").status == 0
    wait_for(lambda: len(daemon.workers("blog")) == 4, "four workers")
    with Load(daemon.ports["blog"], connections=16) as load:
        daemon.done("scale", "blog=1")
        wait_for(lambda: len(daemon.workers("blog")) == 1, "one worker")
        load.wait_for_requests(100)
    assert load.outcome.closed == 0, load.outcome.summary()
    daemon.signal(signal.SIGTTIN)
    wait_for(lambda: len(daemon.workers("blog")) == 2, "one worker more")
    daemon.signal(signal.SIGTTOU)
    wait_for(lambda: len(daemon.workers("blog")) == 1, "one worker fewer")


def test_a_rollback_brings_the_former_code_back_though_the_disk_has_the_new(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    refused = daemon.run("rollback", "blog")
    assert refused.status == 1
    assert "no former generation is kept" in refused.stderr
    blog.deploy("two")
    daemon.reload_well("blog")
    assert daemon.status("blog")["previous_generation"] == 1
    with Load(daemon.ports["blog"], connections=8) as load:
        load.wait_for_requests(50)
        done = daemon.done("rollback", "blog")
        load.wait_for_requests(50)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert "generation 1 serves" in done.stdout
    assert generation(daemon) == 1
    assert daemon.get("blog") == (200, b"one")
    daemon.done("rollback", "blog")
    assert daemon.get("blog") == (200, b"two")
    daemon.reload_well("blog")
    assert generation(daemon) == 3


def test_restart_ends_and_starts_one_site(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    before = {worker["pid"] for worker in daemon.workers("blog")}
    blog.deploy("two")
    daemon.done("restart", "blog")
    assert daemon.get("blog") == (200, b"two")
    assert not before & {worker["pid"] for worker in daemon.workers("blog")}
