import pytest

from bcrit.analysis.numbers import duration, enumeration, readable


@pytest.mark.parametrize(
    ("number", "text"), [(0.01234, "0.0123"), (46.23, "46.2"), (4500.4, "4,500"), (2e20, "2e+20"), (0, "0")]
)
def test_numbers_have_three_digits_or_all_before_the_point(number: float, text: str) -> None:
    assert readable(number) == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (36, "36 h"),
        (0.07, "4.2 min"),
        (0.0001, "0.36 s"),
        (0.017 / 3600, "0.017 s"),
        (0.0081 / 3600, "8.1 ms"),
        (4.7e-5 / 3600, "47 µs"),
        (0.0, "0 s"),
    ],
)
def test_durations_come_in_the_unit_a_person_would_use(hours: float, text: str) -> None:
    assert duration(hours) == text


def test_durations_side_by_side_have_one_unit_unless_they_are_far_apart() -> None:
    both = [0.00801 / 3600, 0.0207 / 3600]
    assert [duration(each, beside=both) for each in both] == ["8.01 ms", "20.7 ms"]
    assert duration(both[1], up=True, beside=both) == "20.7 ms"
    far = [0.008 / 3600, 36.0]
    assert [duration(each, beside=far) for each in far] == ["8 ms", "36 h"]


@pytest.mark.parametrize(("parts", "text"), [("a", "a"), ("ab", "a and b"), ("abc", "a, b and c")])
def test_the_last_of_several_parts_is_joined_by_and(parts: str, text: str) -> None:
    assert enumeration(list(parts)) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0.9999, "0.9999"), (0.99995, "0.99995"), (1 - 1e-15, "1"), (0.995, "0.995"), (0.5, "0.5")]
)
def test_a_number_below_one_is_never_shown_as_one(number: float, text: str) -> None:
    assert readable(number) == text
