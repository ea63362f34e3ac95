"""Cross-entropy for programs in PyTorch, on the CPU: one changed import from `torch.nn.functional` or `torch.nn`.

`cross_entropy` and `linear_cross_entropy` have the signatures, semantics and errors of PyTorch 2.13, and are
differentiable. What they do not compute here is done by PyTorch's own function of the same name, to which all
arguments are handed: tensors on another device, of another dtype, or too few to pay; second derivatives; transforms
of `torch.func`; and whatever is wrong, for which it raises.

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
TENSORS = {torch.Tensor, nn.Parameter}  # a subclass may compute as it likes

# Less than this is sooner done by PyTorch. Our calls and checks take 120 us both ways, and PyTorch takes as long for a
# row as for 330 scores: 1024 x 10 take 136 us here and 108 there, 4096 x 10 172 and 344, 256 x 1000 199 and 148 (two
# cores of an AMD EPYC, Zen 4).
FEW, ROW = 1 << 19, 330
# Operations of the linear one's scores: 256 x 128 x 100, 2**22.6, take 246 us here and 201 there, and 256 x 256 x 1000,
# 2**27, 2.7 ms and 5.4.
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
    """Cross-entropy of scores, as `torch.nn.functional.cross_entropy`.

    Parameters
    ----------
    input : Tensor, shape (K,), (N, K) or (N, K, d1, ...)
        Scores. float32, float64, float16 and bfloat16 on the CPU are computed here, the last two in float32. They are
        read in place if they or their classes are contiguous, whatever the other strides, which may be 0.
    target : Tensor
        Labels in 0..K-1, int64, of input's shape without its K; or probabilities of input's shape and dtype.
    weight : Tensor, shape (K,), optional
        Weights of the classes.
    size_average, reduce : bool, optional
        PyTorch's deprecated names of reductions; its own function takes them.
    ignore_index : int, default -100
        Rows of this label count for nothing.
    reduction : "mean", "sum" or "none"
        The mean with labels is Σ loss / Σ w_label over the rows that are not ignored.
    label_smoothing : float in [0, 1]
        ε of the targets (1 - ε) Y + ε / K.

    Returns
    -------
    Tensor
        Of input's dtype; float32 for scores of two bytes under `torch.autocast`.

    Raises
    ------
    IndexError
        A label is neither in 0..K-1 nor ignore_index.
    RuntimeError, ValueError, TypeError
        As PyTorch's own function, which raises them.

    Notes
    -----
    Forward reads the scores once and saves them, not a copy; backward reads them again and writes their gradient.
    So scores must not be changed in place before backward, which PyTorch's own function allows.

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
    """Cross-entropy of a linear layer's scores, as `torch.nn.functional.linear_cross_entropy`.

    The N x K scores are never stored, forward or backward: of them a tile exists at a time.

    Parameters
    ----------
    input : Tensor, shape (D,) or (N, D)
        Samples. float32, float64, float16 and bfloat16 on the CPU are computed here, the last two in float32.
    linear_weight : Tensor, shape (K, D)
        W, of input's dtype. PyTorch's own function takes shape (K, d1, ..., D).
    target : Tensor
        Labels in 0..K-1, int64, of input's shape without its D; or probabilities of shape (K,) or (N, K).
    linear_bias : Tensor, shape (K,), optional
        Bias of the classes.
    weight : Tensor, shape (K,), optional
        Weights of the classes.
    reduction, label_smoothing
        As in `cross_entropy`.
    ignore_index : int, optional
        Rows of this label count for nothing; -100 if it is not given. Not with probabilities.
    options : torch.nn.LinearCrossEntropyOptions, optional
        How PyTorch's own function is to cut the batch, where it computes. Here it changes nothing.

    Returns
    -------
    Tensor
        Of input's dtype; float32 for numbers of two bytes under `torch.autocast`.

    Raises
    ------
    IndexError
        A label is neither in 0..K-1 nor ignore_index.
    RuntimeError, ValueError, TypeError
        As PyTorch's own function, which raises them.

    Notes
    -----
    With "mean" and "sum" the gradients that will be asked for are computed together with the loss, and backward
    multiplies them by its upstream gradient. With "none" backward computes them, and the scores a second time.
    Under `torch.autocast` nothing is rounded to bfloat16: PyTorch's own function rounds the scores.

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
    """`torch.nn.CrossEntropyLoss` by `cross_entropy`.

    Its parameters, attributes and state are those of PyTorch's.

    Examples
    --------
    >>> import torch
    >>> from softmax_ext.torch import CrossEntropyLoss
    >>> loss = CrossEntropyLoss(label_smoothing=0.1)
    >>> print(f"{loss(torch.zeros(4096, 10), torch.arange(4096) % 10):.4f}")
    2.3026
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss of scores and targets."""
        return cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class LinearCrossEntropyLoss(nn.LinearCrossEntropyLoss):  # type: ignore[misc]
    """`torch.nn.LinearCrossEntropyLoss` by `linear_cross_entropy`.

    Its parameters, attributes and state are those of PyTorch's.

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
        """Compute the loss of samples and targets."""
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
    """Tell whether the operators take these, each for itself; whether they fit together is asked by `_fit`."""
    tensors = [*needed, *(x for x in optional if x is not None)]
    if dispatch.kernels is None or any(type(x) not in TENSORS for x in tensors):
        return False
    if any(x.device.type != "cpu" or x.layout is not torch.strided for x in tensors):
        return False
    # Of targets and class weights no gradient is made here.
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
    """Tell whether target and class weights fit scores of this shape, with their classes along axis, and this dtype."""
    if axis < 0 or math.prod(shape) == 0:
        return False
    if weight is not None and not (_alike(dtype, weight.dtype) and weight.shape == shape[axis : axis + 1]):
        return False
    if target.shape == tuple(shape):
        return target.is_floating_point() and _alike(dtype, target.dtype) and ignore_index < 0
    return target.dtype is torch.int64 and target.shape == (*shape[:axis], *shape[axis + 1 :])


def _alike(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Tell whether PyTorch takes both in one call: under autocast all but float64 are cast to one."""
    if dtype is other:
        return True
    narrow = other in NARROW or other is torch.float32
    return narrow and dtype is not torch.float64 and torch.is_autocast_enabled("cpu")


def _result(dtype: torch.dtype) -> torch.dtype:
    """Return the loss's dtype."""
    return torch.float32 if dtype in NARROW and torch.is_autocast_enabled("cpu") else dtype


def _few(scores: torch.Tensor, axis: int) -> bool:
    """Tell whether there are too few scores to pay."""
    K = scores.shape[axis]
    return bool(scores.numel() // K * (K + ROW) < FEW)
