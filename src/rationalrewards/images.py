"""The only module that touches pixels: load, turn upright, flatten, resize, encode, hash.

Whatever people have on disk (phone photos on their side, cut-outs with alpha, 16-bit scans, CMYK print files)
comes out as plain 8-bit RGB, upright, on white; or as an ImageError whose sentence says what is wrong.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rationalrewards.types import ImageLike, InputError

MAX_PIXELS = 150_000_000  # below the size at which Pillow itself refuses
_MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_LOSSY = {"JPEG", "MPO", "JPEG2000", "AVIF", "HEIF"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112


class ImageError(InputError):
    """An image that cannot be used. The message says which, why, and what to give instead."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as it is sent to a server: width and height in pixels, ``sha256`` (hex) of ``data``."""

    data: bytes
    mime: str
    width: int
    height: int
    sha256: str

    @property
    def data_url(self) -> str:
        """``data:<mime>;base64,...``, as the OpenAI chat format takes images."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


def load(image: ImageLike) -> Image.Image:
    """The image as 8-bit RGB, upright by its EXIF orientation, transparency composited on white.

    Always a new image. 16-bit grey is scaled to 8 bits. Raises ImageError for a missing, empty, corrupt or
    cut-off file, for what is no image, for more than one frame, and above 150 megapixels.
    """
    with _told_as_image_error(image), _SILENCE:
        opened, data = _open(image)
        return _plain(opened, _orientation(opened, data))


def encode(image: ImageLike, max_pixels: int | None = None) -> EncodedImage:
    """The image ready to be sent, at most ``max_pixels`` large (width times height; ``None``: as it is).

    A PNG, JPEG or WebP that is upright, opaque, 8-bit RGB or grey and small enough passes through byte for
    byte. All else is loaded, scaled down with its aspect ratio kept (never up, never below one pixel), and
    written as PNG if the source was lossless, as JPEG of quality 95 if not. Raises ImageError as ``load``.
    """
    if max_pixels is not None and max_pixels < 1:
        raise InputError(f"max_pixels is {max_pixels}; it must be at least 1")
    with _told_as_image_error(image), _SILENCE:
        opened, data = _open(image)
        source, orientation = opened.format, _orientation(opened, data)
        lossy = source in _LOSSY or (source == "WEBP" and b"VP8L" not in data)
        size = _fitting(opened.size, max_pixels)
        if size == opened.size and orientation == 1 and _sendable(opened, data):
            _check_whole(opened)
            return _encoded(data, _MIMES[str(source)], size)
        if size != opened.size and source == "JPEG" and data:
            # Decodes at 1/2, 1/4 or 1/8 of the size, still above the target: 40 MP in 0.09 s, not 0.57 s.
            opened.draft(opened.mode, size)
        upright = _plain(opened, orientation)
        size = size if orientation < 5 else (size[1], size[0])
        if upright.size != size:
            upright = upright.resize(size, Image.Resampling.LANCZOS)
        return _encoded(_written(upright, lossy), "image/jpeg" if lossy else "image/png", size)


def to_png(image: ImageLike) -> bytes:
    """The image, loaded as ``load`` does, as the bytes of a PNG file; the same pixels give the same bytes."""
    return _written(load(image), lossy=False)


def to_jpeg(image: ImageLike) -> bytes:
    """The image, loaded as ``load`` does, as the bytes of a JPEG file of quality 95."""
    return _written(load(image), lossy=True)


def cut_out(
    image: ImageLike, box: tuple[float, float, float, float], *, long_edge: int, margin: int
) -> bytes:
    """As PNG, the part of the image in ``box`` (left, top, width, height) and ``margin`` pixels around it.

    Box and margin are in pixels of the image scaled, up or down, to ``long_edge``. What lies outside of the
    image is cut off. Raises ImageError as ``load``, and when nothing of the box lies inside.
    """
    loaded = load(image)
    scale = long_edge / max(loaded.size)
    if scale != 1:
        size = (max(1, int(loaded.width * scale)), max(1, int(loaded.height * scale)))
        loaded = loaded.resize(size, Image.Resampling.LANCZOS)
    left, top, width, height = box
    ends = (
        max(0, int(left - margin)),
        max(0, int(top - margin)),
        min(loaded.width, int(left + width + margin)),
        min(loaded.height, int(top + height + margin)),
    )
    if ends[0] >= ends[2] or ends[1] >= ends[3]:
        raise ImageError(
            f"the box {box} lies outside {_name(image)}, which is {loaded.width} x {loaded.height} there"
        )
    return _written(loaded.crop(ends), lossy=False)


def tile(images: Sequence[ImageLike], per_row: int) -> bytes:
    """Square images of one size as one PNG, without gaps, row by row; what cuts them apart cuts squares.

    Raises ImageError when they are of several sizes or not square.
    """
    loaded = [load(image) for image in images]
    width, height = loaded[0].size
    if any(image.size != (width, height) for image in loaded):
        sizes = sorted({f"{image.width} x {image.height}" for image in loaded})
        raise ImageError(f"images of sizes {', '.join(sizes)} make no grid; generate them in one size")
    if width != height:
        raise ImageError(f"images of {width} x {height} pixels make no grid of squares; generate square ones")
    whole = Image.new("RGB", (width * per_row, height * math.ceil(len(loaded) / per_row)), "white")
    for n, image in enumerate(loaded):
        whole.paste(image, (n % per_row * width, n // per_row * height))
    return _written(whole, lossy=False)


def tile_of(image: ImageLike, index: int, per_row: int) -> bytes:
    """One of the ``per_row`` x ``per_row`` images in a grid that ``tile`` made, as PNG."""
    whole = load(image)
    width, height = whole.width // per_row, whole.height // per_row
    left, top = index % per_row * width, index // per_row * height
    return _written(whole.crop((left, top, left + width, top + height)), lossy=False)


def side_by_side(images: Sequence[ImageLike]) -> bytes:
    """Several images as one PNG, left to right on white, scaled to the height of the lowest, a gap between.

    Raises ImageError as ``load``.
    """
    loaded = [load(image) for image in images]
    height = min(image.height for image in loaded)
    gap = max(1, height // 32)
    scaled = [image.resize((max(1, round(image.width * height / image.height)), height)) for image in loaded]
    strip = Image.new("RGB", (sum(i.width for i in scaled) + gap * (len(scaled) - 1), height), "white")
    left = 0
    for image in scaled:
        strip.paste(image, (left, 0))
        left += image.width + gap
    return _written(strip, lossy=False)


def _open(image: ImageLike) -> tuple[Image.Image, bytes]:
    """The image with its header read and its size and frames checked, and the file's bytes (none for PIL)."""
    if isinstance(image, Image.Image):
        opened, data = image, b""
    else:
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        if not data:
            raise ImageError(f"{_name(image)} is empty (0 bytes)")
        opened = Image.open(io.BytesIO(data))
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{_name(image)} is {width} x {height} pixels; "
            f"scale it to at most {MAX_PIXELS // 10**6} megapixels"
        )
    if width * height == 0:
        raise ImageError(f"{_name(image)} is {width} x {height} pixels; there is nothing to see")
    # Phones write photos as MPO: a JPEG with a preview or a depth map behind it. The first picture counts.
    if getattr(opened, "is_animated", False) and opened.format != "MPO":
        raise ImageError(f"{_name(image)} has {getattr(opened, 'n_frames', 2)} frames; give one still image")
    return opened, data


