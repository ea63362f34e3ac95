"""The operators behind `softmax_ext.torch`, which hand checked tensors to the kernels, and their derivatives.

Each loss is one operator and its vector-Jacobian product (v.j.p.) is another, so that PyTorch's tracing sees only these
two. For second derivatives and for batches of gradients, backward differentiates PyTorch's own function instead.

Where the gradients are computed was decided by measurements (docs/notes.md, "Gradients in forward or in backward").
Those of scores are computed in backward, from the scores and the upstream gradient: to store them in forward and
multiply them later would take longer, and as much memory again. Those of a linear layer are computed in forward,
together with the loss, since backward would have to compute the scores a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from .._core import threads
from . import vjp

# Arguments of the operators, in the language of PyTorch's schemas.
LOSS = "str reduction, int ignore_index, float label_smoothing"
SCORES = f"Tensor input, Tensor target, Tensor? weight, {LOSS}"
LINEAR = f"Tensor input, Tensor linear_weight, Tensor target, Tensor? linear_bias, Tensor? weight, {LOSS}"
ASKED = "bool input_grad, bool weight_grad, bool bias_grad"

WIDENED = 1 << 20  # how many scores of two bytes are copied to float32 at a time: the copy has 4 MiB


def _n_threads() -> int:
    return min(int(torch.get_num_threads()), threads.effective())


# ---- tensors and arrays


def _computed(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that tensors of this dtype are computed in."""
    return dtype if dtype is torch.float64 else torch.float32


def _array(x: torch.Tensor, dtype: torch.dtype) -> npt.NDArray[Any]:
    """Return the tensor's own memory as an array, or a copy where it has another dtype."""
    array: npt.NDArray[Any] = x.detach().to(dtype).resolve_neg().numpy()
    return array


