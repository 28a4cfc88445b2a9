"""Draws flat shapes without jagged edges and writes them as PNG, with the standard library alone.

Shapes are filled on a canvas four times as fine as the picture, which is then averaged. Nothing here is random and
no font or library draws, so every machine makes the same picture.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SIZE = 256
FINE = 4
_WIDE = SIZE * FINE

Point = tuple[float, float]
Rgb = tuple[int, int, int]


def rgb(text: str) -> Rgb:
    """`#rrggbb`."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


@dataclass
class Picture:
    """A square of 256 pixels; x goes right and y down. What is drawn later covers what was drawn before.

    A colour is `#rrggbb`, or two of them, `#rrggbb-#rrggbb`, that change into each other from top to bottom.
    """

    background: str
    _colours: list[str] = field(default_factory=list)
    _rows: list[bytearray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._colours.append(self.background)
        self._rows += [bytearray(_WIDE) for _ in range(_WIDE)]

    def polygon(self, points: Iterable[Point], colour: str) -> None:
        """Fill what the closed line through `points` goes around."""
        if colour not in self._colours:
            self._colours.append(colour)
        fill = bytes([self._colours.index(colour)]) * _WIDE
        # A thousandth is far below what is seen, and far above what two machines' sines differ by.
        corners = [(round(x * FINE, 3), round(y * FINE, 3)) for x, y in points]
        crossings: dict[int, list[float]] = {}
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            (low_x, low), (high_x, high) = sorted(((x0, y0), (x1, y1)), key=lambda point: point[1])
            for row in range(max(0, math.ceil(low - 0.5)), min(_WIDE, math.ceil(high - 0.5))):
                x = low_x + (row + 0.5 - low) * (high_x - low_x) / (high - low)
                crossings.setdefault(row, []).append(x)
        for row, found in crossings.items():
            found.sort()
            for begin, end in zip(found[::2], found[1::2], strict=True):
                left, right = (min(max(math.ceil(x - 0.5), 0), _WIDE) for x in (begin, end))
                self._rows[row][left:right] = fill[left:right]

    def ellipse(self, centre: Point, wide: float, high: float, colour: str, turn: float = 0) -> None:
        """`wide` and `high` are half axes; `turn` is in degrees, clockwise."""
        self.polygon(oval(centre, wide, high, turn), colour)

    def circle(self, centre: Point, radius: float, colour: str) -> None:
        """A filled circle."""
        self.ellipse(centre, radius, radius, colour)

    def box(self, left: float, top: float, right: float, bottom: float, radius: float, colour: str) -> None:
        """A rectangle with round corners."""
        points: list[Point] = []
        corners = [(x, y) for x in (right - radius, left + radius) for y in (top + radius, bottom - radius)]
        corners[2:] = corners[:1:-1]
        for number, centre in enumerate(corners):
            points += arc(centre, radius, radius, 90 * number - 90, 90 * number)
        self.polygon(points, colour)

    def line(self, points: Sequence[Point], width: float, colour: str) -> None:
        """A line with round ends and joints."""
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0) or 1
            dx, dy = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
            self.polygon(((x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)), colour)
        for point in points:
            self.circle(point, width / 2, colour)

    def png(self) -> bytes:
        """The picture as a file's content."""
        raw = bytearray()
        above = bytes(3 * SIZE)
        for y in range(SIZE):
            row = self._row(y)
            # "Up": most rows are like the one above.
            raw.append(2)
            raw += bytes((now - before) & 255 for now, before in zip(row, above, strict=True))
            above = row
        header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(raw), 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )

    def _row(self, y: int) -> bytes:
        palette = [_shade(colour, y) for colour in self._colours]
        plain = {bytes([index]) * FINE: bytes(shade) for index, shade in enumerate(palette)}
        fine = self._rows[y * FINE : (y + 1) * FINE]
        out = bytearray()
        for x in range(0, _WIDE, FINE):
            parts = [bytes(row[x : x + FINE]) for row in fine]
            if parts[0] in plain and parts.count(parts[0]) == FINE:
                out += plain[parts[0]]
            else:
                shades = [palette[index] for part in parts for index in part]
                out += bytes((sum(channel) + len(shades) // 2) // len(shades) for channel in zip(*shades, strict=True))
        return bytes(out)


def _shade(colour: str, y: int) -> Rgb:
    top, _, bottom = colour.partition("-")
    if not bottom:
        return rgb(top)
    red, green, blue = ((a * (SIZE - 1 - y) + b * y) // (SIZE - 1) for a, b in zip(rgb(top), rgb(bottom), strict=True))
    return red, green, blue


def arc(centre: Point, wide: float, high: float, begin: float, end: float) -> list[Point]:
    """Points along an ellipse, clockwise; 0 degrees is right, 90 is down."""
    steps = max(2, math.ceil(abs(end - begin) / 4))
    angles = (math.radians(begin + (end - begin) * step / steps) for step in range(steps + 1))
    return [(centre[0] + wide * math.cos(angle), centre[1] + high * math.sin(angle)) for angle in angles]


def oval(centre: Point, wide: float, high: float, turn: float = 0) -> list[Point]:
    """Points around a turned ellipse."""
    return turned(arc(centre, wide, high, 0, 360)[:-1], centre, turn)


def turned(points: Iterable[Point], centre: Point, degrees: float) -> list[Point]:
    """`points` turned around `centre`, clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = ((x - centre[0], y - centre[1]) for x, y in points)
    return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in moved]


def curve(*points: Point) -> list[Point]:
    """A smooth line: each further three points are the two handles and the end of a Bézier curve."""
    found = [points[0]]
    for index in range(0, len(points) - 1, 3):
        a, b, c, d = points[index : index + 4]
        for step in range(1, 17):
            t = step / 16
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
            found.append((x, y))
    return found
