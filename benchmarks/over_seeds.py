"""What several seeds of one training say together."""

import math
from collections.abc import Sequence


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean with a 95 % t-interval over seeds; a single seed has none."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return {"mean": mean, "n": n}
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def shown(value: dict[str, float]) -> str:
    """Such a mean for a table."""
    span = f"[{value['low']:.3f}, {value['high']:.3f}]" if "low" in value else "(one seed)"
    return f"{value['mean']:.3f} {span}"
