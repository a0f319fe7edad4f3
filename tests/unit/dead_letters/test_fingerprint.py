"""What makes two failures the same error: what is normalized, what is not, and that no text takes long."""

from __future__ import annotations

import random
import uuid

import pytest

from dashboard.dead_letters.fingerprint import NO_ERROR, is_fingerprint, normalize_error, normalize_job_error
from dashboard.dead_letters.normalize import FOLDED_LIMIT, normalize_message
from dashboard.dead_letters.stack_frames import FRAMES, own_frames
from dashboard.model import Job, JobError
from tests.counting import units_of

FOLDED = {
    "User 4711 not found": "User <n> not found",
    "cannot send to a.b+c@example.com": "cannot send to <email>",
    "connect ECONNREFUSED 10.0.0.5:6379": "connect ECONNREFUSED <ip>",
    "no route to 2001:db8::1": "no route to <ip>",
    "GET https://u:p@api.shop.com:8443/v1/users/8123/orders?token=s3cret failed": (
        "GET https://api.shop.com/v1/users/<n>/orders failed"
    ),
    "fetch http://10.0.0.9/x failed": "fetch http://<ip>/x failed",
    "[Errno 28] No space left on device: '/srv/img/77.png'": "[Errno <n>] No space left on device: <value>",
    "cannot open /var/lib/shop/77.png: denied": "cannot open <path>: denied",
    r"cannot open C:\shop\77.png": "cannot open <path>",
    "job 123e4567-e89b-12d3-a456-426614174000 gone": "job <id> gone",
    "at 2024-05-01T10:11:12.123Z and 10:11:12": "at <time> and <time>",
    "<Shop object at 0x7f3a2b11>": "<Shop object at <hex>>",
    "commit 5f3a9c01b7 missing": "commit <hex> missing",
    "customer cus_9s6XKzkNRiz8i3 missing": "customer <id> missing",
    "1,234.56 EUR": "<n> EUR",
    "ids [1, 2, 3] and [7]": "ids [<n>, …] and [<n>]",
    "can't do it, it's 'broken'": "can't do it, it's <value>",
    "undefined method `foo' for nil:NilClass": "undefined method <value> for nil:NilClass",
    "550 b'5.1.1 User unknown'": "<n> <value>",
    "and/or, n/a, I/O, Foo::Bar": "and/or, n/a, I/O, Foo::Bar",
    "two\n  lines": "two lines",
    "": "",
}


@pytest.mark.parametrize("message", FOLDED, ids=range(len(FOLDED)))
def test_what_varies_from_job_to_job_is_normalized(message: str) -> None:
    assert normalize_message(message) == FOLDED[message]


def test_failures_that_differ_in_variable_parts_are_the_same_error() -> None:
    dice = random.Random(1)  # always the same
    errors = set()
    for _ in range(300):
        message = (
            f"order {dice.randrange(10**9)} of user{dice.randrange(99)}@shop{dice.randrange(9)}.example: "
            f"POST https://pay.example/v2/charges/{uuid.UUID(int=dice.getrandbits(128))}?k={dice.random()} from "
            f"{dice.randrange(256)}.{dice.randrange(256)}.0.1:{dice.randrange(65536)} said 'no {dice.random()}' "
            f"after {dice.randrange(100)}.{dice.randrange(10)} s, see /tmp/{dice.getrandbits(64):x}/{dice.random()}.log"
        )
        errors.add(normalize_error("shop.PaymentError", message))
    assert len({error.fingerprint for error in errors}) == 1, {error.message for error in errors}


def test_failures_with_different_words_class_or_frames_are_different_errors() -> None:
    stack = 'Traceback (most recent call last):\n  File "/app/mail.py", line 3, in send\nE: x'
    errors = [
        normalize_error("ValueError", "user not found"),
        normalize_error("KeyError", "user not found"),
        normalize_error("ValueError", "order not found"),
        normalize_error(None, "user not found"),
        normalize_error("ValueError", "user not found", stack),
        normalize_error("ValueError", "user not found", stack.replace("send", "receive")),
        normalize_error("ValueError", "user not found", stack.replace("mail.py", "post.py")),
    ]
    assert len({error.fingerprint for error in errors}) == len(errors)


@pytest.mark.parametrize(
    ("class_name", "shown"),
    [
        ("Shop::Tenant4711::NotFound", "Shop::Tenant<n>::NotFound"),
        ("app.job_5f3a9c01b7d2e4.Failed", "app.<id>.Failed"),
        ("Struct::5f3a9c01b7", "Struct::<hex>"),
        ("#<Class:0x00007f3a2b11>::Error", "#<Class:<id>>::Error"),
        ("sqlalchemy.exc.IntegrityError", "sqlalchemy.exc.IntegrityError"),
    ],
)
def test_an_error_class_is_normalized_as_messages_are(class_name: str, shown: str) -> None:
    """A class that is made at run time has an id in its name; its failures must not be a group each."""
    error = normalize_error(class_name, "no")
    assert error.error_class == shown
    other = class_name.translate(str.maketrans("123456789", "234567891"))
    assert normalize_error(other, "no") == error


def test_the_fingerprint_of_an_error_is_stable() -> None:
    """Annotations are stored under it: a change here loses them, and must change VERSION."""
    error = normalize_error("TypeError", "cannot send to 4711", "Error\n    at send (/app/mail.js:3:4)")
    assert (error.fingerprint, error.frames) == ("7431340d68e25671", ("mail.js:send",))
    assert is_fingerprint(error.fingerprint)
    assert not any(
        is_fingerprint(text)
        for text in ("", "x" * 16, error.fingerprint + "0", error.fingerprint.upper() + "G", error.fingerprint + "\n")
    )


