"""Write torch_vectors.npz: PyTorch's losses and gradients for the cases of test_losses.py.

To be run where PyTorch is installed, after a change of the cases: python tests/make_torch_vectors.py
"""

import numpy as np
from test_losses import CASES, VECTORS, problem, torchs

if __name__ == "__main__":
    results = [torchs(*problem(case)) for case in CASES]
    flat = np.concatenate([np.ravel(part) for loss_and_gradient in results for part in loss_and_gradient])
    np.savez_compressed(VECTORS, flat=flat.astype(np.float32))
    print(f"{len(CASES)} cases, {VECTORS.stat().st_size} bytes")
