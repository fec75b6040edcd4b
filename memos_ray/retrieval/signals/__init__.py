"""The signals that a candidate is ranked by: one file per idea, pure functions from a `Pool` to named arrays.

Every array is (n,) float32 over the candidates. What each is worth on LoCoMo is in docs/retrieval.md, from the command
`memos-ray bench ablation`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float32]
Signals = Mapping[str, Signal]
