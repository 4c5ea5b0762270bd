"""Numbers as people read them: fixed decimals, a true minus sign, thin thousands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MINUS = "\u2212"


def number(value: float, digits: int = 2) -> str:
    """``-0.5`` -> "−0.50"; a value that rounds to zero has no sign."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", _MINUS)


def signed(value: float, digits: int = 2) -> str:
    """``0.5`` -> "+0.50"; a value that rounds to zero has no sign."""
    text = number(value, digits)
    return text if float(f"{value:.{digits}f}") <= 0 else f"+{text}"


def percent(value: float) -> str:
    """A share as whole per cent, but never "0 %" or "100 %" for what is not exactly that."""
    whole = round(100 * value)
    if whole == 0 and value > 0:
        return "<1\u00a0%"
    if whole == 100 and value < 1:
        return ">99\u00a0%"
    return f"{whole}\u00a0%"


def count(value: float) -> str:
    """``12345`` -> "12 345"."""
    return f"{value:,.0f}".replace(",", "\u202f")


def span(interval: Mapping[str, Any], digits: int = 2) -> str:
    """The interval's ends: "3.20 to 3.44"."""
    return f"{number(interval['low'], digits)} to {number(interval['high'], digits)}"


def short(value: float) -> str:
    """A number on an axis: three digits that matter, thousands apart, no zeros at the end."""
    return count(value) if value >= 1000 else f"{value:.3g}"


FILTERS = {
    "number": number,
    "signed": signed,
    "percent": percent,
    "count": count,
    "span": span,
    "short": short,
}
