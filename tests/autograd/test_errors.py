"""Messages: the operation, the shapes, what must hold, the fix."""

import re

import pytest

import dynarl
from tests.helpers.engine import ENGINE

F32 = r".*\(3, 4\).*\(8, 64\).*"
# Source, kind of error, pattern
TABLE = [
    ("t.ones(3, 4) @ t.ones(8, 64)", (RuntimeError, ValueError), "^matmul: inner dimensions differ.*" + F32),
    ("t.ones(3, 4) + t.ones(8, 64)", (RuntimeError, ValueError), "^add: " + F32),
    ("t.ones(3, 4) * t.ones(8, 64)", (RuntimeError, ValueError), "^mul: " + F32),
    ("t.where(t.ones(3, 4) > 0, t.ones(8, 64), 0.0)", (RuntimeError, ValueError), "^where: " + F32),
    ("t.cat([t.ones(3, 4), t.ones(8, 64)])", (RuntimeError, ValueError), "^cat: " + F32),
    ("t.stack([t.ones(3, 4), t.ones(8, 64)])", (RuntimeError, ValueError), "^stack: " + F32),
    ("t.cat([])", (RuntimeError, ValueError), "^cat: .*(at least one|empty|nothing)"),
    ("t.ones(3, 4).mm(t.ones(8, 64))", (RuntimeError, ValueError), "^(mm|matmul): " + F32),
    ("t.bmm(t.ones(3, 4), t.ones(4, 2))", (RuntimeError, ValueError), r"^bmm: .*3.*\(3, 4\).*\(4, 2\)"),
    ("t.dot(t.ones(3), t.ones(4))", (RuntimeError, ValueError), r"^(dot|matmul): .*\(3,\).*\(4,\)"),
    ("t.tensor(1.0) @ t.ones(3)", (RuntimeError, ValueError), r"^matmul: .*\(\)"),
    ("F.linear(t.ones(3, 4), t.ones(8, 64))", (RuntimeError, ValueError), "^linear: " + F32),
    ("t.einsum('ij,jk->ik', t.ones(3, 4), t.ones(8, 64))", (RuntimeError, ValueError), "^einsum: " + F32),
    ("t.ones(3, 4).reshape(5, 2)", (RuntimeError, ValueError), r"^reshape: .*\(5, ?2\).*\(3, 4\)"),
    ("t.ones(3, 4).reshape(-1, -1)", (RuntimeError, ValueError), r"^reshape: .*one unknown.*\(3, 4\)"),
    ("t.ones(3, 4).expand(5, 4)", (RuntimeError, ValueError), r"^expand: .*\(3, 4\).*\(5, 4\)"),
    ("t.ones(3, 4).sum(2)", IndexError, r"dim: expected -2 to 1 for shape \(3, 4\), got 2"),
    ("t.ones(3, 4).softmax(5)", IndexError, r"^softmax: .*5.*\(3, 4\)"),
    ("t.ones(3, 4).unsqueeze(4)", IndexError, r"^unsqueeze: dim must be in \[-3, 2\], got 4"),
    ("t.ones(3, 4).transpose(0, 3)", IndexError, r"^transpose: .*\(3, 4\), got 3"),
    ("t.ones(3, 4).permute(0, 0)", (RuntimeError, ValueError), r"^permute: .*\(0, 0\)"),
    ("t.ones(3, 4).permute(0)", (RuntimeError, ValueError), r"^permute: .*each of 2.*\(0,\)"),
    ("t.ones(3, 4).split([1, 1])", (RuntimeError, ValueError), r"^split: .*sum to 3.*\[1, 1\]"),
    ("t.ones(3, 4)[5]", IndexError, r"5.*3"),
    ("t.ones(3, 4)[t.tensor([0, 7])]", IndexError, r"7.*3"),
    ("t.ones(3, 4)[0, 0, 0]", IndexError, r"3.*\(3, 4\)|too many"),
    ("t.ones(3, 4)[t.tensor([True, False])]", IndexError, r"\(2,\).*\(3, 4\)|boolean.*2.*3|3.*2"),
    ("t.ones(3, 4)[t.tensor([0.5])]", (IndexError, TypeError), "integer.*bool.*float32"),
    ("t.ones(3, 4).gather(1, t.tensor([0, 1]))", (RuntimeError, ValueError), r"^gather: .*dim.*\(2,\).*\(3, 4\)"),
    ("t.ones(3, 4).gather(1, t.tensor([[9]]))", (RuntimeError, IndexError), r"^gather: .*\[0, 4\).*9"),
    ("t.ones(3, 4).gather(1, t.ones(1, 1))", (RuntimeError, TypeError), r"^gather: .*integer.*float32"),
    ("F.one_hot(t.tensor([5]), 3)", (RuntimeError, ValueError), r"^one_hot: .*\[0, 3\), got 5"),
    ("F.one_hot(t.tensor([0.5]), 3)", (RuntimeError, TypeError), r"^one_hot: .*integers, got float32"),
    ("t.ones(3, 4).masked_fill(t.ones(3, 4), 0.0)", (RuntimeError, TypeError), r"^masked_fill: .*bool.*float32"),
    ("t.where(t.ones(3, 4), 1.0, 0.0)", (RuntimeError, TypeError), r"^where: .*bool.*float32"),
    ("t.ones(3, 4).topk(9)", (RuntimeError, ValueError), r"^topk: .*9.*4"),
    ("t.ones(0, 4).max()", (RuntimeError, ValueError, IndexError), r"^amax: .*\(0, 4\)"),
    ("t.ones(0, 4).argmax()", (RuntimeError, ValueError, IndexError), r"^argmax: .*(empty|\(0, 4\))"),
    ("t.ones(3, 4).clamp()", (RuntimeError, ValueError), "^clamp: .*(min|max)"),
    ("t.ones(3) + 'a'", TypeError, "str"),
    ("t.exp([1.0])", TypeError, r"Tensor.*list.*tensor\("),
    ("t.ones(3) + [1, 2, 3]", TypeError, "list"),
    ("t.ones(-1)", (RuntimeError, ValueError), "-1|negative"),
    ("t.arange(0, 5, 0)", (RuntimeError, ValueError, ZeroDivisionError), "^arange: .*step"),
    ("t.arange(0, 5, -1)", (RuntimeError, ValueError), "^arange: .*step.*-1|^arange: .*-1"),
    ("t.ones(3, dtype='float99')", TypeError, "float99"),
    ("t.ones(3).squeeze(4)", IndexError, "^squeeze: .*4"),
    ("t.ones(2, 3).t().numpy().no_such", AttributeError, "no_such"),
    ("t.ones(2, 3, 4).t()", (RuntimeError, ValueError), r"^t: .*2.*\(2, 3, 4\)"),
    ("t.no_such_function", AttributeError, "no_such_function"),
    ("t.ones(2).no_such_method()", AttributeError, "no_such_method"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "kind", "pattern"), TABLE, ids=[row[0] for row in TABLE])
def test_message(source, kind, pattern):
    with pytest.raises(kind) as error:
        eval(source, {"t": dynarl, "F": ENGINE})
    assert re.search(pattern, str(error.value)), str(error.value)


def test_operand_of_unknown_origin_is_named_by_its_line():
    """The shape that is wrong was made elsewhere: the message says where."""
    x = dynarl.ones(3, 4, requires_grad=True)
    h = x.tanh()
    with pytest.raises((RuntimeError, ValueError), match=r"tanh.*test_errors\.py:\d+"):
        h @ dynarl.ones(8, 64)
