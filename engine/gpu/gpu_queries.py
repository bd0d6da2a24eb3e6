"""A batch of queries on a GPU, encoded there and scored from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, overload

import numpy as np

from hficma.types import Floats, Lengths

from ..encoder import EncodedQuery, ModelInput
from ..index.item_encoding import BatchEncodings

if TYPE_CHECKING:
    from hficma.model.similarity import PaddedEncodings


class GpuQuery(EncodedQuery):
    """A query whose encodings stay on the GPU, and come to the host only when they are read.

    Its vector is on the host: the exact S_global, which ties and certificates hang on, is summed
    there.
    """

    batch: GpuQueries
    """That it is one of."""
    number: int
    """Its place there."""

    @property
    def encodings(self) -> BatchEncodings | None:
        """Return the encodings as host arrays; some megabytes are copied."""
        return self.batch.host_encodings(self.number)


class GpuQueries(Sequence[EncodedQuery]):
    """Q queries of one role, at `tables` in a GPU's memory.

    Args:
        vectors: (Q, D_g) on the host.
        encodings: of all of them, padded to one length; None for a model without a local part.
        lengths: (Q,) tokens of each, on the host.
        inputs: what the branches read of each.
    """

    def __init__(
        self,
        vectors: Floats,
        encodings: PaddedEncodings | None,
        lengths: Lengths,
        inputs: Sequence[ModelInput],
    ) -> None:
        self.encodings = encodings
        """(Q, L, ...) float32 on the GPU."""
        assert len(vectors) == len(inputs)
        self._lengths = lengths
        self._vectors = vectors
        self._inputs = inputs

    def __len__(self) -> int:
        """Return Q."""
        return len(self._vectors)

    @overload
    def __getitem__(self, number: int) -> EncodedQuery: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[EncodedQuery]: ...
    def __getitem__(self, number: int | slice) -> EncodedQuery | Sequence[EncodedQuery]:
        """Return a query, or several; made anew, since a batch that held them would be a cycle.

        Its encodings would then stay on the GPU until Python next looks for cycles.
        """
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        query = GpuQuery(self._vectors[number], None, self._inputs[number])
        query.batch, query.number = self, range(len(self))[number]
        return query

    def __iter__(self) -> Iterator[EncodedQuery]:
        """Yield the queries in order."""
        return (self[number] for number in range(len(self)))

    def host_encodings(self, number: int) -> BatchEncodings | None:
        """Return one query's encodings on the host, without padding.

        Args:
            number: of the query.
        """
        if self.encodings is None:
            return None
        length = int(self._lengths[number])
        arrays = {}
        for field in fields(self.encodings):
            if field.name == "lengths":
                continue
            item = getattr(self.encodings, field.name)[number : number + 1]
            # (1, D) has no tokens, (1, H, L, D) has them behind the heads, all others at 1.
            if field.name == "table":
                item = item[:, :, :length]
            elif field.name != "mean":
                item = item[:, :length]
            arrays[field.name] = np.ascontiguousarray(item.cpu().numpy())
        return BatchEncodings(self._lengths[number : number + 1], arrays)
