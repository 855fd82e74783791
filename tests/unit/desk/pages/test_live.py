"""News for open pages: nothing stale is called live, whatever was missed, and nobody hears of what is not theirs."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from desk.figures import ProcessFigures
from desk.pages.live import KEPT, Board, frame, parse, stream


def desk() -> Any:
    return SimpleNamespace(stopping=threading.Event(), figures=ProcessFigures())


async def told(
    board: Board, last: str | None = None, *, products: frozenset[str] | None = None, s: float = 0.05
) -> str:
    """All that a stream says within `s` seconds."""
    parts = [part async for part in stream(board, desk(), products, last, beat_s=0.02, stream_s=s)]
    return b"".join(parts).decode()


def events(text: str) -> list[str]:
    return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]


async def test_a_page_that_begins_is_told_to_read_anew() -> None:
    board = Board()
    board.begin()
    said = events(await told(board))
    assert said[0] == "anew"
    assert set(said[1:]) == {"beat"}


async def test_who_comes_back_is_told_what_it_missed() -> None:
    board = Board()
    board.begin()
    epoch, _ = board.stand()
    board.tell([("a", None), ("b", None)])
    text = await told(board, f"{epoch}-1")
    assert events(text)[:2] == ["resumed", "case"]
    assert '"b"' in text
    assert '"a"' not in text


async def test_another_listening_is_read_anew() -> None:
    board = Board()
    board.begin()
    epoch, _ = board.stand()
    board.begin()
    assert events(await told(board, f"{epoch}-0"))[0] == "anew"


async def test_what_is_kept_no_more_is_read_anew() -> None:
    board = Board()
    board.begin()
    epoch, _ = board.stand()
    board.tell([(str(number), None) for number in range(KEPT + 2)])
    assert events(await told(board, f"{epoch}-1"))[0] == "anew"
    assert events(await told(board, f"{epoch}-2"))[0] == "resumed"


async def test_a_number_from_the_future_is_read_anew() -> None:
    board = Board()
    board.begin()
    epoch, _ = board.stand()
    assert events(await told(board, f"{epoch}-7"))[0] == "anew"


async def test_while_the_database_is_not_heard_nothing_is_live() -> None:
    board = Board()
    assert set(events(await told(board))) == {"deaf"}
    board.begin()
    epoch, _ = board.stand()
    board.deaf()
    assert set(events(await told(board, f"{epoch}-0"))) == {"deaf"}


async def test_a_page_is_told_when_hearing_ends_and_begins_again() -> None:
    board = Board()
    board.begin()

    async def interrupt() -> None:
        await asyncio.sleep(0.03)
        board.deaf()
        await asyncio.sleep(0.03)
        board.begin()

    text, _ = await asyncio.gather(told(board, s=0.15), interrupt())
    said = [event for event in events(text) if event != "beat"]
    assert said[0] == "anew"
    assert said[-1] == "anew"
    assert "deaf" in said


async def test_news_come_at_once_and_in_order() -> None:
    board = Board()
    board.begin()

    async def happen() -> None:
        await asyncio.sleep(0.01)
        threading.Thread(target=board.tell, args=([("first", None)],)).start()
        await asyncio.sleep(0.01)
        board.tell([("second", None)])

    text, _ = await asyncio.gather(told(board, s=0.1), happen())
    assert text.index("first") < text.index("second")


async def test_news_of_other_products_are_not_told() -> None:
    board = Board()
    board.begin()
    epoch, _ = board.stand()
    board.tell([("mine", "card"), ("another", "auto_loan"), ("unknown", None)])
    text = await told(board, f"{epoch}-0", products=frozenset({"card"}))
    assert '"mine"' in text
    assert "another" not in text
    assert "unknown" not in text


async def test_a_desk_that_ends_ends_its_streams() -> None:
    board, ending = Board(), desk()
    board.begin()

    async def end() -> None:
        await asyncio.sleep(0.02)
        ending.stopping.set()
        board.deaf()

    async def listen() -> int:
        return len([part async for part in stream(board, ending, None, None, beat_s=60, stream_s=60)])

    parts, _ = await asyncio.wait_for(asyncio.gather(listen(), end()), 5)
    assert parts >= 2


async def test_who_leaves_is_forgotten() -> None:
    board = Board()
    board.begin()
    await told(board)
    assert board.subscribers == 0


@given(st.one_of(st.none(), st.text(max_size=40)))
def test_any_last_event_id_is_read(text: str | None) -> None:
    epoch, number = parse(text)
    assert number >= 0
    assert epoch == "" or f"{epoch}-" in (text or "")


@given(st.text(max_size=60))
def test_an_id_does_not_break_out_of_its_event(alert_id: str) -> None:
    lines = frame("case", json.dumps({"alert_id": alert_id}), "e-1").decode().split("\n")
    assert [line.partition(":")[0] for line in lines] == ["id", "event", "data", "", ""]
