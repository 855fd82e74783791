"""Documents are made from results: every measurement has a table, and what is outside the marks stays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.environment import Environment
from bench.rendering import (
    SECTIONS,
    TABLES,
    TITLES,
    RenderingError,
    draw,
    hand_over_section,
    performance_section,
    read_results,
    render,
    replay_section,
    scaling_section,
)
from bench.suite import MEASUREMENTS, result_bytes
from model.presentation.sections import SectionError

DOCS = Path(__file__).parents[3] / "docs"


def results() -> dict[str, dict[str, Any]]:
    environment = msgspec.to_builtins(Environment.of_this_machine("0123456789abcdef"))
    ran = {
        "title": "foreshock",
        "description": "as shipped",
        "events_per_second": {"median": 60_000.0, "min": 50_000.0, "max": 70_000.0},
        "cpu_seconds_per_million_events": 12.5,
        "rss_mib": 200.0,
        "events_in_each_round": [100, 100],
        "scored_everything": True,
    }
    figures: dict[str, dict[str, Any]] = {
        "throughput": {
            "events_per_second": 60_000.0,
            "ratio_to_limit": 0.25,
            "ratio_to_quix_step": None,
            "contenders": {
                "foreshock": ran,
                "limit": ran | {"title": "limit", "scored_everything": False, "cpu_seconds_per_million_events": None},
                "quix_step": {"title": "Quix", "description": "", "skipped": "not here [red]\nand more"},
            },
        },
        "latency": {"latency_ms": {"1000": {"p50": 2.5, "p99": 8.0, "p99.9": 20.0}}},
        "history": {
            "history_cost_ratio": 1.05,
            "microseconds_per_event": {"10": {"median": 10.0, "min": 9.0, "max": 11.0}},
        },
        "users": {
            "users_cost_ratio": 1.2,
            "bytes_per_user": 4_500.0,
            "row_bytes": 4_072,
            "microseconds_per_event": {
                "10000": {"median": 10.0, "min": 9.0, "max": 11.0},
                "100000": {"median": 12.0, "min": 9.0, "max": 14.0},
            },
            "on_disk": {
                name: {"microseconds_per_event": {"skewed": 13.0}}
                for name in ("memory", "all_resident", "tenth_resident")
            },
        },
        "recovery": {
            "users": 300_000,
            "recovered_users_per_second": 160_000.0,
            "start_to_first_score_s": 2.0,
            "start_to_first_score_with_users_s": 4.0,
            "restart_to_score_with_users_on_disk_s": 2.5,
            "kill_to_next_score_s": 9.0,
        },
        "workers": {
            "rate_of_two_to_one": 1.8,
            "processor_time_of_two_to_one": 1.05,
            "events_per_second": {"1": 40_000.0, "2": 72_000.0},
            "cpu_seconds_per_million_events": {"1": 25.0, "2": 26.25},
            "sink": {
                "scores": 240_000,
                "scores_per_second_beside_it": 39_000.0,
                "stored_after_the_last_score_s": 1.5,
            },
        },
        "api": {
            "requests_per_second": 200,
            "delay_ms": {"alone": {"p50": 2.0, "p99": 5.0, "p99.9": 9.0, "late_p99": 0.3}},
        },
        "desk": {
            "users": 1_000_000,
            "open_cases": 100_000,
            "page_ms": {"queue, first page": {"p50": 20.0, "p99": 31.0, "max": 40.0}},
        },
        "overload": {
            "alone_events_per_second": 60_000.0,
            "beside_publisher_events_per_second": 52_000.0,
            "offered_events_per_second": 120_000.0,
            "overloaded_events_per_second": 50_000.0,
            "throughput_kept": 0.83,
            "throughput_kept_beside_publisher": 0.96,
            "catching_up_events_per_second": 60_000.0,
            "greatest_lag_events": 500_000,
            "caught_up_after_s": 8.0,
            "rss_mib_before": 150.0,
            "rss_mib_greatest": 300.0,
            "samples": [[0.0, 0, 0, 150.0], [1.0, 120_000, 50_000, 300.0]],
        },
        "replay": {
            "live_events": 22_000.0,
            "replayed_events": 21_000.0,
            "events_replayed_from_archive": 24_000.0,
            "exported_records": 23_000.0,
            "checked_records": 250_000.0,
            "records_read_from_archive": 480_000.0,
            "records_read_from_topics": 22_000.0,
            "imported_records": 99_000.0,
            "compared_records": 27_000.0,
            "replay_to_live": 0.95,
            "expected_to_replayed": 0.9,
            "rest_to_intake": 2.5,
            "journal_bytes_per_event": 1.2,
            "archive_bytes_per_record": 32.0,
            "topic_bytes_per_record": 229.0,
            "greatest_rss_mib": {
                "30000": {"worker": 210.0, "plan": 90.0, "diff": 110.0},
                "150000": {"worker": 215.0, "plan": 90.0, "diff": 112.0},
            },
        },
        "hand-over": {
            name: {"800": 0.8, "5000": 1.4}
            for name in (
                "longest_pause_s",
                "median_pause_s",
                "command_s",
                "live_cpu_seconds_per_million_events",
                "shadow_cpu_seconds_per_million_events",
            )
        },
    }
    return {
        name: {"bench": name, **each, "stolen_share": 0.0321, "environment": environment}
        for name, each in figures.items()
    }


def test_every_measurement_can_be_shown() -> None:
    assert set(MEASUREMENTS) == set(TABLES) == set(TITLES) == set(results())


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_a_cell_for_each_heading(name: str) -> None:
    header, rows = TABLES[name](results()[name])
    assert rows
    assert all(len(row) == len(header) for row in rows)


def test_the_documents_are_written_from_the_results(tmp_path: Path) -> None:
    folder, docs = tmp_path / "results", tmp_path / "docs"
    folder.mkdir()
    docs.mkdir()
    for name in SECTIONS:
        (docs / name).write_text((DOCS / name).read_text())
    for name, result in results().items():
        (folder / f"{name}.json").write_bytes(result_bytes(result))
    written = render(folder, docs)
    assert docs / "performance.md" in written
    assert {path.name for path in folder.glob("*.svg")} == {path.name for path in written if path.suffix == ".svg"}
    text = (docs / "performance.md").read_text()
    assert all(f"### {title}" in text for title in TITLES.values())
    assert "| foreshock | 60,000 | 50,000–70,000 |" in text
    assert "not run: not here" in text
    assert "3.2% of the processors taken by others" in text
    assert "and more" not in text
    assert "cut short at 100 events" in text
    assert "10,000,000 users" in (docs / "scaling.md").read_text()
    assert "| replay to live |" in (docs / "replay.md").read_text()
    assert "| `replay diff`, MiB at most, over 30,000 and 150,000 events | 110 and 112 |" in text
    assert "| longest pause between committed scores, s |" in (docs / "models-in-production.md").read_text()
    assert render(folder, docs) == written  # writing again changes nothing
    assert (docs / "performance.md").read_text() == text


def test_pictures_that_the_document_shows_are_drawn(tmp_path: Path) -> None:
    text = performance_section(results())
    drawn = [path.name for result in results().values() for path in draw(result, tmp_path)]
    assert drawn
    assert text.count("![") == len(drawn)
    assert all(f"bench/results/{name})" in text for name in drawn)


def test_scaling_names_what_was_not_measured() -> None:
    some = results()
    del some["recovery"]
    assert "Not measured yet: recovery." in scaling_section(some)


@pytest.mark.parametrize(("name", "section"), [("replay", replay_section), ("hand-over", hand_over_section)])
def test_a_document_of_one_measurement_says_how_to_take_it(name: str, section: Callable[..., str]) -> None:
    some = results()
    del some[name]
    assert f"`foreshock bench {name} --report-dir bench/results`" in section(some)
    assert "| what |" in section(results())


def test_no_results_and_no_documents(tmp_path: Path) -> None:
    with pytest.raises(RenderingError, match="holds no results"):
        read_results(tmp_path)
    (tmp_path / "history.json").write_bytes(result_bytes(results()["history"]))
    with pytest.raises(RenderingError, match=r"performance\.md does not exist"):
        render(tmp_path, tmp_path / "nowhere")
    (tmp_path / "performance.md").write_text("no marks")
    with pytest.raises(SectionError, match=r"performance\.md has no section"):
        render(tmp_path, tmp_path)


def test_the_environment_says_when_and_on_what() -> None:
    environment = Environment.of_this_machine("f" * 16)
    assert dt.datetime.fromisoformat(environment.taken_at).tzinfo is not None
    assert environment.cores >= 1
    assert environment.cpu
    assert environment.packages["aiokafka"]
