"""Encodings come out of their storage as they went in, to the precision of the storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.engine.files.ragged import ArrayFile, Layout, map_array
from hficma.engine.index.item_encoding import (
    LEVELS,
    SCALE,
    STORED_FORMS,
    BatchEncodings,
    EncodingPrecision,
    Level,
    StoredEncodings,
    bytes_per_token,
    dequantise,
    quantise,
    ragged_rows,
)
from hficma.errors import ArtifactError

WIDTH, HEADS = 8, 2


def make_encodings(level: Level, lengths: list[int], seed: int = 0) -> BatchEncodings:
    """Random encodings of a level, padded with rubbish."""
    rng = np.random.default_rng(seed)
    count, size = len(lengths), max(lengths)
    shapes = {
        "gate_bias": (count, size),
        "mean": (count, WIDTH),
        "table": (count, HEADS, size, WIDTH),
    }
    arrays = {
        name: rng.normal(size=shapes.get(name, (count, size, WIDTH))).astype(np.float32)
        for name in LEVELS[level]
    }
    if level == "tokens":
        arrays["tokens"] = np.maximum(arrays["tokens"], 0)  # they come out of a ReLU
    return BatchEncodings(np.array(lengths), arrays)


def stored(encodings: BatchEncodings, precision: EncodingPrecision = "fp32") -> StoredEncodings:
    """The same items as a shard keeps them."""
    arrays = {}
    for name in encodings.arrays:
        rows = ragged_rows(encodings, name)
        if rows.ndim == 1 or name == "mean":
            arrays[name] = rows
        else:
            arrays[name], scales, _ = quantise(rows, precision)
            if scales is not None:
                arrays[name + SCALE] = scales
    return StoredEncodings(encodings.lengths, arrays, HEADS)


@pytest.mark.parametrize(("level", "precision"), STORED_FORMS)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_gathering_gives_back_what_was_stored(
    level: Level, precision: EncodingPrecision, lengths: list[int], seed: int, data: st.DataObject
) -> None:
    """A wrong row here would score one recipe with another's ingredients."""
    encodings = make_encodings(level, lengths, seed)
    quantised = stored(encodings, precision)
    assert quantised.level == level
    positions = np.array(
        data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=4))
    )
    size = int(encodings.lengths[positions].max()) + data.draw(st.integers(0, 2))
    out = {}
    for name, padded in encodings.arrays.items():
        shape = list(padded[positions].shape)
        if name != "mean":
            shape[2 if name == "table" else 1] = size
        out[name] = np.full(shape, np.nan, dtype=np.float32)
    quantised.gather(positions, size, out)
    tolerance = {"fp32": 0.0, "fp16": 2e-3, "int8": 2e-2, "int4": 4e-2}[precision]
    for name, values in out.items():
        assert np.isfinite(values).all(), "padding must be finite: it is multiplied by 0"
        for row, position in enumerate(positions):
            length = encodings.lengths[position]
            values_read, expected = values[row], encodings.arrays[name][position]
            if name == "table":
                values_read, expected = values_read[:, :length], expected[:, :length]
            elif name != "mean":
                values_read, expected = values_read[:length], expected[:length]
            np.testing.assert_allclose(values_read, expected, atol=tolerance * 4, rtol=0)


def test_every_half_precision_number_is_read_as_numpy_reads_it() -> None:
    """The shifts that widen float16 must hold for subnormals, zeros and both signs."""
    half = np.arange(65536, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    np.testing.assert_array_equal(dequantise(half, None), half.astype(np.float32))


@given(
    st.integers(0, 10_000),
    st.sampled_from(["fp16", "int8", "int4"]),
    st.sampled_from([1e-3, 1.0, 1e5]),
)
def test_the_reported_error_is_the_error_made(
    seed: int, precision: EncodingPrecision, scale: float
) -> None:
    """Users choose a precision by this figure."""
    rows = (np.random.default_rng(seed).normal(size=(7, 16)) * scale).astype(np.float32)
    if precision == "int4":
        rows = np.abs(rows)
    quantised, scales, error = quantise(rows, precision)
    errors = np.abs(dequantise(quantised, scales).astype(np.float64) - rows)
    assert error.largest == pytest.approx(errors.max(), rel=1e-5)
    assert error.relative == pytest.approx(
        np.sqrt(np.square(errors).sum() / np.square(rows, dtype=np.float64).sum()), rel=1e-4
    )


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_rows_of_zeros_survive_scales(precision: EncodingPrecision) -> None:
    """A scale of 0 would make NaN."""
    quantised, scales, error = quantise(np.zeros((2, 4), np.float32), precision)
    np.testing.assert_array_equal(dequantise(quantised, scales), np.zeros((2, 4)))
    assert error.relative == 0.0


@pytest.mark.parametrize(("level", "precision"), STORED_FORMS)
def test_the_size_by_which_a_level_is_chosen_is_the_size_on_disk(
    level: Level, precision: EncodingPrecision
) -> None:
    """A wrong estimate would fill disks or waste them."""
    quantised = stored(make_encodings(level, [3, 1, 2]), precision)
    written = sum(rows.nbytes for name, rows in quantised.arrays.items() if name != "mean")
    assert written == 6 * bytes_per_token(level, precision, WIDTH, HEADS)


def test_a_file_of_another_length_is_refused(tmp_path: Path) -> None:
    """A truncated shard must not be read as if it were whole."""
    with ArrayFile(tmp_path / "a") as file:
        file.append(np.ones((3, 2), np.float32))
        file.append(np.zeros((1, 2), np.float32))
    layout = file.layout
    assert layout == Layout("<f4", (4, 2))
    np.testing.assert_array_equal(map_array(tmp_path / "a", layout)[:, 0], [1, 1, 1, 0])
    (tmp_path / "a").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="damaged"):
        map_array(tmp_path / "a", layout)
    (tmp_path / "a").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        map_array(tmp_path / "a", layout)
