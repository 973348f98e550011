"""What is called drift; one value object, validated once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tables.errors import ConfigError

Method: TypeAlias = Literal["psi", "ks", "kl", "js"]
Level: TypeAlias = Literal["none", "minor", "severe"]

METHODS: tuple[Method, ...] = ("psi", "ks", "kl", "js")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPolicy:
    """How features of a model are compared with its reference.

    Raises ConfigError for values that cannot work.
    """

    minor: float = 0.1
    """PSI from which a shift that is more than chance is called minor."""
    severe: float = 0.2
    """PSI from which it is called severe."""
    horizon_ms: int = 3_600_000
    """Event time that is compared with the reference: so much up to the end of the window, in whole minutes."""
    confidence: float = 0.99
    """Share of the windows without drift whose distances do not exceed `critical`."""

    def __post_init__(self) -> None:
        if not 0 < self.minor <= self.severe < math.inf:
            raise ConfigError(
                f"drift.minor, drift.severe: expected 0 < minor <= severe, got {self.minor} and {self.severe}"
            )
        if self.horizon_ms <= 0 or self.horizon_ms % 60_000:
            raise ConfigError(f"drift.horizon: expected whole minutes, got {self.horizon_ms} ms")
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"drift.confidence: expected 0.5 or more and less than 1, got {self.confidence}")

    def level(self, method: Method, value: float, critical: float) -> Level:
        """How a distance is to be called: `none` where it is within chance, whatever its size."""
        if value <= critical or value < equivalent(method, self.minor):
            return "none"
        return "minor" if value < equivalent(method, self.severe) else "severe"


DEFAULT_POLICY = DriftPolicy()


def equivalent(method: Method, psi: float) -> float:
    """The distance of another method at a shift that has this PSI.

    To second order PSI is Pearson's chi2 (shares), KL half and JS divergence an eighth of it (Csiszar & Shields 2004,
    theorem 4.1); JS distance is the root of the divergence in bits. KS: a normal distribution shifted by d standard
    deviations has PSI d**2 and KS 2 Phi(d/2) - 1.
    """
    if method == "ks":
        return math.erf(math.sqrt(psi / 8))
    if method == "kl":
        return psi / 2
    if method == "js":
        return min(1.0, math.sqrt(psi / (8 * math.log(2))))
    return psi
