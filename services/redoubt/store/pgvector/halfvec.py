"""Vectors on their way to pgvector: its binary form, which costs neither side any parsing."""

import struct

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format

from redoubt.model import Vector, Vectors

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
_END = struct.pack("!h", -1)


class Halfvec:
    """A vector as a statement's parameter of type halfvec."""

    __slots__ = ("binary",)

    def __init__(self, vector: Vector) -> None:
        half = vector.astype(">f2")
        self.binary = struct.pack("!hh", half.size, 0) + half.tobytes()


class HalfvecDumper(Dumper):
    """Without a type's oid: the server takes it from where the parameter stands."""

    format = Format.BINARY

    def dump(self, obj: Halfvec) -> bytes:
        """The bytes that `halfvec_recv` reads."""
        return obj.binary


def copied(numbers: list[int], vectors: Vectors) -> bytes:
    """A whole COPY BINARY stream of (int, halfvec) rows."""
    count, dimensions = vectors.shape
    rows = np.empty(
        count,
        dtype=[
            ("fields", ">i2"),
            ("number_bytes", ">i4"),
            ("number", ">i4"),
            ("vector_bytes", ">i4"),
            ("dimensions", ">i2"),
            ("unused", ">i2"),
            ("vector", ">f2", (dimensions,)),
        ],
    )
    rows["fields"], rows["number_bytes"], rows["number"] = 2, 4, numbers
    rows["vector_bytes"], rows["dimensions"], rows["unused"] = 4 + 2 * dimensions, dimensions, 0
    rows["vector"] = vectors
    return _SIGNATURE + rows.tobytes() + _END