STACKS = {
    "python, innermost last, of the last cause": (
        'Traceback (most recent call last):\n  File "/app/first.py", line 1, in begin\nKeyError: 1\n\n'
        "During handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "/usr/lib/python3.11/site-packages/rq/worker.py", line 9, in run\n'
        '  File "/app/shop/mail.py", line 10, in send\n    deliver(x)\n  File "/app/shop/smtp.py", line 7, in deliver\n'
        '    raise X\n  File "/usr/lib/python3.11/smtplib.py", line 398, in sendmail\nX: y\n',
        ("smtp.py:deliver", "mail.py:send"),
    ),
    "javascript, innermost first": (
        "TypeError: no\n    at async Mailer.send [as process] (/app/dist/mail.js?v=2:10:20)\n"
        "    at /app/dist/job.js:1:2\n    at Worker.run (/app/node_modules/bullmq/dist/worker.js:3:4)\n"
        "    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)\n"
        "    at new Shop (file:///app/dist/shop-5f3a9c01b7.js:9:9)\n",
        ("mail.js:Mailer.send", "job.js", "shop-<hex>.js:Shop"),
    ),
    "ruby, old and new words": (
        "/app/jobs/mail_job.rb:12:in `block (2 levels) in perform'\n/app/lib/smtp.rb:3:in 'Shop::Smtp#deliver'\n"
        "/usr/share/gems/sidekiq-6/processor.rb:3:in `call'\n",
        ("mail_job.rb:perform", "smtp.rb:deliver"),
    ),
    "a function that calls itself": (
        "RangeError: x\n" + "    at walk (/app/tree.js:1:1)\n" * 90 + "    at main (/app/main.js:1:1)\n",
        ("tree.js:walk", "main.js:main"),
    ),
    "libraries only": ("Error: x\n    at a (/app/node_modules/x/y.js:1:1)\n    at b (node:fs:1:1)\n", ()),
    "no stack at all": ("something else\nentirely", ()),
}


@pytest.mark.parametrize("case", STACKS)
def test_the_innermost_frames_of_the_users_code(case: str) -> None:
    stack, expected = STACKS[case]
    assert own_frames(stack) == expected


def test_lines_and_columns_are_ignored_and_few_frames_are_used() -> None:
    stack = "".join(f"    at f{letter} (/app/{letter}.js:1:1)\n" for letter in "abcdef")
    assert own_frames(stack) == own_frames(stack.replace(":1:1", ":77:8"))
    assert len(own_frames(stack)) == FRAMES


HOSTILE = [
    *(
        "a",
        "1",
        "'a ",
        '"',
        "`",
        "1.",
        "/a",
        "a@",
        "a.",
        "a:",
        "1:",
        "0x",
        "a-",
        "a://",
        "b'",
        "1, ",
        "\n",
        "é",
        "\udcff",
    ),
    *("<n>, ", "~/", "(((", " at a(", 'File "a", line 1, in ', "a.rb:1:in '", "at [as ", "\0", "{{ 7*7 }}", "“", "::"),
]


def test_no_hostile_text_takes_long() -> None:
    needed = {piece: units_needed(piece) for piece in HOSTILE}
    assert {piece: units for piece, units in needed.items() if units > 30} == {}


def units_needed(piece: str) -> float:
    """How long errors made of very many of the piece take to be normalized."""
    text = piece * (100_000 // len(piece))
    lines = ((piece * 500)[:480] + "\n") * 400

    def normalize_all() -> None:
        for stack in (text, lines, f"Traceback (most recent call last)\n{lines}"):
            error = normalize_error(text, text, stack)
            assert is_fingerprint(error.fingerprint)
            assert len(error.message) <= FOLDED_LIMIT + 1

    return units_of(normalize_all, enough=30)


def test_time_grows_no_faster_than_the_text() -> None:
    def cost(length: int) -> float:
        text = "order 17 of a@b.example at /tmp/x 'y' " * (length // 38)
        return units_of(lambda: normalize_message(text))

    assert cost(1_000_000) < 3 * cost(10_000) + 1  # both are longer than what is read


def test_the_error_of_a_job_is_the_recorded_one_or_its_problem_or_its_name() -> None:
    plain = Job(id="1", source="main", backend="x", queue="q", name="send")
    failed = Job(id="1", source="main", backend="x", queue="q", error=JobError(class_name="A", message="b 1"))
    broken = Job(id="1", source="main", backend="x", queue="q", problem="its data is gone", error=JobError())
    assert normalize_job_error(failed, None) == normalize_error("A", "b 2")
    assert normalize_job_error(broken, None).message == "its data is gone"
    assert normalize_job_error(plain, None).message == f"{NO_ERROR}: send"


def test_secrets_are_masked_and_do_not_change_the_fingerprint() -> None:
    one, two = (normalize_error("E", f"login with password={word} failed") for word in ("opensesame", "x1y2z3"))
    assert one == two
    assert "opensesame" not in one.message
    assert normalize_error("E", "login with password=opensesame refused").fingerprint != one.fingerprint
    assert normalize_error("E", "token expired").fingerprint != normalize_error("E", "token revoked").fingerprint
