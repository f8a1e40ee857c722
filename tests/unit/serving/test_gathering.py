"""What waits at the same moment is worked on together, each answered with its own."""

import asyncio
from collections.abc import Sequence

import pytest

from app.serving.gathering import Gathering


def test_what_comes_alone_is_answered_alone_and_what_waits_together_in_order() -> None:
    batches: list[list[int]] = []

    def double(asked: Sequence[int]) -> list[int]:
        batches.append(list(asked))
        return [2 * number for number in asked]

    async def ask() -> list[int]:
        gathering = Gathering(double, most=3)
        alone = await gathering.ask(1)
        together = [gathering.ask(number) for number in range(5)]
        assert len(gathering) == 5
        return [alone, *await asyncio.gather(*together)]

    assert asyncio.run(ask()) == [2, 0, 2, 4, 6, 8]
    assert batches == [[1], [0, 1, 2], [3, 4]]


def test_what_is_raised_reaches_everybody_of_the_batch_and_nobody_else() -> None:
    def fail_once(asked: Sequence[str]) -> Sequence[str]:
        if "bad" in asked:
            raise ValueError("this batch")
        return asked

    async def ask() -> list[object]:
        gathering = Gathering(fail_once, most=2)
        asked = [gathering.ask(word) for word in ("bad", "beside it", "after it")]
        return await asyncio.gather(*asked, return_exceptions=True)

    bad, beside, after = asyncio.run(ask())
    assert isinstance(bad, ValueError)
    assert isinstance(beside, ValueError)
    assert after == "after it"


def test_who_has_gone_is_not_worked_for() -> None:
    worked: list[str] = []

    def work(asked: Sequence[str]) -> Sequence[str]:
        worked.extend(asked)
        return asked

    async def ask() -> str:
        gathering = Gathering(work, most=8)
        gone, there = gathering.ask("gone"), gathering.ask("there")
        gone.cancel()
        answer = await there
        with pytest.raises(asyncio.CancelledError):
            await gone
        return answer

    assert asyncio.run(ask()) == "there"
    assert worked == ["there"]
