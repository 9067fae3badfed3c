"""Answers that jobs gave, read from the table `answers` a page at a time."""

from __future__ import annotations

from cluster.errors import NotFound
from models.query.pages import Page
from models.query.sql import Fragment, Run, bound, placed
from models.query.stored import cursor_after, put_together


def stored_answer(query_id: str, page: Page, rows: Fragment, run: Run) -> bytes:
    """The answer with the entries of a page, as JSON.

    Args:
        rows: SELECT of the answers that may be seen.

    Raises:
        NotFound: there is none of that id.
    """
    mine = placed("SELECT * FROM ({}) AS a WHERE query_id = ?{}", rows, bound(query_id))
    ((last,),) = run(placed("SELECT max(place) FROM ({}) AS m", mine)).rows
    if last is None:
        raise NotFound("the answer of this query is not kept", hint="Ask again; HUB_ANSWER_DAYS is how long one is.")
    wanted = bound(page.first, page.first + page.limit)
    told = run(
        placed(
            "SELECT member, content FROM ({}) AS m WHERE place = 0 OR (place > ? AND place <= ?) ORDER BY place{}",
            mine,
            wanted,
        )
    ).rows
    (member, head), *entries = told
    return put_together(str(head), str(member), [str(text) for _, text in entries], cursor_after(page, int(last)))
