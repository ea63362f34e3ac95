"""Cross-entropy for programs in PyTorch, on the CPU: one changed import from `torch.nn.functional` or `torch.nn`.

`cross_entropy` and `linear_cross_entropy` have the signatures, semantics and errors of PyTorch 2.13, and are
differentiable. In some cases they hand all arguments to PyTorch's own function of the same name: for tensors on another
device or of another dtype, for so few numbers that PyTorch is faster, for second derivatives, for transforms of
`torch.func`, and for invalid arguments, so that PyTorch raises its own error.

A call runs on the smaller of `torch.get_num_threads()` and softmax_ext's own number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional

from ._autograd import functions
from ._core import dispatch

__all__ = ["CrossEntropyLoss", "LinearCrossEntropyLoss", "cross_entropy", "linear_cross_entropy"]

WIDE = torch.float32, torch.float64
NARROW = torch.float16, torch.bfloat16  # computed in float32
TENSORS = {torch.Tensor, nn.Parameter}  # other subclasses may override what PyTorch computes with them

# Below these sizes PyTorch is faster, since our calls and checks take some time of their own. PyTorch takes as long for
# a row as for ROW scores, so rows x (classes + ROW) is compared with FEW. FEW_FLOPS counts the operations of the linear
# layer's scores. (docs/notes.md, "From which sizes on losses are computed here")
FEW, ROW = 1 << 19, 330
FEW_FLOPS = 1 << 24


def cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the cross-entropy of scores, as `torch.nn.functional.cross_entropy` does.

    Parameters
    ----------
    input : Tensor, shape (K,), (N, K) or (N, K, d1, ...)
        Scores. float32, float64, float16 and bfloat16 on the CPU are computed here, the last two in float32. They are
        read in place if the tensor or its axis of classes is contiguous; other strides do not matter, and may be 0.
    target : Tensor
        Labels in 0..K-1, int64, of input's shape without K; or probabilities of input's shape and dtype.
    weight : Tensor, shape (K,), optional
        Weights of the classes.
    size_average, reduce : bool, optional
        PyTorch's deprecated names of reductions, with which its own function is called.
    ignore_index : int, default -100
        Rows with this label do not contribute.
    reduction : "mean", "sum" or "none"
        How the rows' losses are reduced. With labels the mean is Σ loss / Σ w_label over the rows that are not ignored.
    label_smoothing : float in [0, 1]
        ε of the targets (1 - ε) Y + ε / K.

    Returns
    -------
    Tensor
        The loss, of input's dtype, or float32 for scores of two bytes under `torch.autocast`: a number, or for "none"
        one for each row.

    Raises
    ------
    IndexError
        If a label is neither in 0..K-1 nor ignore_index.
    RuntimeError, ValueError, TypeError
        Where PyTorch's own function raises them.

    Notes
    -----
    Forward reads the scores once, and keeps a reference to them instead of a copy. Backward reads them again and writes
    their gradient. So scores must not be changed in place before backward, which PyTorch's own function allows.

    Examples
    --------
    >>> import torch
    >>> from softmax_ext.torch import cross_entropy
    >>> scores = torch.zeros(4096, 10, requires_grad=True)
    >>> loss = cross_entropy(scores, torch.arange(4096) % 10)
    >>> loss.backward()
    >>> print(f"{loss:.4f}", scores.grad.shape)
    2.3026 torch.Size([4096, 10])
    """
    if (
        size_average is not None
        or reduce is not None
        or not _ours((input, target), (weight,), ignore_index, reduction, label_smoothing)
        or not _fit(input.shape, min(input.dim() - 1, 1), input.dtype, target, weight, ignore_index)
        or _few(input, min(input.dim() - 1, 1))
    ):
        return functional.cross_entropy(
            input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing
        )
    loss: torch.Tensor = functions.cross_entropy(
        input, target, weight, reduction, ignore_index, label_smoothing, _result(input.dtype)
    )
    return loss


