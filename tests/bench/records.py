# SPDX-License-Identifier: GPL-2.0
"""What was measured: readings, and of all rounds' readings the records of results.json."""

import dataclasses
import json
import statistics

# The fields of a record, all of them, in this order.
FIELDS = ("driver", "test", "mtu", "size", "qps", "unit", "median", "min", "max", "rounds", "crc")


@dataclasses.dataclass(frozen=True)
class Reading:
    """One figure of one run. `size` in bytes; 0 where there is none."""

    test: str
    size: int
    qps: int
    unit: str
    value: float


class Series:
    """Readings of the same thing, round after round."""

    def __init__(self):
        self._values, self._crc = {}, {}

    def add(self, driver, mtu, reading, crc):
        """`crc`: "on", "off" (of iWARP MPA's, of RoCE the ICRC), or "none" where there is no such thing."""
        key = (driver, reading.test, mtu, reading.size, reading.qps, reading.unit)
        self._values.setdefault(key, []).append(reading.value)
        self._crc[key] = crc

    def records(self):
        def row(key, v):
            return (*key, *map(rounded, (statistics.median(v), min(v), max(v))), len(v), self._crc[key])

        return [dict(zip(FIELDS, row(key, v), strict=True)) for key, v in self._values.items()]


def rounded(value):
    """Five digits are more than any of this is good for."""
    return float(f"{value:.5g}")


def write(path, records):
    path.write_text(json.dumps(records, indent=1) + "\n")


def read(path):
    return json.loads(path.read_text())
