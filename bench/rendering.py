"""Results as tables, as charts, and as the generated sections of the documents.

Every figure comes from the JSON files in the folder of results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.scaling import Assumptions, Measured, deployment, step
from model.presentation.charts import Bar, bars, lines
from model.presentation.sections import with_section

SECTION = "bench"
"""Name of the generated section of each document."""
PARTITIONS = (1, 4, 16, 64, 256, 1_000)
USERS = (1e5, 1e7, 1e9)

Result = dict[str, Any]
Row = tuple[str, ...]


class RenderingError(RuntimeError):
    """Results or documents are not there; the message says what to do."""


def render(results_dir: Path, docs_dir: Path) -> list[Path]:
    """Write pictures and the generated sections of the documents in `SECTIONS`; returns what was written.

    Raises `RenderingError` when there are no results or no document, `SectionError` when a document lacks its section.
    """
    results = read_results(results_dir)
    written = [path for result in results.values() for path in draw(result, results_dir)]
    for name, section in SECTIONS.items():
        path = docs_dir / name
        if not path.is_file():
            raise RenderingError(f"{path} does not exist; name the folder of the documents with --docs-dir")
        path.write_text(with_section(path.read_text(), SECTION, section(results), str(path)))
        written.append(path)
    return written


def read_results(folder: Path) -> dict[str, Result]:
    """Results by name of the measurement. Raises `RenderingError` when there is none."""
    results = {path.stem: msgspec.json.decode(path.read_bytes()) for path in sorted(folder.glob("*.json"))}
    if not results:
        raise RenderingError(f"{folder} holds no results; run `foreshock bench all --report-dir {folder}`")
    return results


def draw(result: Result, folder: Path) -> list[Path]:
    """Write the pictures of a result beside it."""
    drawing = PICTURES.get(result["bench"])
    if drawing is None:
        return []
    path = folder / f"{result['bench']}.svg"
    path.write_text(drawing(result))
    return [path]


def performance_section(results: dict[str, Result]) -> str:
    """The generated section of `performance.md`."""
    parts = []
    for name, title in TITLES.items():
        if name not in results:
            continue
        result = results[name]
        parts.append(f"### {title}\n")
        if name in PICTURES:
            parts.append(f"![{title}](../bench/results/{name}.svg)\n")
        parts.append(_markdown(*TABLES[name](result)))
        parts.append(f"{_where(result)}\n")
    return "\n".join(parts)


def replay_section(results: dict[str, Result]) -> str:
    """The generated section of `replay.md`: what a replay's worker comes to, and what is kept for it."""
    result = results.get("replay")
    if result is None:
        return _not_measured("replay")
    return f"{_markdown(*_replay_table(result))}\n{_where(result)}"


def hand_over_section(results: dict[str, Result]) -> str:
    """The generated section of `models-in-production.md`: the pause, and what a shadow costs."""
    result = results.get("hand-over")
    if result is None:
        return _not_measured("hand-over")
    return f"{_markdown(*_hand_over_table(result))}\n{_where(result)}"


def _not_measured(name: str) -> str:
    return f"Not measured yet: `foreshock bench {name} --report-dir bench/results`, then `foreshock bench report`."


def scaling_section(results: dict[str, Result]) -> str:
    """The generated section of `scaling.md`; says what is missing where a measurement has not been taken."""
    missing = [name for name in ("throughput", "recovery", "users") if name not in results]
    if missing:
        return f"Not measured yet: {', '.join(missing)}. `foreshock bench all --report-dir bench/results` measures it."
    measured = Measured(
        events_per_second=results["throughput"]["events_per_second"],
        recovered_users_per_second=results["recovery"]["recovered_users_per_second"],
        bytes_per_user=results["users"]["bytes_per_user"],
        row_bytes=results["users"]["row_bytes"],
    )
    assumed = Assumptions()
    unit = (
        f"Measured: {_count(measured.events_per_second)} events/s of one worker, "
        f"{_count(measured.recovered_users_per_second)} users/s restored, {_count(measured.bytes_per_user)} bytes per "
        f"user in memory and {_count(measured.row_bytes)} in the changelog.\n"
    )
    steps = [step(partitions, measured, assumed) for partitions in PARTITIONS]
    step_header = ("partitions = workers", "events/s", "users in memory", "read, MB/s", "written, MB/s")
    step_rows = [
        (
            _count(each.partitions),
            _count(each.events_per_second),
            _count(each.users_in_memory),
            _count(each.read_mb_per_second),
            _count(each.written_mb_per_second),
        )
        for each in steps
    ]
    return "\n".join([unit, _markdown(step_header, step_rows), _deployments(measured, assumed)])


