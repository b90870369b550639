from __future__ import annotations

import pytest

from djsup.config.dotenv import Mistake, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\nA=3\n", {"A": "3", "B": "2"}),
        ("  export A = b c  \n", {"A": "b c"}),
        ("A=\nB=\n", {"A": "", "B": ""}),
        ("A= # nothing\n", {"A": ""}),
        ("A=#x\n", {"A": ""}),
        ("A=b#c # d\n", {"A": "b#c"}),
        ("# A=1\n\n   # B=2\nC=3", {"C": "3"}),
        ('A="b # c" # d\n', {"A": "b # c"}),
        (r'A="b\n\"c\"\\ \$d"', {"A": 'b\n"c"\\ $d'}),
        (r"A='b\n # c'", {"A": r"b\n # c"}),
        ('A="one\ntwo"\nB=3\n', {"A": "one\ntwo", "B": "3"}),
        ("A='one\n\ntwo'", {"A": "one\n\ntwo"}),
        ("A=b=c&d='e'\n", {"A": "b=c&d='e'"}),
        ("A=${HOME}\r\nB=2\r\n", {"A": "${HOME}", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("", {}),
        ("A=ä", {"A": "ä"}),
    ],
)
def test_lines_are_read(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == (expected, [])


def test_mistakes_have_their_line_and_the_rest_is_read() -> None:
    variables, mistakes = parse('A=1\nno line\n1B=2\nC=\'x"\n\nD="a\nb" c\nE=5\nF=\0\n')
    assert variables == {"A": "1", "E": "5"}
    assert mistakes[:2] == [
        Mistake(2, "no line of the form KEY=VALUE"),
        Mistake(3, "no line of the form KEY=VALUE"),
    ]
    assert [mistake.line for mistake in mistakes[2:]] == [4, 6, 7, 9]
    assert mistakes[2].error == "C: the value begins with ' and does not end with it"
