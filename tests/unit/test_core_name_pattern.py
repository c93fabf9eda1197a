"""Regular expressions over topic names: RE2's syntax, whole-name matches, bounded work."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.core.name_pattern import MAX_PATTERN_CHARS, NamePattern, PatternTooCostly
from megabroker.errors import ErrorCode, RequestError

NAMES = ["a", "b", "ab", "aab", "abab", "foo", "foo.bar", "foo-1", "foo-22", "FOO", "_x", "x_y.z-0", "1", ""]

# Each reads alike here and in the standard library, over these names.
SAME = [
    "foo",
    "foo.*",
    "foo[.-].+",
    r"foo-\d+",
    r"foo-\d",
    r"\w+",
    r"\W+",
    r"[^a-z]+",
    r"[\w.]+",
    "(a|b)*",
    "(?:a|b)+",
    "(?P<word>fo+)",
    "a*b?",
    "a{2}b",
    "a{1,}b",
    "(ab){2,3}",
    "^foo$",
    "^(foo|a)$",
    "f^oo",
    "a|",
    "|a",
    "()",
    "(?i)foo",
    "(?i:f)oo",
    "(?i)[f]oo",
    "(?i)[E-G]oo",
    r"\bfoo\b.*",
    r"foo\B.*",
    r".*\b1",
    "foo-[0-9]{2}",
    "[]a]+",
    "[a-]+",
    "x_y[.]z-0",
    r"foo\.bar",
    "(a*)*b",
    "a+?b",
    r"\x66oo",
    "",
]

INVALID = [
    "(",
    ")",
    "(a",
    "a)",
    "[a",
    "[",
    "[b-a]",
    "*a",
    "a**",
    "a{2}{3}",
    "a{2,1}",
    "a{1001}",
    "(?=a)a",
    "(?<=a)b",
    "(?<!a)b",
    "(?!a)b",
    r"(a)\1",
    "\\",
    r"\x",
    r"\x{zz}",
    r"\k",
    "[[:nope:]]",
    r"\p{}",
    "(?z)a",
    "(?",
    "(?P<>a)",
    "(" * 200 + ")" * 200,
    "((a{1000}){1000}){1000}",
    "x" * (MAX_PATTERN_CHARS + 1),
]


@pytest.mark.parametrize("text", SAME)
def test_as_the_standard_library(text: str) -> None:
    assert NamePattern(text).matching(NAMES) == {name for name in NAMES if re.fullmatch(text, name, re.ASCII)}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (r"\Qfoo.\Ebar", {"foo.bar"}),
        (r"\Qfoo.bar", {"foo.bar"}),
        ("[[:alpha:]]+", {"a", "b", "ab", "aab", "abab", "foo", "FOO"}),
        ("[[:^alpha:]]+", {"1"}),
        (r"\pL+", {"a", "b", "ab", "aab", "abab", "foo", "FOO"}),
        (r"\p{Lu}+", {"FOO"}),
        (r"\P{L}+", {"1"}),
        (r"\p{Greek}*", {""}),
        (r"\Afoo\z", {"foo"}),
        ("a{,2", set()),
        ("(?-i)foo", {"foo"}),
        ("(?<n>foo)", {"foo"}),
        ("(?i)a|B", {"a", "b"}),
        ("((?i)f)OO", {"FOO"}),
    ],
)
def test_what_is_rewritten_from_re2(text: str, names: set[str]) -> None:
    assert NamePattern(text).matching(NAMES) == names


@pytest.mark.parametrize("text", INVALID)
def test_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        NamePattern(text)
    assert caught.value.code is ErrorCode.INVALID_PATTERN


def test_names_may_be_written_in_any_alphabet() -> None:
    names = ["früh", "spät/1", "Ωμέγα", "with space", "日本"]
    alphabet = frozenset().union(*names)
    for text, found in (
        (r"\pL+", {"früh", "Ωμέγα", "日本"}),
        (r"\p{Greek}+", {"Ωμέγα"}),
        (r"\p{Han}{2}", {"日本"}),
        (r"[^\pL]*", set()),
        (r".*[[:space:]].*", {"with space"}),
        (r"[a-zä]+[[:punct:]]\d", {"spät/1"}),
        (r"\W{2}", {"日本"}),
        (r"(?i)ωΜΈΓΑ", {"Ωμέγα"}),
    ):
        assert NamePattern(text, alphabet).matching(names) == found, text


def test_large_alphabets_allow_short_expressions_only() -> None:
    alphabet = frozenset(map(chr, range(0x4E00, 0x4E00 + 20_000)))
    assert NamePattern("[^a]*" * 10, alphabet).matches("\u4e00")
    with pytest.raises(RequestError):
        NamePattern("[^a]*" * 11, alphabet)


def test_nothing_backtracks() -> None:
    began = time.monotonic()
    assert not NamePattern("(a*)*(a|a)*(aa+)+b").matches("a" * 249)
    assert time.monotonic() - began < 1


def test_exponential_automata_are_given_up() -> None:
    chance = random.Random(1)
    names = ["".join(chance.choices("ab", k=249)) for _ in range(20)]
    with pytest.raises(PatternTooCostly):
        NamePattern("(a|b)*a(a|b){300}").matching(names)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.-()[]{}|*+?^$\\dwQExi:<>P,12", max_size=30))
def test_hostile_text_is_compiled_or_refused(text: str) -> None:
    try:
        pattern = NamePattern(text)
    except RequestError:
        return
    found = pattern.matching(NAMES)
    if set("\\<{[") & set(text):
        return  # The two differ in what these mean.
    try:
        expected = {name for name in NAMES if re.fullmatch(text, name, re.ASCII)}
    except re.error:
        return
    assert found == expected
