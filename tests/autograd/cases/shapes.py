"""Ops that move elements without changing them."""

import numpy as np

from tests.autograd.case import case, integers, normal

X, Y = normal(3, 4), normal(2, 3, 4)


def views(name, run, ref, *inputs):
    return case(name, run, *(inputs or (Y,)), ref=ref)


CASES = [
    views("reshape", lambda t, x: t.reshape(x, (4, 6)), lambda x: x.reshape(4, 6)),
    views("Tensor.reshape", lambda t, x: x.reshape(4, -1), lambda x: x.reshape(4, -1)),
    views("Tensor.reshape tuple", lambda t, x: x.reshape((-1,)), lambda x: x.ravel()),
    views("reshape of a transpose", lambda t, x: x.transpose(0, 2).reshape(-1), lambda x: x.swapaxes(0, 2).ravel()),
    views("reshape to 0-dim", lambda t, x: x.reshape(()), lambda x: x.reshape(()), normal(1, 1)),
    views("view", lambda t, x: x.view(6, 4), lambda x: x.reshape(6, 4)),
    views("view -1", lambda t, x: x.view(-1), lambda x: x.ravel()),
    views("view_as", lambda t, x, y: x.view_as(y), lambda x, y: x.reshape(4, 6), Y, integers(4, 6)),
    views("flatten", lambda t, x: t.flatten(x), lambda x: x.ravel()),
    views("flatten start", lambda t, x: t.flatten(x, 1), lambda x: x.reshape(2, 12)),
    views("Tensor.flatten", lambda t, x: x.flatten(0, 1), lambda x: x.reshape(6, 4)),
    views("flatten of 0-dim", lambda t, x: x.flatten(), lambda x: x.reshape(1), normal()),
    views("unflatten", lambda t, x: x.unflatten(1, (2, 2)), lambda x: x.reshape(3, 2, 2), X),
    views("ravel", lambda t, x: x.ravel(), np.ravel),
    views("unsqueeze", lambda t, x: t.unsqueeze(x, 0), lambda x: x[None]),
    views("Tensor.unsqueeze -1", lambda t, x: x.unsqueeze(-1), lambda x: x[..., None]),
    views("unsqueeze of 0-dim", lambda t, x: x.unsqueeze(0), lambda x: x[None], normal()),
    views("squeeze", lambda t, x: t.squeeze(x), np.squeeze, normal(1, 3, 1)),
    views("squeeze dim", lambda t, x: x.squeeze(-1), lambda x: x[..., 0], normal(1, 3, 1)),
    views("squeeze of a long dim does nothing", lambda t, x: x.squeeze(1), lambda x: x),
    views("squeeze dims", lambda t, x: x.squeeze((0, 2)), np.squeeze, normal(1, 3, 1)),
    views("transpose", lambda t, x: t.transpose(x, 0, 1), lambda x: x.swapaxes(0, 1)),
    views("Tensor.transpose", lambda t, x: x.transpose(-1, -2), lambda x: x.swapaxes(-1, -2)),
    views("swapaxes", lambda t, x: t.swapaxes(x, 0, 1), lambda x: x.swapaxes(0, 1)),
    views("t", lambda t, x: x.t(), np.transpose, X),
    views("T", lambda t, x: x.T, np.transpose, X),
    views("mT", lambda t, x: x.mT, lambda x: x.swapaxes(-1, -2)),
    views("permute", lambda t, x: t.permute(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    views("Tensor.permute", lambda t, x: x.permute(1, -1, 0), lambda x: x.transpose(1, 2, 0)),
    views("movedim", lambda t, x: t.movedim(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    views("movedim several", lambda t, x: x.movedim((0, 1), (1, 2)), lambda x: np.moveaxis(x, (0, 1), (1, 2))),
    views("expand", lambda t, x: x.expand(3, 4), lambda x: np.broadcast_to(x, (3, 4)), normal(3, 1)),
    views("expand -1", lambda t, x: x.expand(2, -1, 4), lambda x: np.broadcast_to(x, (2, 3, 4)), normal(3, 1)),
    views("expand of 0-dim", lambda t, x: x.expand(2, 3), lambda x: np.broadcast_to(x, (2, 3)), normal()),
    views("expand_as", lambda t, x, y: x.expand_as(y), lambda x, y: np.broadcast_to(x, (3, 4)), normal(4), X),
    views("broadcast_to", lambda t, x: t.broadcast_to(x, (2, 3, 4)), lambda x: np.broadcast_to(x, (2, 3, 4)), X),
    views("broadcast_tensors", lambda t, x, y: t.broadcast_tensors(x, y), np.broadcast_arrays, normal(3, 1), normal(4)),
    views("repeat", lambda t, x: x.repeat(2, 3), lambda x: np.tile(x, (2, 3)), X),
    views("repeat new dim", lambda t, x: x.repeat(2, 1, 2), lambda x: np.tile(x, (2, 1, 2)), X),
    views("tile", lambda t, x: t.tile(x, (2,)), lambda x: np.tile(x, 2), X),
    views("repeat_interleave", lambda t, x: t.repeat_interleave(x, 2, dim=0), lambda x: np.repeat(x, 2, 0), X),
    views("repeat_interleave flat", lambda t, x: x.repeat_interleave(3), lambda x: np.repeat(x, 3), X),
    views("unbind", lambda t, x: t.unbind(x), lambda x: list(x), X),
    views("Tensor.unbind", lambda t, x: x.unbind(dim=1), lambda x: list(x.T), X),
    views("one of unbind", lambda t, x: x.unbind(0)[1], lambda x: x[1], X),
    views("chunk", lambda t, x: t.chunk(x, 3, dim=1), lambda x: (x[:, :2], x[:, 2:4], x[:, 4:]), normal(2, 5)),
    views("Tensor.chunk", lambda t, x: x.chunk(2, -1), lambda x: np.split(x, 2, -1)),
    views("split", lambda t, x: t.split(x, 2), lambda x: (x[:2], x[2:]), X),
    views("split sizes", lambda t, x: x.split([1, 3], dim=-1), lambda x: (x[..., :1], x[..., 1:])),
    views("one of split", lambda t, x: t.split(x, 2, dim=1)[1], lambda x: x[:, 2:], X),
    views("stack", lambda t, x, y: t.stack([x, y]), lambda x, y: np.stack([x, y]), X, X),
    views("stack dim", lambda t, x, y: t.stack((x, y), dim=-1), lambda x, y: np.stack([x, y], -1), X, X),
    views("stack 0-dim", lambda t, x, y: t.stack([x, y]), lambda x, y: np.stack([x, y]), normal(), normal()),
    views("stack of one tensor twice", lambda t, x: t.stack([x, x * x]), lambda x: np.stack([x, x * x]), X),
    views("cat", lambda t, x, y: t.cat([x, y]), lambda x, y: np.concatenate([x, y]), X, normal(2, 4)),
    views("cat dim", lambda t, x, y: t.cat((x, y), dim=-1), lambda x, y: np.concatenate([x, y], -1), X, normal(3, 1)),
    views("cat int and float", lambda t, x, n: t.cat([x, n], 1), lambda x, n: np.concatenate([x, n], 1), X,
          integers(3, 2)),  # fmt: skip
    views("cat with an empty", lambda t, x, y: t.cat([x, y]), lambda x, y: x, X, normal(0, 4)),
    views("concat", lambda t, x, y: t.concat([x, y], 1), lambda x, y: np.concatenate([x, y], 1), X, X),
    views("hstack", lambda t, x, y: t.hstack([x, y]), lambda x, y: np.hstack([x, y]), X, normal(3, 2)),
    views("hstack 1-D", lambda t, x, y: t.hstack([x, y]), lambda x, y: np.hstack([x, y]), normal(3), normal(2)),
    views("vstack", lambda t, x, y: t.vstack([x, y]), lambda x, y: np.vstack([x, y]), normal(4), X),
    views("roll", lambda t, x: t.roll(x, 1), lambda x: np.roll(x, 1), X),
    views("roll dims", lambda t, x: x.roll((1, -1), dims=(0, 1)), lambda x: np.roll(x, (1, -1), (0, 1)), X),
    views("flip", lambda t, x: t.flip(x, (0,)), lambda x: x[::-1], X),
    views("Tensor.flip", lambda t, x: x.flip(0, -1), lambda x: x[::-1, :, ::-1]),
    views("meshgrid", lambda t, x, y: t.meshgrid(x, y, indexing="ij"), lambda x, y: np.meshgrid(x, y, indexing="ij"),
          normal(3), normal(2)),  # fmt: skip
    views("contiguous", lambda t, x: x.T.contiguous() * 2, lambda x: x.T * 2, X),
    views("clone", lambda t, x: x.clone(), np.copy, X),
    views("narrow", lambda t, x: x.narrow(1, 1, 2), lambda x: x[:, 1:3], X),
    views("select", lambda t, x: x.select(1, 2), lambda x: x[:, 2], X),
    views("view of a view", lambda t, x: x[1:].T.reshape(2, -1)[:, ::2] * 2, lambda x: (
        x[1:].T.reshape(2, -1)[:, ::2] * 2), X),  # fmt: skip
    case("sizes", lambda t, x: (x.size(0), x.size(-1), x.dim(), x.ndim, x.numel(), len(x)), Y, orders=None,
         ref=lambda x: (2, 4, 3, 3, 24, 2)),  # fmt: skip
    case("shape", lambda t, x: (tuple(x.shape), tuple(x.size())), Y, ref=lambda x: (2, 3, 4, 2, 3, 4), orders=None),
    case("tolist", lambda t, x: x.tolist(), integers(2, 3), ref=lambda x: x.tolist()),
    case("item", lambda t, x: (x.item(), float(x), int(x), bool(x)), [[2.0]], orders=None,
         ref=lambda x: (2.0, 2.0, 2, True)),  # fmt: skip
    case("iteration", lambda t, x: [row * 2 for row in x], X, ref=lambda x: list(2 * x)),
]
