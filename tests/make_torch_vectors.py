"""Write torch_vectors.npz: what PyTorch returns for the cases of three modules of tests.

To be run where PyTorch is installed, after a change of the cases: python tests/make_torch_vectors.py
"""

import numpy as np
import test_linear_cross_entropy as linear
import test_losses
import test_optim


def flat(results):
    return np.concatenate([np.ravel(part) for result in results for part in result])


if __name__ == "__main__":
    vectors = {
        "finite": flat(test_losses.torchs(*test_losses.problem(case)) for case in test_losses.CASES).astype(np.float32),
        "spoilt": flat(test_losses.torchs(*problem) for problem in test_losses.SPOILT_PROBLEMS.values()),
        "linear": flat(linear.torchs(*linear.problem(case)) for case in linear.TORCHS).astype(np.float32),
    }
    for name in test_optim.TORCHS:
        for dtype in ("float32", "float64"):
            vectors[f"{name} {dtype}"] = test_optim.torchs(name, dtype)
    np.savez_compressed(test_losses.VECTORS, **vectors)
    print(f"{len(vectors)} arrays, {test_losses.VECTORS.stat().st_size} bytes")
