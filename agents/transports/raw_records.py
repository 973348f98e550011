"""The records of a fetched partition as plain offsets and values, read batch by batch.

aiokafka makes a `ConsumerRecord` of each record, which costs several times what parsing does, and keeps its list of
headers, which sets off Python's garbage collector. Here a parsed record lives only until its value is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException

Values = list[bytes | None]


def read_batches(fetched: PartitionRecords) -> Iterator[tuple[list[int], Values]]:
    """Offsets and values of each record batch; `fetched.next_fetch_offset` moves on with them.

    Does what `PartitionRecords._unpack_records` does for a reader of uncommitted records. Raises
    CorruptRecordException, or whatever a codec raises, at a batch that cannot be read.
    """
    while fetched._records.has_next():
        batch = fetched._records.next_batch()
        if fetched._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {fetched._tp}")
        offsets: list[int] = []
        values: Values = []
        if not batch.is_control_batch:
            for record in batch:
                offsets.append(record.offset)
                values.append(record.value)
        if offsets and offsets[0] < fetched.next_fetch_offset:
            # The broker sends whole batches, also where reading begins within one.
            before = sum(offset < fetched.next_fetch_offset for offset in offsets)
            offsets, values = offsets[before:], values[before:]
        # Not the last record's: compaction may have removed what came after it.
        fetched.next_fetch_offset = batch.next_offset
        yield offsets, values
