"""Medians, ratios, and the ways that figures are kept and shown."""

import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from benchmarks import publish, reloading, report, tables
from benchmarks.launch import Launch
from benchmarks.load import ClientsResult
from benchmarks.measure import Figures, Memory, MemoryOfFour, Reloads, median
from benchmarks.report import Report, best_rival, ratio
from benchmarks.running import Running
from benchmarks.servers import BY_NAME
from benchmarks.workloads import BARE

ONE = Figures(
    cpu_us=10.0, spread=0.0, requests_per_s=1000.0, p50_ms=1.0, p99_ms=2.0, p999_ms=3.0,
    newcomer_ms=4.0, cores=0.9, requests=2000, failed=1,
)  # fmt: skip


BEGIN, END = publish.marks("make bench")


def filled() -> Report:
    memory = MemoryOfFour(Memory(40.0, 5.0), Memory(50.0, 5.0))
    return Report(
        seconds=1.0,
        rounds=3,
        load={
            1: {
                "bare": {
                    "djsup": replace(ONE, failed=0),
                    "granian": replace(ONE, cpu_us=20.0, requests_per_s=500.0, newcomer_ms=None),
                    "waitress": replace(ONE, cpu_us=40.0, requests_per_s=2000.0),
                },
                "page": {"djsup": ONE},
                "mix": {"djsup": replace(ONE, p99_ms=4.5)},
            }
        },
        memory={"blog": {"djsup": memory}},
        reloads={"blog": {"djsup": Reloads(10, 1, 2, 0, 96.0, 9.0, 0.4)}},
        missing={"waitress: it has no TLS": ["tls with 1"]},
    )


def test_median_is_taken_of_each_figure_and_failures_are_added_up() -> None:
    found = median(
        [ONE, replace(ONE, cpu_us=30.0, p99_ms=9.0), replace(ONE, cpu_us=12.0, requests_per_s=10.0)]
    )
    assert (found.cpu_us, found.p99_ms, found.requests_per_s) == (12.0, 2.0, 1000.0)
    assert found.spread == pytest.approx((30 - 10) / 12)
    assert (found.requests, found.failed) == (6000, 3)


def test_newcomer_that_was_mostly_not_answered_has_no_median() -> None:
    never = replace(ONE, newcomer_ms=None)
    assert median([ONE, never, never]).newcomer_ms is None
    assert median([ONE, replace(ONE, newcomer_ms=6.0), never]).newcomer_ms == 6.0


def test_best_rival_is_never_djsup_itself() -> None:
    figures = {"djsup": 1.0, "granian": 2.0, "uwsgi": 3.0}
    assert best_rival(figures) == "granian"
    assert best_rival(figures, greater=True) == "uwsgi"
    assert best_rival({"djsup": 1.0}) is None
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None


def test_report_that_is_saved_reads_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.newest() is None
    saved = filled()
    path = saved.save()
    assert report.newest() == path
    assert Report.read(path) == saved


def test_table_of_a_workload_has_ratios_to_the_best_rival_of_each_figure() -> None:
    _, heading, columns, ours, granian, _ = tables.load(filled(), 1, "bare").splitlines()
    assert "one" not in columns
    assert heading.startswith("bare: a function that answers 14 bytes; 1 worker")
    assert ours.split()[:6] == ["djsup", "10.0", "0.50", "0%", "1,000", "0.50"]
    assert granian.split()[2] == "1.00"
    assert "none" in granian


def test_table_of_the_mix_says_how_much_later_quick_requests_come() -> None:
    assert "less p99 alone, ms: djsup +2.5" in tables.load(filled(), 1, "mix")


def test_memory_is_shown_as_started_and_after_load() -> None:
    row = tables.memory(filled(), "blog").splitlines()[-1]
    assert row.split() == ["djsup", "45.0", "(5.0)", "55.0", "(5.0)"]


def test_published_section_replaces_what_stands_between_the_markers_only() -> None:
    page = f"# Title\n\nwords\n\n{BEGIN}\nold\n{END}\n\nmore words\n"
    new = publish.replaced(page, "new\n")
    assert new == f"# Title\n\nwords\n\n{BEGIN}\n\nnew\n\n{END}\n\nmore words\n"
    assert publish.replaced(new, "new\n") == new
    with pytest.raises(ValueError, match="end"):
        publish.replaced(f"words {BEGIN}", "new\n")


TWO_COLUMNS = "| | reloads |\n| --- | --- |"


def page(section: str) -> str:
    first, last = publish.marks("make it")
    return f"before\n{first}\n{section}\n{last}\nafter"


