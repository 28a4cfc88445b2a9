"""Draws the logos of the gateway's original personalities; a test compares them with what is committed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

from flat_drawing import Picture, arc, curve, oval, turned

SET = Path(__file__).resolve().parent.parent / "gateways" / "lollms" / "waifu_lollms" / "personality_set"
WHITE = "#ffffff"


def star(picture: Picture, x: float, y: float, size: float, colour: str) -> None:
    """Four points and hollow sides."""
    waist = size * 0.24
    points = []
    for step in range(8):
        reach = waist if step % 2 else size
        angle = math.radians(45 * step - 90)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    picture.polygon(points, colour)


def bubble(picture: Picture, ink: str) -> None:
    """The speech bubble with a face that stands for lollms."""
    picture.polygon(((86, 172), (140, 178), (78, 224)), "#dfe7fb")
    picture.polygon(((86, 168), (140, 174), (80, 216)), WHITE)
    picture.box(44, 70, 212, 186, 54, "#dfe7fb")
    picture.box(44, 64, 212, 178, 54, WHITE)
    for x in (98, 158):
        picture.ellipse((x, 116), 11, 15, ink)
        picture.circle((x + 4, 110), 4, WHITE)
        picture.ellipse((x + (-18 if x < 128 else 18), 138), 10, 6, "#ffc2cf")
    picture.line(curve((114, 140), (120, 151), (136, 151), (142, 140)), 6, ink)


def lollms(picture: Picture) -> None:
    """In English: a bubble with a spark."""
    picture.circle((128, 122), 118, "#5a63e0-#35b6c9")
    bubble(picture, "#2c2f6b")
    star(picture, 205, 57, 27, "#ffd35c")
    star(picture, 231, 92, 11, "#fff0bd")


def lollms_french(picture: Picture) -> None:
    """In French: the bubble with a beret."""
    picture.circle((128, 122), 118, "#e0647e-#f2a46b")
    bubble(picture, "#4a2740")
    picture.polygon(curve((64, 84), (44, 30), (150, 14), (204, 62), (220, 84), (150, 74), (64, 84)), "#2f3b73")
    picture.polygon(curve((64, 84), (110, 70), (160, 68), (207, 73), (170, 82), (110, 82), (72, 92)), "#232c58")
    picture.line(((128, 36), (133, 22)), 8, "#2f3b73")


def mika(picture: Picture) -> None:
    """A girl with a headband, the moon behind her."""
    hair, shade, ink = "#6b3347", "#54263a", "#3a1c2b"
    picture.circle((192, 62), 40, "#ffe9a8")
    picture.circle((177, 54), 34, "#3b2f6e-#8a4f8c")
    for x, y, size in ((38, 52, 9), (66, 28, 6), (226, 128, 7), (26, 120, 5)):
        star(picture, x, y, size, "#ffe9a8")
    picture.ellipse((128, 140), 84, 88, shade)
    picture.polygon(curve((46, 140), (38, 210), (50, 236), (66, 248), (90, 250), (90, 180), (84, 140)), shade)
    picture.polygon(curve((210, 140), (218, 210), (206, 236), (190, 248), (166, 250), (166, 180), (172, 140)), shade)
    picture.polygon(curve((60, 256), (70, 226), (96, 218), (128, 218), (160, 218), (186, 226), (196, 256)), "#e8573f")
    picture.polygon(((106, 210), (150, 210), (128, 244)), "#f6cfb8")
    picture.polygon(((96, 218), (108, 212), (130, 246), (120, 256), (108, 256)), WHITE)
    picture.polygon(((160, 218), (148, 212), (126, 246), (136, 256), (148, 256)), "#f4e6e0")
    picture.ellipse((128, 152), 63, 67, "#fde2cf")
    for side in (-1, 1):
        x = 128 + side * 30
        picture.ellipse((x, 164), 14, 19, WHITE)
        picture.ellipse((x, 165), 12, 18, "#7c3a2d-#f0a04b")
        picture.ellipse((x, 165), 6, 10, ink)
        picture.circle((x + 4, 156), 5, WHITE)
        picture.circle((x - 4, 174), 2.5, WHITE)
        picture.line(arc((x, 165), 15, 20, 200 if side < 0 else 215, 325 if side < 0 else 340), 5, ink)
        picture.ellipse((128 + side * 45, 190), 11, 6, "#fbb3a6")
    picture.line(curve((117, 196), (122, 204), (134, 204), (139, 196)), 4.5, "#a8433f")
    fringe = ((58, 160), (56, 96), (90, 66), (128, 66), (166, 66), (200, 96), (198, 160))
    picture.polygon(
        [*curve(*fringe), (184, 128), (176, 146), (160, 118), (146, 140), (122, 116), (108, 140), (88, 120), (74, 150)],
        hair,
    )
    picture.polygon(curve((57, 112), (84, 78), (172, 78), (199, 112), (196, 98), (190, 88), (184, 82)), "#e8573f")
    picture.polygon(curve((57, 112), (84, 76), (172, 76), (199, 112), (182, 58), (74, 58), (57, 112)), "#e8573f")
    picture.polygon(curve((188, 80), (204, 52), (226, 60), (222, 76), (216, 90), (200, 92), (188, 80)), "#e8573f")
    picture.polygon(curve((188, 82), (216, 78), (232, 96), (222, 108), (208, 112), (194, 98), (188, 82)), "#c9412f")
    for x, y in ((96, 84), (128, 77), (160, 84)):
        picture.circle((x, y), 4, "#ffd9c9")


def orin(picture: Picture) -> None:
    """An observatory on its mountain."""
    for x, y, size in ((46, 48, 10), (100, 26, 7), (150, 62, 6), (214, 38, 12), (34, 110, 6), (228, 104, 8)):
        star(picture, x, y, size, "#fdf3c8")
    for x, y in ((70, 82), (122, 58), (186, 76), (176, 24), (20, 74), (240, 68), (84, 124), (206, 132)):
        picture.circle((x, y), 1.8, "#c9d4ff")
    picture.polygon(((60, 18), (66, 22), (16, 66), (14, 64)), "#9db2ff")
    picture.polygon(((0, 256), (0, 196), (52, 150), (96, 196), (150, 256)), "#2b4a7d")
    picture.polygon(((106, 256), (206, 146), (256, 190), (256, 256)), "#2b4a7d")
    picture.polygon(((20, 256), (100, 178), (160, 178), (240, 256)), "#1b2f57")
    picture.polygon(((100, 178), (130, 178), (90, 256), (20, 256)), "#223a69")
    picture.box(92, 136, 164, 182, 3, "#dfe6f5")
    picture.polygon(((128, 136), (164, 136), (164, 182), (128, 182)), "#bccae6")
    picture.polygon(arc((128, 138), 42, 42, 180, 360), "#f4f7ff")
    picture.polygon([(128, 138), *arc((128, 138), 42, 42, 270, 360)], "#d5dff3")
    slit = turned(((118, 92), (138, 92), (138, 140), (118, 140)), (128, 138), 32)
    picture.polygon(slit, "#24365f")
    tube = turned(((121, 80), (135, 80), (135, 134), (121, 134)), (128, 138), 32)
    picture.polygon(tube, "#f2b84b")
    picture.polygon(turned(((119, 74), (137, 74), (137, 86), (119, 86)), (128, 138), 32), "#d9952b")
    picture.box(84, 134, 172, 144, 5, "#9fb2d8")
    picture.box(119, 152, 137, 182, 8, "#24365f")
    picture.circle((104, 160), 5, "#ffdf8a")
    picture.circle((152, 160), 5, "#ffdf8a")


def loom(picture: Picture) -> None:
    """A round piece of weaving with a needle in it."""
    picture.circle((128, 128), 104, "#2b1739")
    warp = ("#f4c95d", "#f7e7c6")
    weft = ("#e4576b", "#4fb8a8", "#8f6be0", "#f08a4b", "#5a8be8")
    for column in range(6):
        x = 53 + 30 * column
        picture.box(x - 10, 20, x + 10, 236, 0, warp[column % 2])
    for row in range(6):
        y = 53 + 30 * row
        colour = weft[row % len(weft)]
        for column in range(-1, 7):
            if (row + column) % 2:
                x = 53 + 30 * column
                picture.box(x - 25, y - 11, x + 25, y + 11, 9, colour)
                picture.box(x - 14, y - 6, x + 14, y - 2, 2, "#ffffff")
    ring(picture, 104, 190, "#3f2350-#7a2f57")
    ring(picture, 99, 109, "#d9a066")
    ring(picture, 99, 102, "#f0c48c")
    needle = turned(oval((128, 128), 5, 86), (128, 128), 52)
    picture.polygon(needle, "#fbfbff")
    picture.polygon(turned(oval((128, 58), 1.8, 9), (128, 128), 52), "#8d92b5")
    picture.line(curve((183, 85), (214, 60), (236, 92), (214, 112), (196, 130), (220, 160), (250, 150)), 5, "#e4576b")


def ring(picture: Picture, inner: float, outer: float, colour: str) -> None:
    """What lies between two circles around the middle."""
    picture.polygon([*arc((128, 128), inner, inner, 0, 360), *arc((128, 128), outer, outer, 360, 0)], colour)


def rubber_duck(picture: Picture) -> None:
    """A bath duck, of course."""
    picture.circle((128, 128), 112, "#8ee3e0-#4fc0cf")
    body, shade = "#ffd23f", "#f4b324"
    picture.polygon(
        curve(
            (40, 142), (58, 148), (76, 148), (92, 140), (140, 120), (186, 134), (204, 156),
            (222, 190), (196, 222), (130, 222), (72, 222), (38, 190), (40, 142),
        ),
        body,
    )  # fmt: skip
    picture.circle((158, 94), 52, body)
    picture.polygon(curve((66, 164), (92, 150), (130, 156), (142, 172), (138, 200), (92, 204), (66, 164)), shade)
    picture.polygon(curve((68, 160), (92, 148), (126, 152), (138, 168), (130, 190), (92, 192), (68, 160)), "#ffdf6e")
    picture.polygon(curve((196, 84), (214, 78), (236, 84), (242, 96), (228, 104), (208, 104), (196, 102)), "#ff8a3c")
    picture.polygon(curve((196, 98), (212, 100), (226, 102), (232, 106), (222, 118), (204, 116), (194, 108)), "#e86a24")
    picture.ellipse((174, 80), 10, 13, "#33302e")
    picture.circle((178, 75), 4.5, WHITE)
    picture.ellipse((168, 108), 12, 7, "#ffb36b")
    picture.polygon(curve((136, 48), (132, 30), (148, 24), (156, 34), (160, 26), (172, 32), (166, 46)), body)
    wave = [(0.0, 204.0)]
    for step in range(4):
        x = 64.0 * step
        wave += curve(
            (x, 204), (x + 16, 190), (x + 32, 190), (x + 32, 204), (x + 32, 218), (x + 48, 218), (x + 64, 204)
        )
    picture.polygon([*wave, (256, 256), (0, 256)], "#2f9fc0-#2a7fae")
    for x, y, radius in ((44, 92, 11), (66, 62, 7), (36, 60, 5)):
        picture.circle((x, y), radius, "#e9fbfb")
        picture.circle((x - radius / 4, y - radius / 4), radius * 0.55, "#ffffff")


def capucine(picture: Picture) -> None:
    """A nasturtium over a pile of books."""
    picture.circle((128, 118), 108, "#fff3dc-#ffe0b0")
    books = (
        (50, 206, 212, "#3f6f6a", "#325956"),
        (64, 178, 200, "#c8553d", "#a54431"),
        (46, 150, 190, "#3d5a80", "#304866"),
    )
    for left, top, right, cover, spine in books:
        picture.box(left, top, right, top + 28, 6, cover)
        picture.box(left + 20, top + 5, right + 2, top + 23, 3, "#fdf6e6")
        for line in (10, 14, 18):
            picture.box(left + 24, top + line - 0.6, right - 2, top + line + 0.6, 0, "#dccfb4")
        picture.box(left, top, left + 26, top + 28, 6, spine)
        picture.box(left + 10, top + 6, left + 14, top + 22, 2, "#f0c987")
    picture.line(curve((122, 152), (118, 138), (130, 122), (128, 96)), 6, "#5c8a4a")
    picture.ellipse((94, 134), 25, 20, "#6fa35a", -18)
    for angle in range(0, 360, 60):
        end = turned(((94, 116),), (94, 134), angle)[0]
        picture.line(((94, 134), end), 1.8, "#a9cc93")
    for number in range(5):
        angle = 72 * number
        picture.polygon(turned(oval((128, 48), 23, 27), (128, 78), angle), "#f47b2a")
        picture.polygon(turned(oval((128, 44), 16, 18), (128, 78), angle), "#ff9d3f")
    for number in range(5):
        picture.polygon(turned(((124, 78), (128, 42), (132, 78)), (128, 78), 72 * number), "#c23b22")
    picture.circle((128, 78), 13, "#ffd86b")
    picture.circle((128, 78), 6, "#c23b22")


def plume(picture: Picture) -> None:
    """A feather that has just written a line."""
    picture.circle((128, 124), 108, "#fbf1e6-#f3d9cf")
    tip, top = (78.0, 198.0), (206.0, 34.0)
    picture.polygon(curve((92, 178), (96, 104), (150, 50), top, (208, 104), (170, 168), (92, 178)), "#3c6e9f-#63a6c7")
    picture.polygon(curve((92, 178), (132, 132), (168, 84), top, (208, 104), (170, 168), (92, 178)), "#2b527c-#3f7fa6")
    for begin, end, width in (((196, 112), (158, 112), 5), ((178, 142), (134, 140), 5), ((118, 84), (136, 110), 4)):
        picture.polygon(((begin[0], begin[1] - width), end, (begin[0] + 6, begin[1] + width)), "#f8e8dc")
    picture.line(curve(tip, (110, 158), (160, 100), top), 5, "#f6e7c9")
    picture.polygon((tip, (84, 178), (96, 184)), "#2a2540")
    picture.line(curve(tip, (100, 226), (118, 190), (136, 208), (150, 222), (164, 196), (180, 208)), 5, "#2a2540")
    picture.line(((180, 208), (196, 206)), 5, "#2a2540")
    picture.polygon(curve((52, 204), (44, 190), (52, 178), (54, 168), (58, 178), (66, 192), (52, 204)), "#c8446a")
    picture.circle((55, 195), 9.5, "#c8446a")
    picture.circle((52, 192), 3, "#f0a3b9")


LOGOS: dict[str, tuple[str, Callable[[Picture], None]]] = {
    "english/generic/lollms": ("#3f47b8-#2794b5", lollms),
    "english/companions/mika": ("#3b2f6e-#8a4f8c", mika),
    "english/companions/orin": ("#131c47-#6a5aa6", orin),
    "english/creative/loom": ("#3f2350-#7a2f57", loom),
    "english/helpers/rubber_duck": ("#5cc9d0-#3aa5c0", rubber_duck),
    "french/generic/lollms": ("#c44a6d-#e08a55", lollms_french),
    "french/companions/capucine": ("#f7c98b-#e9a15f", capucine),
    "french/creative/plume": ("#e9b3a2-#c9788a", plume),
}


def drawn(key: str) -> bytes:
    """The logo of one personality as a PNG file."""
    background, draw = LOGOS[key]
    picture = Picture(background)
    draw(picture)
    return picture.png()


def main(folder: Path = SET) -> None:
    """Write all of them below `folder`."""
    for key in LOGOS:
        file = folder / key / "assets" / "logo.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(drawn(key))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
