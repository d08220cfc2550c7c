# SPDX-License-Identifier: Apache-2.0
"""Each kind of value: what is read, what is refused with which message, and how it is written back."""

import errno
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.settings.types import (
    ListenAddress,
    Name,
    ReadChoice,
    Seconds,
    ValueType,
    read_boolean,
    read_duration,
    read_file_path,
    read_headers,
    read_integer,
    read_listen_address,
    read_name,
    read_number,
    read_query,
    read_query_params,
    read_secret,
    read_url,
    read_zone,
    value_type,
    write_duration,
    write_value,
)


def refuses(read: Callable[[str], Any], text: str) -> str:
    """The message with which ``read`` refuses ``text``."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are what is asked for
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("14d", 1_209_600),
        ("2w", 1_209_600),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("0.1s", 0.1),
        ("9ms", 0.009),
        ("1d1ms", 86_400.001),
        ("0s", 0),
        ("30m1h", 5400),
        ("3660d", 316_224_000),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "s",
        "-5m",
        "+5m",
        "5 m",
        " 5m",
        "5m ",
        "5m\n",
        "5M",
        "5min",
        "1e3s",
        "nan",
        "inf",
        ".5s",
        "5.s",
        "५m",
        "1h,30m",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert refuses(read_duration, text) == "a duration such as 30s, 5m, 1h30m or 14d"


@pytest.mark.parametrize("text", ["3661d", "9" * 400 + "s", "9" * 6000 + "w"])
def test_a_duration_beyond_all_sense_is_refused(text: str) -> None:
    assert refuses(read_duration, text) == "a duration of at most ten years"


@pytest.mark.parametrize("text", ["0.5ms", "0.0001s", "0.00001m", "0." + "0" * 400 + "1ms"])
def test_a_duration_finer_than_a_millisecond_is_refused(text: str) -> None:
    assert refuses(read_duration, text) == "a duration of whole milliseconds"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1, "1s"),
        (60, "1m"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (1_209_600, "14d"),
        (86_400.001, "1d1ms"),
    ],
)
def test_a_duration_is_written_the_shortest_way(seconds: float, text: str) -> None:
    assert write_duration(seconds) == text


@given(st.integers(0, 3660 * 86_400_000).map(lambda milliseconds: milliseconds / 1000))
def test_a_duration_that_is_written_reads_the_same(seconds: float) -> None:
    assert read_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("5", 5), ("-5", -5), ("+5", 5), ("007", 7), ("9" * 18, 10**18 - 1)]
)
def test_a_whole_number_is_read(text: str, value: int) -> None:
    assert read_integer(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5.9",
        "5.0",
        "5_000",
        "1e3",
        " 5",
        "5 ",
        "5\n",
        "five",
        "nan",
        "inf",
        "0x5",
        "५",
        "9" * 19,
        "9" * 6000,
        "true",
    ],
)
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    assert refuses(read_integer, text) == "a whole number"


@pytest.mark.parametrize(
    ("text", "value"), [("200", 200), ("1.2", 1.2), (".5", 0.5), ("5.", 5), ("1e3", 1000), ("-1.5E-3", -0.0015)]
)
def test_a_number_is_read(text: str, value: float) -> None:
    assert read_number(text) == value


@pytest.mark.parametrize(
    "text", ["", "nan", "NaN", "inf", "-Infinity", "1e999", "9" * 400, "1_0", "1,5", "5 ", "५", "0x1p3", "true"]
)
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    assert refuses(read_number, text) == "a finite number"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("TRUE", True),
        ("1", True),
        ("yes", True),
        ("on", True),
        ("false", False),
        ("False", False),
        ("0", False),
        ("no", False),
        ("off", False),
    ],
)
def test_a_boolean_is_read(text: str, value: bool) -> None:
    assert read_boolean(text) is value


@pytest.mark.parametrize("text", ["", "maybe", "2", "t", " true", "truefalse"])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    assert refuses(read_boolean, text) == "true or false"


def test_a_name_is_read_without_the_spaces_around_it() -> None:
    assert read_name("  my shop ") == "my shop"
    assert read_name("négoce/αβγ") == "négoce/αβγ"


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_name_is_refused(text: str) -> None:
    assert refuses(read_name, text) == "a name, not empty"


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "a\x1bb", "\udcff"])
def test_a_name_with_control_characters_is_refused(text: str) -> None:
    assert refuses(read_name, text) == "a name without control characters"


def test_a_query_may_have_several_lines() -> None:
    assert read_query("\nsum(\n  rate(x[1m])\n)\n") == "sum(\n  rate(x[1m])\n)"
    assert refuses(read_query, " \n ") == "text, not empty"


def test_a_secret_is_read_without_its_line_end() -> None:
    assert read_secret("s3cret\r\n").reveal() == "s3cret"
    assert refuses(read_secret, "\n") == "text, not empty"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://prom:9090", "http://prom:9090"),
        ("https://prom.example/prefix/", "https://prom.example/prefix"),
        ("HTTP://[::1]:9090/a/b", "HTTP://[::1]:9090/a/b"),
    ],
)
def test_a_url_is_read_and_its_path_is_kept(text: str, url: str) -> None:
    assert read_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prom:9090",
        "ftp://prom",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://prom:port",
        "http://prom:0",
        "http://prom:70000",
        "http://[::1",
        "http://a b",
        "http://a\nb",
        "http://a\tb",
        " http://a",
        "javascript:alert(1)",
        "http://a\udcff",
    ],
)
def test_a_url_that_is_not_http_is_refused(text: str) -> None:
    assert refuses(read_url, text) == "an http:// or https:// URL"


def test_a_url_with_more_than_an_address_is_refused() -> None:
    assert "without user and password" in refuses(read_url, "http://user:pw@prom")
    assert "without user and password" in refuses(read_url, "http://user@prom")
    assert "without ?query" in refuses(read_url, "http://prom/?a=b")
    assert "#fragment" in refuses(read_url, "http://prom/#a")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", ListenAddress("", 8080)),
        (":0", ListenAddress("", 0)),
        (":65535", ListenAddress("", 65535)),
        ("127.0.0.1:80", ListenAddress("127.0.0.1", 80)),
        ("localhost:80", ListenAddress("localhost", 80)),
        ("[::1]:80", ListenAddress("::1", 80)),
    ],
)
def test_an_address_to_listen_on_is_read_and_written(text: str, address: ListenAddress) -> None:
    assert read_listen_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":",
        "host",
        "host:",
        "::1:80",
        "[::1]",
        ":-1",
        ":+1",
        ":8 0",
        ": 80",
        "a b:80",
        "a\n:80",
        ":８０",
        ":²",
        "http://x:80",
        "a\x00:80",
        "\udcff:80",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert refuses(read_listen_address, text) == "an address such as :8080, 127.0.0.1:8080 or [::1]:8080"


@pytest.mark.parametrize("text", [":65536", ":99999", ":" + "1" * 5000])
def test_a_port_that_does_not_exist_is_refused(text: str) -> None:
    assert refuses(read_listen_address, text) == "an address whose port is at most 65535"


def test_headers_are_read_one_a_line() -> None:
    assert read_headers("") == ()
    assert read_headers("X-Scope-OrgID: tenant-1\n\n  X-B:2\n") == (("X-Scope-OrgID", "tenant-1"), ("X-B", "2"))
    assert read_headers("X-A: b: c") == (("X-A", "b: c"),)


@pytest.mark.parametrize("text", ["X-A", ": b", "X A: b", "X-A : b", "X-Ä: b", "X-A: ä", "X-A: a\x00b", "good: 1\nbad"])
def test_what_is_no_header_is_refused_without_showing_it(text: str) -> None:
    assert refuses(read_headers, text) == "headers written 'Name: value', one per line"


def test_query_parameters_are_read_one_a_line_and_may_be_repeated() -> None:
    assert read_query_params("") == ()
    text = 'dedup=true\n\n  storeMatch[]={a="b c"}\nstoreMatch[]=\n'
    assert read_query_params(text) == (("dedup", "true"), ("storeMatch[]", '{a="b c"}'), ("storeMatch[]", ""))


@pytest.mark.parametrize("text", ["dedup", "=true", "a b=c", "a=b\x00", "good=1\nbad"])
def test_what_is_no_query_parameter_is_refused_without_showing_it(text: str) -> None:
    assert refuses(read_query_params, text) == "parameters written 'name=value', one per line"


@pytest.mark.parametrize("name", ["query", "start", "end", "step", "time"])
def test_parameters_of_our_own_cannot_be_given(name: str) -> None:
    words = "other parameters than end, query, start, step, time, which are Kedastral's own"
    assert refuses(read_query_params, f"dedup=true\n{name}=5") == words


def test_a_file_that_can_be_read_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("")

    assert read_file_path(str(file)) == file


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert refuses(read_file_path, str(tmp_path / "none")) == "a file that can be read (No such file or directory)"
    assert refuses(read_file_path, str(tmp_path)) == "a file that can be read (Is a directory)"
    assert refuses(read_file_path, "").startswith("a file that can be read")
    assert "null byte" in refuses(read_file_path, "a\x00b")
    assert refuses(read_file_path, "\ud800").startswith("a file that can be read")


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.touch()

    def refuse(*_: object) -> None:  # a mode of 0 is not enough: root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))

    monkeypatch.setattr(Path, "open", refuse)

    assert refuses(read_file_path, str(file)) == "a file that can be read (Permission denied)"


class Colour(StrEnum):
    RED = "red"
    DARK_BLUE = "dark-blue"


def test_a_choice_is_one_of_its_words() -> None:
    assert ReadChoice(Colour)("dark-blue") is Colour.DARK_BLUE
    for text in ("", "RED", "DARK_BLUE", "green", "red "):
        assert refuses(ReadChoice(Colour), text) == "one of red, dark-blue"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (200.0, "200"),
        (1.2, "1.2"),
        (1234567.0, "1234567"),
        ((("X-A", "hush"), ("X-B", "hush")), "X-A, X-B"),
        ((), "none"),
        (Colour.RED, "red"),
        (ListenAddress("::1", 80), "[::1]:80"),
        ("shop", "shop"),
    ],
)
def test_a_value_is_written_as_a_person_would(value: Any, text: str) -> None:
    assert write_value(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_is_written_reads_the_same(value: float) -> None:
    assert read_number(write_value(value)) == value


@given(st.booleans())
def test_a_boolean_that_is_written_reads_the_same(value: bool) -> None:
    assert read_boolean(write_value(value)) is value


def test_a_time_zone_is_one_that_exists() -> None:
    assert read_zone("Europe/Berlin").key == "Europe/Berlin"
    for text in ("", "Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "a\x00b", "Europe"):
        assert refuses(read_zone, text) == "a time zone such as UTC or Europe/Berlin"


def test_the_reader_of_a_setting_is_that_of_its_annotation() -> None:
    assert value_type(Seconds) == ValueType("duration", read_duration)
    assert value_type(Name | None) == ValueType("name", read_name)
    assert value_type(float | None) == ValueType("number", read_number)
    assert value_type(Colour) == ValueType("choice", ReadChoice(Colour))