def _deployments(measured: Measured, assumed: Assumptions) -> str:
    found = [deployment(users, measured, assumed) for users in USERS]
    header = ("", *(f"{_count(each.users)} users" for each in found))
    rows: list[Row] = [
        ("events/s, average", *(_count(each.average_events_per_second) for each in found)),
        ("events/s, peak", *(_count(each.peak_events_per_second) for each in found)),
        ("workers for the peak", *(_count(each.workers_for_rate) for each in found)),
        ("workers for the state in memory", *(_count(each.workers_for_memory) for each in found)),
        ("partitions", *(_count(each.partitions) for each in found)),
        ("changelog written, MB/s", *(f"{each.changelog_mb_per_second:,.1f}" for each in found)),
        ("changelog on disk, TB", *(f"{each.changelog_tb:,.2f}" for each in found)),
        ("events and scores on disk, TB", *(f"{each.events_tb:,.2f}" for each in found)),
        ("recovery of one worker, s", *(f"{each.recovery_s:,.1f}" for each in found)),
    ]
    return _markdown(header, rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    aligned = ["---", *("---:" for _ in header[1:])]
    lines_ = ["| " + " | ".join(cells) + " |" for cells in (header, aligned, *rows)]
    return "\n".join(lines_) + "\n"


def _where(result: Result) -> str:
    environment = result["environment"]
    stolen = f", {result['stolen_share']:.1%} of the processors taken by others" if "stolen_share" in result else ""
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return (
        f"{environment['taken_at']}, commit {environment['commit'] or 'unknown'}, {environment['cores']} cores of "
        f"{environment['cpu']}, {environment['memory_gib']} GiB, load {environment['load_before']} before{stolen}, "
        f"Python {environment['python']}, Kafka {environment['kafka']} on the same machine, {packages}."
    )


def _count(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} ×"


def _throughput_table(result: Result) -> tuple[Row, list[Row]]:
    header = ("contender", "events/s", "range", "foreshock is", "CPU s per million", "what it does")
    rows: list[Row] = []
    for name, contender in result["contenders"].items():
        if "skipped" in contender:
            reason = str(contender["skipped"]).splitlines()[0]
            rows.append((contender["title"], "–", "–", "–", "–", f"not run: {reason}"))
            continue
        rate, cpu = contender["events_per_second"], contender["cpu_seconds_per_million_events"]
        ratio = _ratio(result.get(f"ratio_to_{name}"))
        scored = contender["events_in_each_round"]
        cut_short = "" if contender["scored_everything"] else f" (cut short at {_count(min(scored))} events)"
        rows.append(
            (
                contender["title"],
                _count(rate["median"]),
                f"{_count(rate['min'])}–{_count(rate['max'])}",
                ratio if name != "foreshock" else "",
                "–" if cpu is None else f"{cpu:.3g}",
                contender["description"] + cut_short,
            )
        )
    return header, rows


def _latency_table(result: Result) -> tuple[Row, list[Row]]:
    names = ("p50", "p99", "p99.9")
    committed = result.get("committed_latency_ms")  # not in results from before transactions
    rows = []
    for rate, each in result["latency_ms"].items():
        row = [_count(float(rate)), *(f"{each[name]:.1f}" for name in names)]
        rows.append((*row, *(f"{committed[rate][name]:.0f}" for name in names)) if committed else tuple(row))
    header = ("events/s", *(f"{name}, ms" for name in names))
    return (*header, *(f"committed {name}, ms" for name in names)) if committed else header, list(rows)


def _cost_rows(result: Result) -> list[Row]:
    return [
        (_count(float(size)), f"{cost['median']:.2f}", f"{cost['min']:.2f}–{cost['max']:.2f}")
        for size, cost in result["microseconds_per_event"].items()
    ]


def _history_table(result: Result) -> tuple[Row, list[Row]]:
    rows = [*_cost_rows(result), ("longest to shortest", _ratio(result["history_cost_ratio"]), "")]
    return ("events behind the user", "µs per event", "range"), rows


def _users_table(result: Result) -> tuple[Row, list[Row]]:
    rows = [
        *_cost_rows(result),
        ("most to fewest", _ratio(result["users_cost_ratio"]), ""),
        ("resident bytes per user", _count(result["bytes_per_user"]), f"of them the row {_count(result['row_bytes'])}"),
    ]
    if "on_disk" in result:
        rows += _on_disk_rows(result["on_disk"])
    return ("users", "µs per event", "range"), rows


def _on_disk_rows(figures: Result) -> list[Row]:
    in_memory = figures["memory"]["microseconds_per_event"]
    return [
        (f"{title}, {access}", f"{cost:.2f}", f"in memory only {in_memory[access]:.2f}")
        for name, title in (("all_resident", "all on disk and in memory"), ("tenth_resident", "a tenth in memory"))
        for access, cost in figures[name]["microseconds_per_event"].items()
    ]


def _recovery_table(result: Result) -> tuple[Row, list[Row]]:
    rows: list[Row] = [
        ("users restored per second", _count(result["recovered_users_per_second"])),
        ("start to first score, empty table, s", f"{result['start_to_first_score_s']:.1f}"),
        (
            f"start to first score, {_count(result['users'])} users, s",
            f"{result['start_to_first_score_with_users_s']:.1f}",
        ),
        ("start to first score, those users on disk, s", f"{result['restart_to_score_with_users_on_disk_s']:.1f}"),
        ("SIGKILL to the next score, s", f"{result['kill_to_next_score_s']:.1f}"),
    ]
    return ("what", "measured"), rows


def _workers_table(result: Result) -> tuple[Row, list[Row]]:
    rates, costs, sink = result["events_per_second"], result["cpu_seconds_per_million_events"], result["sink"]
    rows: list[Row] = [
        ("events/s, one worker", _count(rates["1"])),
        ("events/s, two workers", _count(rates["2"])),
        ("two to one", _ratio(result["rate_of_two_to_one"])),
        ("processor seconds per million events, one worker", f"{costs['1']:.1f}"),
        ("processor seconds per million events, two workers", f"{costs['2']:.1f}"),
        ("two to one", _ratio(result["processor_time_of_two_to_one"])),
        ("events/s of a worker with the sink beside it", _count(sink["scores_per_second_beside_it"])),
        ("the sink has stored the last score after it, s", f"{sink['stored_after_the_last_score_s']:.1f}"),
    ]
    return ("what", "measured"), rows


def _overload_table(result: Result) -> tuple[Row, list[Row]]:
    rows: list[Row] = [
        ("alone, from a backlog, events/s", _count(result["alone_events_per_second"])),
        ("from a backlog, beside such a publisher, events/s", _count(result["beside_publisher_events_per_second"])),
        ("offered, events/s", _count(result["offered_events_per_second"])),
        ("scored meanwhile, events/s", _count(result["overloaded_events_per_second"])),
        ("kept of the speed alone", _ratio(result["throughput_kept"])),
        ("kept of the speed beside such a publisher", _ratio(result["throughput_kept_beside_publisher"])),
        ("scored while catching up, events/s", _count(result["catching_up_events_per_second"])),
        ("greatest lag, events", _count(result["greatest_lag_events"])),
        ("caught up after, s", f"{result['caught_up_after_s']:.1f}"),
        ("memory before, MiB", _count(result["rss_mib_before"])),
        ("memory at most, MiB", _count(result["rss_mib_greatest"])),
    ]
    return ("what", "measured"), rows


def _replay_table(result: Result) -> tuple[Row, list[Row]]:
    rates = {
        "live worker, events": "live_events",
        "replay of the topics, events": "replayed_events",
        "replay of an archive, events": "events_replayed_from_archive",
        "archive export, records": "exported_records",
        "archive check, records": "checked_records",
        "records read from an archive": "records_read_from_archive",
        "records read from topics": "records_read_from_topics",
        "archive import, records": "imported_records",
        "archive import of what is there already": "compared_records",
    }
    rows: list[Row] = [
        *((f"{title}, per second", _count(result[name])) for title, name in rates.items()),
        ("replay to live", _ratio(result["replay_to_live"])),
        ("rate that `replay plan` expects, to that of the replay", _ratio(result["expected_to_replayed"])),
        ("beside intake and scoring, in times of intake", f"{result['rest_to_intake']:.1f}"),
        ("order journal, bytes per event", f"{result['journal_bytes_per_event']:.1f}"),
        ("archive, bytes per record", _count(result["archive_bytes_per_record"])),
        ("topics, bytes per record", _count(result["topic_bytes_per_record"])),
    ]
    memory = result["greatest_rss_mib"]
    sizes = " and ".join(_count(float(events)) for events in memory)
    rows += [
        (f"{title}, MiB at most, over {sizes} events", " and ".join(_count(of[name]) for of in memory.values()))
        for name, title in (("worker", "replay's worker"), ("plan", "`replay plan`"), ("diff", "`replay diff`"))
    ]
    return ("what", "measured"), rows


def _hand_over_table(result: Result) -> tuple[Row, list[Row]]:
    titles = {
        "longest pause between committed scores, s": "longest_pause_s",
        "median pause, s": "median_pause_s",
        "`replay promote` takes, s": "command_s",
        "processor seconds per million events, live workers": "live_cpu_seconds_per_million_events",
        "processor seconds per million events, shadow": "shadow_cpu_seconds_per_million_events",
    }
    rates = list(result["longest_pause_s"])
    rows = [(title, *(f"{result[name][rate]:.1f}" for rate in rates)) for title, name in titles.items()]
    return ("what", *(f"{_count(float(rate))} events/s" for rate in rates)), rows


def _api_table(result: Result) -> tuple[Row, list[Row]]:
    titles = {"p50": "p50, ms", "p99": "p99, ms", "p99.9": "p99.9, ms", "late_p99": "of it sent late, p99, ms"}
    names = [name for name in titles if all(name in each for each in result["delay_ms"].values())]
    rows: list[Row] = [(where, *(f"{each[name]:.1f}" for name in names)) for where, each in result["delay_ms"].items()]
    return (f"{_count(result['requests_per_second'])} requests/s", *(titles[name] for name in names)), rows


def _desk_table(result: Result) -> tuple[Row, list[Row]]:
    names = ("p50", "p99", "max")
    rows: list[Row] = [(what, *(f"{each[name]:.0f}" for name in names)) for what, each in result["page_ms"].items()]
    header = f"{_count(result['users'])} borrowers, {_count(result['open_cases'])} open cases"
    return (header, *(f"{name}, ms" for name in names)), rows


def _throughput_picture(result: Result) -> str:
    taken = {name: each for name, each in result["contenders"].items() if "skipped" not in each}
    rows = [
        Bar(each["title"], rate := each["events_per_second"]["median"], f"{rate:,.0f} events/s", name == "foreshock")
        for name, each in taken.items()
    ]
    return bars("Events per second, one process", rows)


def _latency_picture(result: Result) -> str:
    rows = [
        Bar(f"{_count(float(rate))} events/s, {name}", value, f"{value:.1f} ms", name == "p50")
        for rate, each in result["latency_ms"].items()
        for name, value in each.items()
    ]
    return bars("Delay from an event to its score", rows)


def _cost_picture(title: str, x_label: str) -> Callable[[Result], str]:
    def picture(result: Result) -> str:
        points = [(float(size), cost["median"]) for size, cost in result["microseconds_per_event"].items()]
        return lines(title, x_label, "µs per event", {"median": points}, log_x=True)

    return picture


def _overload_picture(result: Result) -> str:
    samples = result["samples"]
    series = {
        "published": [(at_s, published) for at_s, published, _, _ in samples],
        "scored": [(at_s, scored) for at_s, _, scored, _ in samples],
        "lag": [(at_s, published - scored) for at_s, published, scored, _ in samples],
    }
    return lines("Twice the sustainable rate", "seconds", "events", series)


TITLES = {
    "throughput": "Throughput, side by side",
    "latency": "Delay from an event to its score",
    "history": "Cost of an event as a user's history grows",
    "users": "Cost of an event, and memory, as users grow",
    "recovery": "Start, recovery, failure",
    "workers": "Two workers, and the sink",
    "api": "Delay of a score over HTTP",
    "desk": "Pages of the desk",
    "overload": "Service under overload",
    "replay": "Replay, order journal and archive",
    "hand-over": "Hand-over, and the cost of a shadow",
}
TABLES: dict[str, Callable[[Result], tuple[Row, list[Row]]]] = {
    "throughput": _throughput_table,
    "latency": _latency_table,
    "history": _history_table,
    "users": _users_table,
    "recovery": _recovery_table,
    "workers": _workers_table,
    "api": _api_table,
    "desk": _desk_table,
    "overload": _overload_table,
    "replay": _replay_table,
    "hand-over": _hand_over_table,
}
PICTURES: dict[str, Callable[[Result], str]] = {
    "throughput": _throughput_picture,
    "latency": _latency_picture,
    "history": _cost_picture("Cost of an event as a user's history grows", "events behind the user"),
    "users": _cost_picture("Cost of an event as users grow", "users"),
    "overload": _overload_picture,
}
SECTIONS: dict[str, Callable[[dict[str, Result]], str]] = {
    "performance.md": performance_section,
    "scaling.md": scaling_section,
    "replay.md": replay_section,
    "models-in-production.md": hand_over_section,
}
"""The documents that have a generated section, and what makes it."""