def _orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation, 1 to 8. Broken EXIF in a sound image says nothing about orientation: 1."""
    # Pillow decodes a whole PNG to look for EXIF behind the pixels, so look for the chunk first.
    if image.format == "PNG" and data and b"eXIf" not in data and b"Raw profile type" not in data:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # whatever Pillow trips over in there
        return 1
    return value if value in _UPRIGHT else 1


def _plain(image: Image.Image, orientation: int) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        flat = _from_16_bit(image)
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range; convert it to 8 bits")
    elif image.has_transparency_data:
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
    else:
        flat = image
    upright = flat.convert("RGB")  # a copy, also where the mode is RGB already
    return upright if orientation == 1 else upright.transpose(_UPRIGHT[orientation])


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (Pillow's I;16 modes, and I) to 8 bits: 0 to 0, 65535 to 255."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError("32-bit grey has no known range; convert it to 8 bits")
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


def _fitting(size: tuple[int, int], max_pixels: int | None) -> tuple[int, int]:
    """The largest size of the same shape with at most ``max_pixels``, never larger than ``size``."""
    width, height = size
    if max_pixels is None or width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    short = max(1, int(min(size) * scale))
    long = max(1, min(int(max(size) * scale), max_pixels // short))
    return (long, short) if width >= height else (short, long)


def _sendable(image: Image.Image, data: bytes) -> bool:
    """May these bytes be sent as they are? (Size and orientation are checked elsewhere.)"""
    eight_bits = image.format != "PNG" or data[24:25] == b"\x08"  # IHDR; Pillow hides 16-bit RGB
    plain = image.mode in ("RGB", "L") and not image.has_transparency_data
    return bool(data) and image.format in _MIMES and plain and eight_bits


def _check_whole(image: Image.Image) -> None:
    """Raises if the pixels behind a good header are broken or cut off.

    Measured at 896 x 896 on one core. JPEG: decoding at 1/8 size reads the whole stream, 1.4 ms, full
    decoding 3.0 ms. PNG: the checksums of all chunks, 0.2 ms, full decoding 19 ms. WebP: decoding, 13 ms.
    """
    if image.format == "PNG":
        image.verify()
        return
    if image.format == "JPEG":
        image.draft(image.mode, (1, 1))
    image.load()


def _written(image: Image.Image, lossy: bool) -> bytes:
    out = io.BytesIO()
    if lossy:
        image.save(out, "JPEG", quality=95, subsampling=0)  # 4:4:4, or small coloured text smears
    else:
        image.save(out, "PNG", compress_level=1)  # level 6 takes five times as long to save 17 %
    return out.getvalue()


def _encoded(data: bytes, mime: str, size: tuple[int, int]) -> EncodedImage:
    return EncodedImage(data, mime, size[0], size[1], hashlib.sha256(data).hexdigest())


def _name(image: ImageLike) -> str:
    if isinstance(image, str | os.PathLike):
        return f"the image {os.fspath(image)}"
    return f"the image given as {'bytes' if isinstance(image, bytes) else 'an object'}"


@contextmanager
def _told_as_image_error(image: ImageLike) -> Iterator[None]:
    """Whatever goes wrong inside, as an ImageError with the image's name: Pillow raises many things."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"there is no file for {_name(image)}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{_name(image)} is not an image in a format that can be read here") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{_name(image)} is too large: {error}") from error
    except Exception as error:
        raise ImageError(f"{_name(image)} cannot be used (damaged, cut off or unusual): {error}") from error


class _Silence:
    """Pillow's warnings held back while any thread is inside.

    ``catch_warnings`` alone puts back the wrong filters when two threads leave in the other order, so the
    first thread in sets the filter and the last one out takes it away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._catcher = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._catcher = warnings.catch_warnings()
                self._catcher.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._catcher.__exit__(None, None, None)


_SILENCE = _Silence()
