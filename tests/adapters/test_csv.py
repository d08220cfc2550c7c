# SPDX-License-Identifier: Apache-2.0
"""History from CSV: what is written is what is read, whatever the form of its timestamps."""

import gzip
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedastral.adapters import csv as csv_history
from kedastral.adapters.csv import read_csv_history
from kedastral.core.series import Series
from kedastral.errors import ConfigError

START = datetime(2026, 3, 2, tzinfo=UTC)
loads = st.floats(min_value=0, max_value=1e300, allow_nan=False)
gappy = st.lists(st.none() | loads, min_size=3, max_size=40)


def write(folder: Path, text: str) -> Path:
    path = folder / "history.csv"
    path.write_bytes(text.encode())
    return path


def stamp(moment: datetime, form: str) -> str:
    if form == "epoch":
        return repr(moment.timestamp())
    if form == "naive":
        return moment.replace(tzinfo=None).isoformat()
    if form == "zulu":
        return moment.isoformat().replace("+00:00", "Z")
    return moment.astimezone(timezone(timedelta(hours=int(form)))).isoformat()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    values=gappy,
    step=st.sampled_from([1.0, 60.0, 300.0, 3600.0, 0.5]),
    form=st.sampled_from(["epoch", "naive", "zulu", "2", "-11"]),
    packed=st.booleans(),
    header=st.booleans(),
    windows=st.booleans(),
)
def test_what_is_written_is_read(
    tmp_path: Path, values: list[float | None], step: float, form: str, packed: bool, header: bool, windows: bool
) -> None:
    values = [1.0, *values]  # one value at least
    ends = "\r\n" if windows else "\n"
    rows = [
        f"{stamp(START + timedelta(seconds=i * step), form)},{'' if v is None else repr(v)}"
        for i, v in enumerate(values)
    ]
    content = ends.join([*(["timestamp,value"] if header else []), *rows, ""]).encode()
    path = tmp_path / "history.csv"
    path.write_bytes(gzip.compress(content) if packed else content)
    expected = Series(START, step, [np.nan if value is None else value for value in values])
    assert read_csv_history(path) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(loads, min_size=8, max_size=40), missing=st.sets(st.integers(2, 6), max_size=2))
def test_missing_rows_are_gaps(tmp_path: Path, values: list[float], missing: set[int]) -> None:
    rows = [f"{i * 60},{value!r}" for i, value in enumerate(values) if i not in missing]
    # the step is the most common distance: two missing rows of eight leave the others in the majority
    read = read_csv_history(
        write(tmp_path, "\n".join(["timestamp,value", *rows, "6000000,1", "6000060,1", "6000120,1"]))
    )
    assert read.step == 60
    assert [i for i in range(len(values)) if np.isnan(read.values[i])] == sorted(missing)
    assert len(read) == 100_003


def test_a_file_without_a_header_is_read_from_its_first_line(tmp_path: Path) -> None:
    read = read_csv_history(write(tmp_path, "0,1\n60,2\n"))
    assert read == Series(datetime(1970, 1, 1, tzinfo=UTC), 60.0, [1.0, 2.0])


def test_quotes_a_byte_order_mark_blank_lines_and_nan_do_no_harm(tmp_path: Path) -> None:
    read = read_csv_history(write(tmp_path, '\ufeff"timestamp","value"\n\n"0","1"\n60,NaN\n120, 3 \n'))
    assert read == Series(datetime(1970, 1, 1, tzinfo=UTC), 60.0, [1.0, np.nan, 3.0])


def test_a_zone_is_heeded_and_none_means_utc(tmp_path: Path) -> None:
    read = read_csv_history(write(tmp_path, "2026-03-02T01:00:00+01:00,1\n2026-03-02T00:01:00,2\n"))
    assert read == Series(START, 60.0, [1.0, 2.0])


@pytest.mark.parametrize("value", ["1_000", "١٢", "1e999", "0x10", "1;2"])
def test_what_python_would_take_for_a_number_and_nobody_else_is_refused(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"0,1\n60,{value}\n")
    with pytest.raises(ConfigError) as caught:
        read_csv_history(path)
    assert caught.value.problems == (
        f"{path}, line 2: a value must be a finite number, or empty for a gap; got {value!r}",
    )


def test_more_than_fits_is_refused_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_history, "MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.csv"
    path.write_bytes(gzip.compress(b"".join(b"%d,1\n" % i for i in range(0, 60 * 200_000, 60))))
    with pytest.raises(ConfigError, match="the file must be at most 1 MiB, unpacked; got more"):
        read_csv_history(path)


def test_a_gap_of_years_is_refused_not_filled(tmp_path: Path) -> None:
    path = write(tmp_path, "0,1\n1,1\n2,1\n900000000,1\n")
    with pytest.raises(ConfigError, match="must span at most 5000000 steps, gaps included; got 900000001 steps of 1 s"):
        read_csv_history(path)


def test_a_folder_and_no_file_are_said_plainly(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(ConfigError, match="must be a file that can be read, plain or gzipped; got: "):
            read_csv_history(path)
