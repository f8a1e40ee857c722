"""Measure how far live counts moved away from reference counts.

Knows histograms; knows nothing of Ray, tables, time or where rows come from. An index is an effect
size: whether it matters is for the diagnosis to say.
"""

import numpy as np

Counts = np.ndarray


def stability_index(reference: Counts, live: Counts) -> float:
    """Compute the population stability index of two histograms over the same bins.

    PSI = sum over bins of (q - p) ln(q / p), the symmetrised Kullback-Leibler divergence of
    Jeffreys (1946) that credit scoring calls PSI (Siddiqi, Credit Risk Scorecards, 2006; Yurdakul,
    Statistical Properties of Population Stability Index, 2018). Half a row is added to every bin
    (Krichevsky and Trofimov, 1981), so that an empty bin gives a finite figure. 0 means equal
    shares; without drift the expectation is about (bins - 1)(1/n + 1/m) for n and m rows.

    Args:
        reference: counts [bins], integers of 0 or more.
        live: counts [bins] over the same bins.

    Returns:
        The index, 0 or more; 0 when either side has no rows, since nothing can be said.

    >>> round(stability_index(np.array([50, 50]), np.array([50, 50])), 6)
    0.0
    >>> round(stability_index(np.array([5000, 5000]), np.array([2500, 7500])), 3)
    0.275
    """
    if reference.shape != live.shape:
        shapes = f"{reference.shape} and {live.shape}"
        raise ValueError(f"histograms of {shapes} bins cannot be compared; use the same edges")
    if not reference.sum() or not live.sum():
        return 0.0
    p = _smoothed_shares(reference)
    q = _smoothed_shares(live)
    # Each term is 0 or more; the maximum only hides a rounding of -0.0.
    return max(0.0, float(np.sum((q - p) * np.log(q / p))))


def share(part: int, whole: int) -> float:
    """Divide counts; an empty whole gives 0.

    >>> share(1, 4), share(0, 0)
    (0.25, 0.0)
    """
    return part / whole if whole else 0.0


def _smoothed_shares(counts: Counts) -> np.ndarray:
    """Turn counts into shares with half a row more in every bin."""
    smoothed = counts.astype(np.float64) + 0.5
    return np.asarray(smoothed / smoothed.sum(), dtype=np.float64)