def a_row(name: str, number: int = 3) -> str:
    return f"| {name} | {number} |"


def published(before: str, said: str, *rows: str) -> str:
    found = {each.partition("| ")[2].rpartition(" | ")[0]: each for each in rows}
    order = ["one | kept", "one | new", "two"]
    return publish.with_rows(before, "make it", said, TWO_COLUMNS, found, order, lambda text: "today" in text)


def test_rows_that_fit_stand_together_in_their_order() -> None:
    text = published(page("old"), "Measured today.", a_row("two"), a_row("one | kept"))
    text = published(text, "Measured today, too.", a_row("one | new"), a_row("one | kept", 2))
    table = "\n".join((TWO_COLUMNS, a_row("one | kept", 2), a_row("one | new"), a_row("two")))
    assert text == page(f"\nMeasured today, too.\n\n{table}\n")


def test_rows_that_do_not_fit_are_not_kept() -> None:
    text = published(page("old"), "Measured yesterday.", a_row("one | kept"))
    text = published(text, "Measured today.", a_row("two"))
    assert a_row("two") in text
    assert a_row("one | kept") not in text


def test_rows_fit_where_place_day_and_pace_are_the_same() -> None:
    pace = reloading.Pace(0.0040)
    section = f"Measured here. {reloading.Pace(0.0042)}"
    assert pace.fits("Measured here.", section)
    assert not pace.fits("Measured there.", section)
    assert not reloading.Pace(0.0030).fits("Measured here.", section)
    assert not pace.fits("Measured here.", "Measured here.")


def test_page_about_reloads_has_the_markers() -> None:
    publish.replaced(reloading.PAGE.read_text(), "", reloading.COMMAND)


def test_a_row_tells_failures_closed_connections_and_how_much_worse_the_worst_answer_is() -> None:
    steady = ClientsResult(requests=1000, latencies_ms=[1.0] * 998 + [2.0, 2.0], worst_ms=2.0)
    during = ClientsResult(requests=990, failed=10, closed=3, latencies_ms=[1.0] * 990, worst_ms=6.0)
    seen = reloading.Seen(10, steady, during, "the old code serves on", 5)
    kept = reloading.row("djsup HUP | kept", [seen])
    cells = [each.strip() for each in kept.strip("|").split("|")]
    assert cells == [
        "djsup HUP",
        "kept",
        "1",
        "10",
        "10 of 1,000",
        "3",
        "2.0",
        "1.0",
        "2.0",
        "6.0",
        "3.0",
        "the old code serves on; 5 failed in 8 s",
    ]
    assert kept.count("|") == reloading.HEAD.splitlines()[0].count("|")
    assert "| new | 1 | 10 | 10 of 1,000 | - |" in reloading.row("djsup HUP | new", [seen])
    gone = replace(seen, broken="the server is gone")
    twice = reloading.row("djsup HUP | kept", [seen, gone])
    assert "| 2 | 20 | 20 of 2,000 | 6 |" in twice
    assert "| the old code serves on or the server is gone; 10 failed in 16 s |" in twice


def test_page_about_performance_has_the_markers() -> None:
    publish.replaced(publish.PAGE.read_text(), "")


def test_published_section_names_ratio_failures_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    full = filled()
    full.save()
    text = publish.section(full)
    assert "| bare | 10.0 | 20.0 | 40.0 | 0.50 |" in text
    assert "| bare | 1,000 | 500 | 2,000 | 0.50 |" in text
    assert "1.0 / 2.0 / 3.0 / never" in text
    assert "granian 1 of 2,000 (bare)" in text
    assert "djsup +2.5" in text
    assert "| djsup | 45 | 55 |" in text
    assert "* waitress: it has no TLS (tls with 1)" in text
    columns = {line.count("|") for line in text.splitlines() if line.startswith("| ") and "bare" in line}
    assert columns == {3, 6, 5}, "the table of workloads, with the ratio, without it"


def test_cpu_time_of_a_process_is_what_it_says_itself_and_counts_ended_threads(tmp_path: Path) -> None:
    launch = Launch(BARE, 1, 1, 1, tmp_path, tmp_path, None, keep_alive=True)
    runs = Running(BY_NAME["waitress"], launch, psutil.Process())
    before_s = runs.cpu_s()

    def burn() -> None:
        begin = psutil.Process().cpu_times().user
        while psutil.Process().cpu_times().user - begin < 0.1:
            sum(range(1000))

    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    assert runs.cpu_s() - before_s >= 0.09
