"""Conditions on the columns of the table of videos."""

import pytest

from flowprep.errors import UsageError
from flowprep.reports.filters import Condition, matching, parse_conditions
from flowprep.reports.table import COLUMNS

ROWS = [
    {"id": "a and b/x.mp4", "label": "Punch", "pairs": 100, "still_share": 0.2},
    {"id": "c=d.mp4", "label": "", "pairs": 101, "still_share": None},
    {"id": "e.mp4", "label": "Jump", "pairs": 5, "still_share": 0.0},
]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("pairs>100", [1]),
        ("pairs >= 100", [0, 1]),
        ("pairs<1e2", [2]),
        ("pairs <= 5", [2]),
        ("pairs = 100.0", [0]),
        ("pairs==100", [0]),
        ("pairs != 100", [1, 2]),
        ("still_share >= 0", [0, 2]),  # without a value nothing holds
        ("still_share != 7", [0, 2]),
        ("label = Punch", [0]),
        ("label=''", [1]),
        ('label != "Punch"', [1, 2]),
        ("id ~ .mp4", [0, 1, 2]),
        ("id ~ 'a and b'", [0]),
        ("id ~ a and b", [0]),
        ("id = c=d.mp4", [1]),
        ("pairs > 5 and still_share > 0.1 and label ~ un", [0]),
        ("pairs > 5 AND pairs < 101", [0]),
    ],
)
def test_rows_that_satisfy_a_condition(text, positions):
    assert matching(ROWS, parse_conditions(text, COLUMNS)) == [ROWS[i] for i in positions]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "allowed: COLUMN OP VALUE"),
        ("pairs", "allowed: COLUMN OP VALUE"),
        ("pairs >", "allowed: COLUMN OP VALUE"),
        ("> 3", "allowed: COLUMN OP VALUE"),
        ("pairs > 3 or frames > 3", "'3 or frames > 3'; allowed: a number"),
        ("pears > 3", "'pears'; did you mean pairs\\?"),
        ("__import__('os') > 3", "allowed: COLUMN OP VALUE"),
        ("__class__ = 3", "names the column '__class__'; allowed: id, label"),
        ("pairs > many", "compares pairs with 'many'; allowed: a number"),
        ("pairs ~ 3", "searches in the number pairs"),
        ("label > A", "compares the text label by >; allowed: = != ~"),
    ],
)
def test_what_is_no_condition_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_conditions(text, COLUMNS)


def test_a_condition_is_data():
    assert parse_conditions("cuts>=1", COLUMNS) == [Condition("cuts", ">=", 1.0)]
