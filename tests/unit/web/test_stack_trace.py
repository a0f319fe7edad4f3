"""Stack traces: the user's frames apart from those of libraries."""

from __future__ import annotations

from dashboard.web.views.jobs.stack_trace import MAX_LINES, frames

PYTHON = """Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/rq/job.py", line 1280, in perform
    self._result = self._execute()
  File "/srv/shop/mail.py", line 41, in send
    smtp.send(message)
ConnectionError: refused"""

NODE = """Error: card declined
    at charge (/srv/shop/src/pay.js:14:9)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)
    at async Worker.processJob (/srv/shop/node_modules/bullmq/dist/cjs/classes/worker.js:1:1)"""


def kinds(stack: str) -> list[tuple[bool, str]]:
    return [(frame.library, frame.text.strip().splitlines()[0][:24]) for frame in frames(stack)]


def test_python() -> None:
    assert kinds(PYTHON) == [
        (False, "Traceback (most recent c"),
        (True, 'File "/venv/lib/python3.'),
        (False, 'File "/srv/shop/mail.py"'),
    ]
    assert frames(PYTHON)[-1].text.endswith("ConnectionError: refused")


def test_node() -> None:
    assert kinds(NODE) == [(False, "Error: card declined"), (True, "at process.processTicksA")]


def test_nothing_is_lost() -> None:
    for stack in (PYTHON, NODE, "", "one line", "\n\n", "no frame\n  indented"):
        assert "\n".join(frame.text for frame in frames(stack)) == "\n".join(stack.splitlines())


def test_a_huge_stack_keeps_both_ends() -> None:
    stack = "\n".join(["first", *(f'  File "/srv/a.py", line {n}' for n in range(100_000)), "last"])
    text = "\n".join(frame.text for frame in frames(stack))
    assert text.startswith("first")
    assert text.endswith("last")
    assert f"{100_002 - MAX_LINES} lines omitted" in text
    assert len(text.splitlines()) == MAX_LINES + 1
