"""What BoxExecute adds to nbclient, without a kernel."""

import asyncio
from queue import Empty

import pytest

from coursekit.classroom.grade import execute


def test_a_reply_that_woke_nobody_is_found_at_the_next_look():
    asked = []

    async def get_msg(timeout):
        asked.append(timeout)
        if len(asked) < 3:
            raise Empty  # it is there by the third look, and nothing has said so
        return {"content": "reply"}

    assert asyncio.run(execute._look_again(get_msg)(timeout=60.0)) == {"content": "reply"}
    assert asked == [execute.LOOK_SECONDS] * 3


def test_nothing_to_find_is_empty_at_the_time_limit():
    asked = []

    async def get_msg(timeout):
        asked.append(timeout)
        await asyncio.sleep(timeout)
        raise Empty

    with pytest.raises(Empty):
        asyncio.run(execute._look_again(get_msg)(timeout=0.3))
    assert asked and max(asked) <= execute.LOOK_SECONDS and sum(asked) <= 0.35
