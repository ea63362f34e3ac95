"""Write torch_vectors.npz: PyTorch's losses and gradients for the cases of two modules of tests.

To be run where PyTorch is installed, after a change of the cases: python tests/make_torch_vectors.py
"""

import numpy as np
import test_linear_cross_entropy as linear
from test_losses import CASES, VECTORS, problem, torchs


def flat(results):
    return np.concatenate([np.ravel(part) for result in results for part in result]).astype(np.float32)


if __name__ == "__main__":
    np.savez_compressed(
        VECTORS,
        flat=flat(torchs(*problem(case)) for case in CASES),
        linear=flat(linear.torchs(*linear.problem(case)) for case in linear.TORCHS),
    )
    print(f"{len(CASES)} and {len(linear.TORCHS)} cases, {VECTORS.stat().st_size} bytes")