def _targets(
    target: torch.Tensor, weight: torch.Tensor | None, K: int, ignore_index: int, smoothing: float, dtype: torch.dtype
) -> vjp.Targets:
    """Return the targets of rows of K scores, with a checked copy of the labels."""
    c = None if weight is None else _array(weight.contiguous(), dtype)
    if target.dtype is not torch.int64:
        return vjp.Targets(target.numel() // K, None, None, c, smoothing)
    y, kept = vjp.labels(target.detach().numpy(), K, ignore_index)
    return vjp.Targets(y.size, y, kept, c, smoothing)


def _upstream(grad: torch.Tensor, targets: vjp.Targets, reduction: str) -> Any:
    """Return the upstream gradient of the rows' losses: an array, or one number that all rows share."""
    if reduction == "none":
        return _array(grad.reshape(-1).contiguous(), torch.float64)
    with np.errstate(all="ignore"):
        return grad.item() / np.float64(targets.mean_over() if reduction == "mean" else 1.0)


def _reduced(losses: npt.NDArray[np.float64], targets: vjp.Targets, reduction: str, like: torch.Tensor) -> torch.Tensor:
    """Return the rows' losses, their sum or their mean, with the dtype and shape of `like`."""
    if reduction == "none":
        return torch.from_numpy(losses).to(like.dtype).reshape(like.shape)
    with np.errstate(all="ignore"):
        total = losses.sum() / (targets.mean_over() if reduction == "mean" else 1.0)
    return torch.tensor(total, dtype=like.dtype)


def _new(like: torch.Tensor) -> torch.Tensor:
    """Return an uninitialised tensor as `torch.empty_like` does, in memory that NumPy allocates.

    NumPy asks the system for large pages, and PyTorch does so only if THP_MEM_ALLOC_ENABLE is set. With small pages a
    large gradient takes three times as long (docs/notes.md, "Memory of large gradients").
    """
    form = torch.empty_like(like, device="meta")
    memory = torch.from_numpy(np.empty(form.numel() * form.itemsize, np.uint8)).view(form.dtype)
    return memory.as_strided(form.shape, form.stride())


def _blocks(input: torch.Tensor, target: torch.Tensor, out: Any) -> Iterator[vjp.Block]:
    """Yield scores as arrays of float32 or float64: all in place, or copies of some at a time if of two bytes."""
    Z: Any = input.detach()
    Y: Any = None if target.dtype is torch.int64 else target.detach()
    if Z.dim() == 1:
        Z, Y, out = (None if x is None else x.unsqueeze(0) for x in (Z, Y, out))
    dtype, axis = _computed(Z.dtype), 1
    # The kernels need either the classes or the axes behind them to be contiguous. Other dense layouts become one of
    # these two when their axes are exchanged.
    if Z.stride(1) == 1 and Z.dim() > 2:
        axis = Z.dim() - 1
        Z, Y, out = (None if x is None else x.movedim(1, -1) for x in (Z, Y, out))
    elif Z.dim() == 2 and Z.stride(0) == 1 != Z.stride(1):
        Z, Y, out = (None if x is None else x.t().unsqueeze(0) for x in (Z, Y, out))
    if Z.dtype is dtype:
        y = None if Y is None else _array(Y, dtype)
        yield vjp.Block(slice(None), _array(Z, dtype), axis, y, None if out is None else out.numpy())
        return
    per_row = Z.numel() // Z.shape[0]
    inner, count = per_row // Z.shape[axis], max(1, WIDENED // per_row)
    for i in range(0, Z.shape[0], count):
        some = slice(i, i + count)
        z = Z[some].to(dtype)
        y = None if Y is None else _array(Y[some], dtype)
        yield vjp.Block(slice(i * inner, (i + count) * inner), z.numpy(), axis, y, None if out is None else z.numpy())
        if out is not None:
            out[some] = z


# ---- cross-entropy of scores


def _loss_form(input: torch.Tensor, target: torch.Tensor, reduction: str, dtype: torch.dtype) -> torch.Tensor:
    """Return an empty tensor with the loss's shape and dtype."""
    shape = target.shape
    if target.dtype is not torch.int64:
        axis = min(target.dim() - 1, 1)
        shape = (*shape[:axis], *shape[axis + 1 :])
    return input.new_empty(shape if reduction == "none" else (), dtype=dtype)


def _cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return the loss, in this dtype."""
    K = input.shape[min(input.dim() - 1, 1)]
    targets = _targets(target, weight, K, ignore_index, label_smoothing, _computed(input.dtype))
    losses = np.empty(targets.rows)
    vjp.of_scores(_blocks(input, target, None), targets, 1.0, losses, _n_threads())
    return _reduced(losses, targets, reduction, _loss_form(input, target, reduction, dtype))


def _cross_entropy_vjp(
    grad: torch.Tensor,
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> torch.Tensor:
    """Return the gradient of the loss with respect to the scores, times the upstream gradient `grad`."""
    K = input.shape[min(input.dim() - 1, 1)]
    targets = _targets(target, weight, K, ignore_index, label_smoothing, _computed(input.dtype))
    result = _new(input)
    vjp.of_scores(_blocks(input, target, result), targets, _upstream(grad, targets, reduction), None, _n_threads())
    return result


def _save_scores(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.reduction, ctx.ignore_index, ctx.label_smoothing, ctx.dtype = inputs
    ctx.save_for_backward(*tensors)


def _scores_backward(ctx: Any, grad: torch.Tensor) -> Any:
    input, target, weight = ctx.saved_tensors
    options = ctx.reduction, ctx.ignore_index, ctx.label_smoothing
    if _differentiable():
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            loss = functional.cross_entropy(
                input.to(ctx.dtype), target.to(ctx.dtype) if target.is_floating_point() else target,
                None if weight is None else weight.to(ctx.dtype), reduction=options[0], ignore_index=options[1],
                label_smoothing=options[2],
            )  # fmt: skip
        (result,) = torch.autograd.grad(loss, input, grad, create_graph=torch.is_grad_enabled())
    else:
        result = cross_entropy_vjp(grad, input, target, weight, *options)
    return result, *[None] * 6


def _differentiable() -> bool:
    """Return whether backward itself is to be differentiated or vectorised."""
    return bool(torch.is_grad_enabled() or torch._C._are_functorch_transforms_active())


cross_entropy = torch.library.custom_op(
    "softmax_ext::cross_entropy", _cross_entropy, mutates_args=(), schema=f"({SCORES}, ScalarType dtype) -> Tensor"
)
cross_entropy_vjp = torch.library.custom_op(
    "softmax_ext::cross_entropy_vjp", _cross_entropy_vjp, mutates_args=(), schema=f"(Tensor grad, {SCORES}) -> Tensor"
)
cross_entropy.register_fake(
    lambda input, target, weight, reduction, ignore_index, label_smoothing, dtype: _loss_form(
        input, target, reduction, dtype
    )
)
cross_entropy_vjp.register_fake(lambda grad, input, *_: torch.empty_like(input))
cross_entropy.register_autograd(_scores_backward, setup_context=_save_scores)


# ---- cross-entropy of a linear layer's scores


def _linear_cross_entropy(
    input: torch.Tensor,
    linear_weight: torch.Tensor,
    target: torch.Tensor,
    linear_bias: torch.Tensor | None,
    weight: torch.Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    dtype: torch.dtype,
    input_grad: bool,
    weight_grad: bool,
    bias_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss, in this dtype, and the requested gradients, with empty tensors in the place of the others.

    The gradients keep the dtype that they are computed in. In float16 numbers below 6e-8 are 0, which is why training
    multiplies the loss by a scale: this factor arrives in backward, and must reach the gradients before they are
    rounded.
    """
    targets = _targets(target, weight, len(linear_weight), ignore_index, label_smoothing, _computed(input.dtype))
    losses = np.empty(targets.rows)
    with np.errstate(all="ignore"):
        upstream = 1 / np.float64(targets.mean_over() if reduction == "mean" else 1.0)
    asked = input_grad, weight_grad, bias_grad
    gradients = _gradients(input, linear_weight, target, linear_bias, targets, upstream, losses, asked)
    return _reduced(losses, targets, reduction, _linear_loss_form(input, reduction, dtype)), *gradients


def _linear_cross_entropy_vjp(
    grad: torch.Tensor,
    input: torch.Tensor,
    linear_weight: torch.Tensor,
    target: torch.Tensor,
    linear_bias: torch.Tensor | None,
    weight: torch.Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    input_grad: bool,
    weight_grad: bool,
    bias_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the requested gradients of the loss, times `grad`, in the dtypes of their tensors; others are empty."""
    targets = _targets(target, weight, len(linear_weight), ignore_index, label_smoothing, _computed(input.dtype))
    upstream, asked = _upstream(grad, targets, reduction), (input_grad, weight_grad, bias_grad)
    dX, dW, db = _gradients(input, linear_weight, target, linear_bias, targets, upstream, None, asked)
    return (
        dX.to(input.dtype),
        dW.to(linear_weight.dtype),
        db.to(linear_weight.dtype if linear_bias is None else linear_bias.dtype),
    )


def _gradients(
    input: torch.Tensor,
    linear_weight: torch.Tensor,
    target: torch.Tensor,
    linear_bias: torch.Tensor | None,
    targets: vjp.Targets,
    upstream: Any,
    losses: npt.NDArray[np.float64] | None,
    asked: tuple[bool, bool, bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Write the rows' losses, and return the gradients of input, linear_weight and linear_bias, before any rounding."""
    dtype, (K, D) = _computed(input.dtype), linear_weight.shape
    X, W = _array(input.reshape(-1, D), dtype), _array(linear_weight.contiguous(), dtype)
    b = None if linear_bias is None else _array(linear_bias.contiguous(), dtype)
    Y = None if target.dtype is torch.int64 else _array(target.reshape(-1, K), dtype)
    options: Any = {"losses": losses, "grad": asked[1] or asked[2], "grad_input": asked[0], "threads": _n_threads()}
    done = vjp.of_linear(X, W, b, Y, targets, upstream, **options)
    of = input, linear_weight, linear_weight if linear_bias is None else linear_bias
    given = zip((done.dX, done.dW, done.db), of, asked, strict=True)
    dX, dW, db = (torch.from_numpy(g).reshape(x.shape) if ask else torch.empty(0, dtype=dtype) for g, x, ask in given)
    return dX, dW, db


def _linear_loss_form(input: torch.Tensor, reduction: str, dtype: torch.dtype) -> torch.Tensor:
    return input.new_empty(input.shape[:-1] if reduction == "none" else (), dtype=dtype)


def _linear_fake(
    input: Any, linear_weight: Any, target: Any, linear_bias: Any, weight: Any, reduction: str, *options: Any
) -> Any:
    _, _, dtype, *asked = options
    gradients = _linear_vjp_fake(None, input, linear_weight, target, linear_bias, *asked)
    computed = _computed(input.dtype)
    return _linear_loss_form(input, reduction, dtype), *(x.new_empty(x.shape, dtype=computed) for x in gradients)


def _linear_vjp_fake(
    grad: Any, input: Any, linear_weight: Any, target: Any, linear_bias: Any, *options: Any
) -> tuple[Any, ...]:
    of = input, linear_weight, linear_weight if linear_bias is None else linear_bias
    return tuple(x.new_empty(x.shape if ask else 0) for x, ask in zip(of, options[-3:], strict=True))


def _save_linear(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.reduction, ctx.ignore_index, ctx.label_smoothing, ctx.dtype, _, _, _ = inputs
    gradients = output[1:]
    ctx.save_for_backward(*tensors, *gradients)
    ctx.mark_non_differentiable(*gradients)
    ctx.set_materialize_grads(False)  # else backward would get a tensor of zeros for each gradient that is returned


def _linear_backward(ctx: Any, grad: torch.Tensor | None, *_: Any) -> Any:
    input, linear_weight, target, linear_bias, weight, *gradients = ctx.saved_tensors
    options = ctx.reduction, ctx.ignore_index, ctx.label_smoothing
    asked = ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[3]
    results: list[torch.Tensor | None] = [None] * 3
    if grad is None:
        pass
    elif _differentiable():
        of = [x for x, ask in zip((input, linear_weight, linear_bias), asked, strict=True) if ask]
        probabilities = target.is_floating_point()
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            loss = functional.linear_cross_entropy(
                input.to(ctx.dtype), linear_weight.to(ctx.dtype), target.to(ctx.dtype) if probabilities else target,
                linear_bias=None if linear_bias is None else linear_bias.to(ctx.dtype),
                weight=None if weight is None else weight.to(ctx.dtype), reduction=options[0],
                ignore_index=None if probabilities else options[1], label_smoothing=options[2],
            )  # fmt: skip
        made = iter(torch.autograd.grad(loss, of, grad, create_graph=torch.is_grad_enabled()))
        results = [next(made) if ask else None for ask in asked]
    elif ctx.reduction == "none":
        made = linear_cross_entropy_vjp(grad, input, linear_weight, target, linear_bias, weight, *options, *asked)
        results = [x if ask else None for x, ask in zip(made, asked, strict=True)]
    else:
        given = zip(gradients, (input, linear_weight, linear_bias), asked, strict=True)
        results = [_multiplied(x, grad).to(of.dtype) if ask else None for x, of, ask in given]
    dX, dW, db = results
    return dX, dW, None, db, *[None] * 8


def _multiplied(gradient: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Return a saved gradient times the upstream gradient, which is a number.

    The product overwrites the saved gradient, which PyTorch releases right after this, unless retain_graph=True asks
    for it to be kept. While PyTorch traces, it must see plain arithmetic.
    """
    tracing = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or type(grad) is not torch.Tensor
    if tracing or torch._C._autograd._get_current_graph_task_keep_graph():
        return gradient * grad.to(gradient.dtype)
    return gradient if grad == 1 else gradient.mul_(grad)


linear_cross_entropy = torch.library.custom_op(
    "softmax_ext::linear_cross_entropy", _linear_cross_entropy, mutates_args=(),
    schema=f"({LINEAR}, ScalarType dtype, {ASKED}) -> (Tensor, Tensor, Tensor, Tensor)",
)  # fmt: skip
linear_cross_entropy_vjp = torch.library.custom_op(
    "softmax_ext::linear_cross_entropy_vjp", _linear_cross_entropy_vjp, mutates_args=(),
    schema=f"(Tensor grad, {LINEAR}, {ASKED}) -> (Tensor, Tensor, Tensor)",
)  # fmt: skip
linear_cross_entropy.register_fake(_linear_fake)
linear_cross_entropy_vjp.register_fake(_linear_vjp_fake)
linear_cross_entropy.register_autograd(_linear_backward, setup_context=_save_linear)