def linear_cross_entropy(
    input: torch.Tensor,
    linear_weight: torch.Tensor,
    target: torch.Tensor,
    *,
    linear_bias: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> torch.Tensor:
    """Return the cross-entropy of a linear layer's scores, as `torch.nn.functional.linear_cross_entropy` does.

    The N x K scores are never stored, neither in forward nor in backward: only a tile of them exists at a time.

    Parameters
    ----------
    input : Tensor, shape (D,) or (N, D)
        Samples. float32, float64, float16 and bfloat16 on the CPU are computed here, the last two in float32.
    linear_weight : Tensor, shape (K, D)
        W, of input's dtype. PyTorch's own function takes shape (K, d1, ..., D).
    target : Tensor
        Labels in 0..K-1, int64, of input's shape without D; or probabilities of shape (K,) or (N, K).
    linear_bias : Tensor, shape (K,), optional
        Bias of the classes.
    weight : Tensor, shape (K,), optional
        Weights of the classes.
    reduction, label_smoothing
        As in `cross_entropy`.
    ignore_index : int, optional
        Rows with this label do not contribute; by default -100. It must not be given with probabilities.
    options : torch.nn.LinearCrossEntropyOptions, optional
        How PyTorch's own function cuts the batch, where that is called. It has no effect on what is computed here.

    Returns
    -------
    Tensor
        The loss, of input's dtype, or float32 for numbers of two bytes under `torch.autocast`: a number, or for "none"
        one for each row.

    Raises
    ------
    IndexError
        If a label is neither in 0..K-1 nor ignore_index.
    RuntimeError, ValueError, TypeError
        Where PyTorch's own function raises them.

    Notes
    -----
    With "mean" and "sum" the gradients of all tensors that require one are computed together with the loss, and
    backward multiplies them by the upstream gradient. With "none" backward computes them, for which it computes the
    scores a second time. Under `torch.autocast` nothing is rounded to bfloat16, whereas PyTorch's own function rounds
    the scores.

    Examples
    --------
    >>> import torch
    >>> from softmax_ext.torch import linear_cross_entropy
    >>> x, W = torch.ones(1000, 64), torch.zeros(500, 64, requires_grad=True)
    >>> loss = linear_cross_entropy(x, W, torch.arange(1000) % 500)
    >>> loss.backward()
    >>> print(f"{loss:.4f}", W.grad.shape)
    6.2146 torch.Size([500, 64])
    """
    known = -100 if ignore_index is None else ignore_index
    if (
        not _ours((input, target, linear_weight), (weight, linear_bias), known, reduction, label_smoothing)
        or not 1 <= input.dim() <= 2
        or linear_weight.dim() != 2
        or input.shape[-1] != linear_weight.shape[1]
        or not _alike(input.dtype, linear_weight.dtype)
        or (linear_bias is not None and not _alike(input.dtype, linear_bias.dtype))
        or (linear_bias is not None and linear_bias.shape != linear_weight.shape[:1])
        or not _fit((*input.shape[:-1], linear_weight.shape[0]), input.dim() - 1, input.dtype, target, weight, known)
        or (ignore_index is not None and target.is_floating_point())
        or 2 * input.numel() * linear_weight.shape[0] < FEW_FLOPS
    ):
        return functional.linear_cross_entropy(
            input, linear_weight, target, linear_bias=linear_bias, weight=weight, reduction=reduction,
            ignore_index=ignore_index, label_smoothing=label_smoothing, options=options,
        )  # fmt: skip
    asked = [torch.is_grad_enabled() and x is not None and x.requires_grad for x in (input, linear_weight, linear_bias)]
    loss: torch.Tensor = functions.linear_cross_entropy(
        input, linear_weight, target, linear_bias, weight, reduction, known, label_smoothing, _result(input.dtype),
        *([False] * 3 if reduction == "none" else asked),
    )[0]  # fmt: skip
    return loss


class CrossEntropyLoss(nn.CrossEntropyLoss):  # type: ignore[misc]
    """`torch.nn.CrossEntropyLoss`, computed by `cross_entropy`.

    Parameters, attributes and state are those of PyTorch's class.

    Examples
    --------
    >>> import torch
    >>> from softmax_ext.torch import CrossEntropyLoss
    >>> loss = CrossEntropyLoss(label_smoothing=0.1)
    >>> print(f"{loss(torch.zeros(4096, 10), torch.arange(4096) % 10):.4f}")
    2.3026
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of scores and targets."""
        return cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class LinearCrossEntropyLoss(nn.LinearCrossEntropyLoss):  # type: ignore[misc]
    """`torch.nn.LinearCrossEntropyLoss`, computed by `linear_cross_entropy`.

    Parameters, attributes and state are those of PyTorch's class.

    Examples
    --------
    >>> import torch
    >>> from softmax_ext.torch import LinearCrossEntropyLoss
    >>> head = LinearCrossEntropyLoss(64, 500, bias=True)
    >>> head(torch.ones(1000, 64), torch.arange(1000) % 500).backward()
    >>> head.linear.weight.grad.shape
    torch.Size([500, 64])
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of samples and targets."""
        W, b = self.linear.weight, self.linear.bias
        if self.out_features:
            W = W.reshape(self.num_classes, *self.out_features, -1)
            b = None if b is None else b.reshape(self.num_classes, *self.out_features)
        return linear_cross_entropy(
            input,
            W,
            target,
            linear_bias=b,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )


def _ours(needed: Any, optional: Any, ignore_index: Any, reduction: Any, label_smoothing: Any) -> bool:
    """Return whether the operators take each of these arguments; `_fit` tells whether they also fit together."""
    tensors = [*needed, *(x for x in optional if x is not None)]
    if dispatch.kernels is None or any(type(x) not in TENSORS for x in tensors):
        return False
    if any(x.device.type != "cpu" or x.layout is not torch.strided for x in tensors):
        return False
    # The operators compute no gradients of targets and class weights.
    without = [x for x in (needed[1], optional[0]) if x is not None]
    if needed[0].dtype not in WIDE + NARROW or (torch.is_grad_enabled() and any(x.requires_grad for x in without)):
        return False
    return (
        reduction in ("mean", "sum", "none")
        and type(ignore_index) is int
        and type(label_smoothing) in (float, int)
        and 0 <= label_smoothing <= 1
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and not torch.jit.is_tracing()
    )


def _fit(shape: Any, axis: int, dtype: torch.dtype, target: Any, weight: Any, ignore_index: int) -> bool:
    """Return whether target and class weights fit scores of this shape and dtype, whose classes lie along axis."""
    if axis < 0 or math.prod(shape) == 0:
        return False
    if weight is not None and not (_alike(dtype, weight.dtype) and weight.shape == shape[axis : axis + 1]):
        return False
    if target.shape == tuple(shape):
        return target.is_floating_point() and _alike(dtype, target.dtype) and ignore_index < 0
    return target.dtype is torch.int64 and target.shape == (*shape[:axis], *shape[axis + 1 :])


def _alike(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Return whether PyTorch takes both dtypes in one call: autocast casts all but float64 to the same one."""
    if dtype is other:
        return True
    narrow = other in NARROW or other is torch.float32
    return narrow and dtype is not torch.float64 and torch.is_autocast_enabled("cpu")


def _result(dtype: torch.dtype) -> torch.dtype:
    """Return the loss's dtype."""
    return torch.float32 if dtype in NARROW and torch.is_autocast_enabled("cpu") else dtype


def _few(scores: torch.Tensor, axis: int) -> bool:
    """Return whether there are so few scores that PyTorch is faster."""
    K = scores.shape[axis]
    return bool(scores.numel() // K * (K + ROW) < FEW)
