"""The codec against Feast's own protobufs, both ways and to the bit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import DoubleList, Value
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from feature_repo import catalog
from feature_repo.stores.redis.codec import (
    CodecError,
    decode_array,
    decode_doubles,
    decode_timestamp,
    encode_array,
    encode_double,
    encode_timestamp,
    entity_key,
    field_key,
    read_revision,
    revision,
    revision_key,
    timestamp_key,
)

QUIET_NAN, PAYLOAD_NAN, MINUS_NAN = 0x7FF8000000000000, 0x7FF8DEADBEEF0001, 0xFFF8000000000000
NULL = b""  # a `Value` with nothing set
MINUS_ZERO, INFINITY, MINUS_INFINITY, SMALLEST = 1 << 63, 0x7FF0000000000000, 0xFFF0000000000000, 1
SPECIAL = [QUIET_NAN, PAYLOAD_NAN, MINUS_NAN, MINUS_ZERO, INFINITY, MINUS_INFINITY, SMALLEST, 0]

any_bits = st.one_of(st.sampled_from(SPECIAL), st.integers(0, 2**64 - 1))
any_us = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)  # the years 1 to 9999


def floats(bits: list[int]) -> Any:
    return np.array(bits, dtype=np.uint64).view(np.float64)


def bits_of(values: Any) -> list[int]:
    return np.asarray(values, dtype=np.float64).view(np.uint64).tolist()


# --------------------------------------------------------------------------------------------------- scalars


@given(any_bits)
def test_a_double_of_ours_is_feasts_and_feasts_is_ours_to_the_bit(bits: int) -> None:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    ours = encode_double(value)
    assert ours == Value(double_val=value).SerializeToString()
    assert bits_of([Value.FromString(ours).double_val]) == [bits]
    values, present = decode_doubles([ours])
    assert (bits_of(values), present.tolist()) == ([bits], [True])


@given(st.lists(st.one_of(st.none(), st.just(NULL), any_bits)))
@example([])
def test_missing_and_null_fields_are_absent_and_a_stored_nan_is_not(cells: list[Any]) -> None:
    stored = [struct.pack("<BQ", 0x29, cell) if isinstance(cell, int) else cell for cell in cells]
    values, present = decode_doubles(stored)
    assert present.tolist() == [isinstance(cell, int) for cell in cells]
    assert [b for b, is_present in zip(bits_of(values), present, strict=True) if is_present] == [
        cell for cell in cells if isinstance(cell, int)
    ]
    assert np.isnan(values[~present]).all()


def test_null_is_feasts_null() -> None:
    assert Value().SerializeToString() == NULL


@given(st.lists(st.one_of(st.none(), st.binary(max_size=20), any_bits.map(lambda b: struct.pack("<BQ", 0x29, b)))))
@example([NULL, encode_double(1.0) + encode_double(2.0)])  # as long as two doubles, but no two doubles
@example([encode_double(1.0)[:8], encode_double(2.0) + b"\x29"])
def test_any_cells_are_read_as_feast_reads_them_or_refused(stored: list[bytes | None]) -> None:
    try:
        values, present = decode_doubles(stored)
    except CodecError:
        return
    for cell, value, is_present in zip(stored, values, present, strict=True):
        feast = Value.FromString(cell or b"")
        assert feast.WhichOneof("val") == ("double_val" if is_present else None)
        if is_present:
            assert bits_of([value]) == bits_of([feast.double_val])


@pytest.mark.parametrize(
    "cell",
    [
        Value(int64_val=7).SerializeToString(),
        Value(string_val="12345678").SerializeToString(),
        Value(float_val=1.5).SerializeToString(),
        encode_array(np.ones(1)),
        encode_double(1.0)[:-1],
        encode_double(1.0) + b"\x00",
        b"\x2a" + bytes(8),
    ],
)
@pytest.mark.parametrize("others", [[], [encode_double(0.0)], [None]])
def test_a_field_that_holds_no_double_is_refused(cell: bytes, others: list[bytes | None]) -> None:
    with pytest.raises(CodecError, match="does not hold a double"):
        decode_doubles([*others, cell])


# ---------------------------------------------------------------------------------------------------- arrays


@given(st.lists(any_bits, max_size=40))
def test_an_array_of_ours_is_feasts_and_feasts_is_ours_to_the_bit(bits: list[int]) -> None:
    ours = encode_array(floats(bits))
    feast = Value.FromString(ours)
    assert feast.WhichOneof("val") == "double_list_val"
    assert bits_of(list(feast.double_list_val.val)) == bits
    theirs = Value(double_list_val=DoubleList(val=floats(bits))).SerializeToString()
    assert theirs == ours
    assert bits_of(decode_array(theirs)) == bits


@pytest.mark.parametrize("n", [0, 1, 15, 16, 2047, 2048, 100_000])  # around the lengths' own growth
def test_arrays_of_any_length(n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n)
    feast = Value(double_list_val=DoubleList(val=values)).SerializeToString()
    assert encode_array(values) == feast
    np.testing.assert_array_equal(decode_array(feast), values)


def test_an_array_is_encoded_whatever_its_layout() -> None:
    values = np.arange(20.0)
    assert encode_array(values[::-2]) == encode_array(values[::-2].copy())
    assert encode_array(values.astype(">f8")) == encode_array(values)


def test_a_decoded_array_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        decode_array(encode_array(np.ones(3)))[0] = 2.0


@given(st.lists(any_bits, max_size=20), st.data())
def test_a_cut_or_continued_array_is_refused(bits: list[int], data: st.DataObject) -> None:
    whole = encode_array(floats(bits))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CodecError):
        decode_array(whole[:cut])
    with pytest.raises(CodecError):
        decode_array(whole + b"\x00")


@given(st.binary(max_size=40).map(lambda tail: b"\x7a" + tail))
@example(b"\x7a\x02\x0a\x00")
@example(b"\x7a\x03\x0a\x01\x00")  # an eighth of a double
@example(b"\x7a\x09\x0a\x08" + bytes(8))  # the outer length is one short
@example(b"\x7a" + b"\xff" * 9 + b"\x7f")
@example(Value(double_list_val=DoubleList(val=[1.0])).SerializeToString() * 2)
def test_any_bytes_are_the_array_that_feast_reads_or_refused(stored: bytes) -> None:
    try:
        values = decode_array(stored)
    except CodecError:
        return
    assert bits_of(values) == bits_of(list(Value.FromString(stored).double_list_val.val))


# ------------------------------------------------------------------------------------------------ timestamps


@given(any_us)
@example(0)
@example(-1)
def test_a_timestamp_of_ours_is_feasts_and_feasts_is_ours(us: int) -> None:
    feast = Timestamp()
    feast.FromMicroseconds(us)
    assert encode_timestamp(us) == feast.SerializeToString()
    assert decode_timestamp(feast.SerializeToString()) == us


@given(any_us, st.integers(0, 999))
def test_nanoseconds_are_rounded_down(us: int, nanos: int) -> None:
    feast = Timestamp()
    feast.FromMicroseconds(us)
    feast.nanos += nanos
    assert decode_timestamp(feast.SerializeToString()) == us


@given(st.binary(max_size=24))
@example(b"\x08\x85" + b"\x80" * 8 + b"\x02")  # more than 64 bits
@example(b"\x10\xff\xff\xff\xff\x0f")  # nanoseconds below zero in 32 bits
@example(b"\x08\x80")
def test_any_bytes_are_the_moment_that_feast_reads_or_refused(stored: bytes) -> None:
    try:
        us = decode_timestamp(stored)
    except CodecError:
        return
    feast = Timestamp.FromString(stored)
    assert us == feast.seconds * 1_000_000 + feast.nanos // 1000


def test_a_moment_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(CodecError, match="range"):
        decode_timestamp(Timestamp(seconds=253_402_300_800).SerializeToString())


# -------------------------------------------------------------------------------------------- keys and fields


@given(st.text(), st.text(alphabet="abcdefgh_", min_size=1))
@example("EUR/USD", "fstore")
@example("\x00\n*?[]", "prod")
def test_a_key_is_feasts(symbol: str, project: str) -> None:
    key = EntityKey(join_keys=[catalog.ENTITY], entity_values=[Value(string_val=symbol)])
    feast = serialize_entity_key(key, entity_key_serialization_version=3) + project.encode()
    assert entity_key(symbol, project) == feast


@given(st.text(), st.text())
def test_a_field_is_feasts(view: str, feature: str) -> None:
    assert field_key(view, feature) == _mmh3(f"{view}:{feature}")


def test_a_views_own_fields() -> None:
    assert timestamp_key("ohlcv_1h") == b"_ts:ohlcv_1h"  # where Feast puts it
    assert revision_key("ohlcv_1h") != timestamp_key("ohlcv_1h")


# ------------------------------------------------------------------------------------------------- revisions

moments = st.integers(0, 253_402_300_799_999_999)


@given(st.tuples(moments, moments), st.tuples(moments, moments))
def test_revisions_compare_as_bar_and_then_as_created(left: tuple[int, int], right: tuple[int, int]) -> None:
    assert (revision(*left) < revision(*right)) == (left < right)
    assert read_revision(revision(*left)) == left
    assert revision(*left).isdigit()  # nothing whose order a locale could change


@pytest.mark.parametrize("stored", [b"", b"1" * 39, b"1" * 41, b"1" * 39 + b"x", b"-" + b"1" * 39])
def test_a_malformed_revision_is_refused(stored: bytes) -> None:
    with pytest.raises(CodecError, match="40 digits"):
        read_revision(stored)


@pytest.mark.parametrize("moment", [(-1, 0), (0, -1)])
def test_a_bar_before_1970_is_refused(moment: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1970"):
        revision(*moment)


@pytest.mark.parametrize("read", [decode_array, lambda cell: decode_doubles([cell])])
def test_what_feast_can_not_read_is_refused(read: Callable[[bytes], object]) -> None:
    broken = b"\x7a\x05\x0a\xff"
    with pytest.raises(DecodeError):
        Value.FromString(broken)
    with pytest.raises(CodecError):
        read(broken)
