"""What differs between jobs that died of the same error: equal, different, missing and hidden values."""

from __future__ import annotations

from collections.abc import Iterable

from dashboard.dead_letters.differences import COMPARED_JOBS, MESSAGE, SHOWN_VALUES, JobComparison, compare_jobs
from dashboard.dead_letters.fingerprint import normalize_error
from dashboard.dead_letters.groups import GroupMember
from dashboard.dead_letters.index import KEPT_MESSAGE, DeadLetter
from dashboard.dead_letters.kept_arguments import KEPT_LIMIT, TEXT_LIMIT, keep_arguments, read_arguments
from dashboard.model import Argument, QueueRef, State
from dashboard.redact import MASK

QUEUE = QueueRef(source="main", backend="rq", key="rq:queue:mail", name="mail")


def member(message: str | None = "no", name: str | None = "send", **arguments: str) -> GroupMember:
    kept = keep_arguments(Argument(name=key, text=text) for key, text in arguments.items())
    return GroupMember(
        QUEUE,
        State.DEAD,
        DeadLetter(
            error=normalize_error("E", message),
            id="1",
            version=None,
            queue="mail",
            name=name,
            at=1.0,
            attempts=1,
            message=message,
            kept_arguments=kept,
        ),
    )


def compare(members: Iterable[GroupMember]) -> JobComparison:
    return compare_jobs(tuple(members))


def test_equal_values_are_told_from_different_ones() -> None:
    found = compare(
        member(f"502 from {n % 2}", to=f'"{n}"', region="eu" if n < 4 else "us", currency="EUR") for n in range(6)
    )
    assert [(each.name, each.text) for each in found.same] == [("currency", "EUR")]
    assert [(each.name, each.distinct, each.is_argument) for each in found.different] == [
        (MESSAGE, 2, False),
        ("region", 2, True),
        ("to", 6, True),
    ]
    assert [(value.text, value.count) for value in found.different[1].values] == [("eu", 4), ("us", 2)]
    assert len(found.different[2].values) == SHOWN_VALUES
    assert (found.compared, found.without_arguments, found.hidden) == (6, 0, ())


def test_fields_keep_their_order_but_those_with_a_value_of_its_own_in_each_job_come_last() -> None:
    found = compare(member(order=str(n), region=f"{n % 3}", amount=f"{n % 2}") for n in range(6))
    assert [each.name for each in found.different] == ["region", "amount", "order"]


def test_the_values_of_a_field_keep_their_order_where_all_of_them_are_shown() -> None:
    one = compare([member(a="x"), member(a="y"), member(a="y")])
    other = compare([member(a="x"), member(a="x"), member(a="y")])
    assert [value.text for value in one.different[0].values] == ["x", "y"]
    assert [value.text for value in other.different[0].values] == ["x", "y"]
    many = compare(member(a=letter) for letter in "abcdefff")
    assert many.different[0].values[0].text == "f"
    assert (len(many.different[0].values), many.different[0].distinct) == (SHOWN_VALUES, 6)


def test_a_field_that_some_jobs_lack_differs() -> None:
    found = compare([member(a="1", b="2"), member(a="1"), member()])
    assert [(each.name, each.distinct, each.missing) for each in found.different] == [("a", 1, 1), ("b", 1, 2)]
    assert found.same == ()
    assert found.without_arguments == 1


def test_values_that_differ_behind_the_shown_part_are_different() -> None:
    long = "x" * (TEXT_LIMIT + 10)
    found = compare([member(a=long + "1"), member(a=long + "2")])
    assert [(each.name, each.distinct) for each in found.different] == [("a", 2)]
    assert {value.text for value in found.different[0].values} == {"x" * TEXT_LIMIT + "…"}
    assert [each.name for each in compare([member(a=long), member(a=long)]).same] == ["a"]


def test_masked_and_cut_values_are_not_called_equal() -> None:
    found = compare([member(key=f'"{MASK}"', a="1"), member(key=f'"{MASK}"', a="1")])
    assert (found.hidden, [each.name for each in found.same]) == (("key",), ["a"])
    cut = keep_arguments([Argument(name="a", text="same", cut=True)])
    assert [each.value for each in read_arguments(cut)] == [None]
    masked = compare([member(f"token {MASK}"), member(f"token {MASK} x")])
    assert masked.different == ()
    long = compare([member("m" * KEPT_MESSAGE), member("n" * KEPT_MESSAGE)])
    assert long.different == ()


def test_only_the_newest_jobs_are_compared() -> None:
    found = compare([member(a="1")] * COMPARED_JOBS + [member(a="2")])
    assert (found.compared, [each.name for each in found.same]) == (COMPARED_JOBS, ["a"])


def test_different_job_names_are_shown_apart_from_an_argument_of_that_name() -> None:
    found = compare([member(name="send", job="1"), member(name="charge", job="2")])
    assert sorted((each.name, each.is_argument) for each in found.different) == [("job", False), ("job", True)]


def test_kept_arguments_are_bounded_and_hostile_text_stays_one_argument() -> None:
    kept = keep_arguments(Argument(name=f"n{n}" * 50, text="\x1f\n" + "é" * 500) for n in range(100))
    assert len(kept) < 2 * KEPT_LIMIT
    assert all(each.text.startswith("é") for each in read_arguments(kept))
    odd = keep_arguments(
        [Argument(name="a\x1fb", text="1\x1f2"), Argument(name="b", text="?"), Argument(name="", text="x")]
    )
    assert [(each.name, each.text) for each in read_arguments(odd)] == [("a b", "1 2"), ("b", "?"), ("", "x")]
    assert read_arguments("") == ()
