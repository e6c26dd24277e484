"""The catalogue: each hazard forced, met by chance, and tried against every pool.

CATALOGUE["argument-leak"].forced()        # -> Evidence: its effect on the installed version
CATALOGUE["argument-leak"].natural(60)     # -> Rate: how often it comes by chance
matrix([SharedModel, ModelPerThread])      # -> Matrix: all of that, and every hazard against these pools

hazard        hazards, evidence and the matrix       fixtures   models, pools and threads for the attempts
sharing       one model that several threads use     surroundings   what separate models share, too
catalogue     the entries
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yolothreads.errors import ArgumentError
from yolothreads.hazards.catalogue import CATALOGUE
from yolothreads.hazards.hazard import NOT_APPLICABLE, NOT_REPRODUCED, REPRODUCED, Evidence, Hazard, Matrix, Try, run
from yolothreads.pools import POOLS, Pool

__all__ = [
    "CATALOGUE",
    "NOT_APPLICABLE",
    "NOT_REPRODUCED",
    "REPRODUCED",
    "Evidence",
    "Hazard",
    "Matrix",
    "Try",
    "matrix",
]


def matrix(
    pools: Sequence[type[Pool]] | None = None,
    budget_s: float = 4.0,
    *,
    trials: int = 20,
    hazards: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Matrix:
    """Try hazards against pools on this machine; all of them takes about nine minutes on two cores.

    Args:
        pools: classes; by default every pool there is.
        budget_s: seconds for each cell in which schedules are explored.
        trials: how many natural trials of each hazard that comes by chance; 0 for none.
        hazards: ids; by default the whole catalogue.
        progress: called with a line of text after each hazard.

    Raises:
        ArgumentError: there is no such hazard, or no pool.
    """
    chosen = list(CATALOGUE) if hazards is None else list(hazards)
    unknown = [name for name in chosen if name not in CATALOGUE]
    if unknown:
        raise ArgumentError(f'There is no hazard "{unknown[0]}"; there are {", ".join(CATALOGUE)}.')
    against = list(POOLS) if pools is None else list(pools)
    if not against or not chosen:
        raise ArgumentError(f"{len(against)} pools and {len(chosen)} hazards make no matrix; name 1 or more of each.")
    return run([CATALOGUE[name] for name in chosen], against, budget_s, trials, progress)
