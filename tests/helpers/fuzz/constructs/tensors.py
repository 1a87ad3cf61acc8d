"""Tensors and arrays changed in place, gradient modes, and tensors as Python objects."""

from tests.helpers.fuzz.features import feature

_IN_PLACE = ("in place", "in-place", "assignment into a tensor")

feature(
    "array",
    "if <c>:\n    array += 1",
    "array[<i>] += 0.5",
    "if <c>:\n    array[<n> % 4] = <x>\n    row[0] = 0.25",
    "for <name1> in range(<k>):\n    array *= 0.5\n    if <c>:\n        array[<name1>] = 1.0\n        break",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    array[<name1>] += <name1>\n    <v> = <V>",
    "<v> = <v> + array",
    "<n> = int(array.argmax())",
    "if array.sum() > 1.013:\n    np.negative(array, out=array)",
    "if <c>:\n    array.sort()",
    "if <c>:\n    array = array[::-1].copy()",
    setup="array = np.array([0.5, 0.25, -0.125, 0.0625])\nrow = array[1:]",
    final="dynarl.tensor(array) * 0.1 + float(row.sum()) * 0.1",
)

feature(
    "plain_tensor",
    "if <c>:\n    plain += 1",
    "if <c>:\n    plain.mul_(0.5)",
    "for <name1> in range(<k>):\n    plain += 0.25\n    if <c>: break",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    plain.add_(0.5)\n    <v> = <V>",
    "<v> = <v> + plain",
    "if <c>:\n    total_of += <V>",
    "total_of += <v>",
    "if <c>:\n    other_plain = plain * 1.0",
    setup="plain = dynarl.zeros(4, dtype=dynarl.float64)\nother_plain = plain\n"
    "total_of = dynarl.zeros(4, dtype=dynarl.float64)",
    final="plain * 0.1 + other_plain * 0.2 + total_of * 0.5",
    refusals=_IN_PLACE,
)

feature(
    "plain_tensor_items",
    "if <c>:\n    cells[<i>] = <x>",
    "cells[<n> % 4] = 0.5",
    "<v> = <v> + cells",
    "if cells[<i>] > 0.1:\n    <v> = <V>",
    setup="cells = dynarl.zeros(4, dtype=dynarl.float64)",
    final="cells * 0.1",
    refusals=_IN_PLACE,
)

feature(
    "sample_tensor",
    "if <c>:\n    hidden += 1",
    "hidden += <V>",
    "if <c>:\n    hidden.mul_(0.5)\nelse:\n    hidden.sub_(<V>)",
    "for <name1> in range(<k>):\n    hidden *= 0.5\n    if <c>: break",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    hidden += 0.25\n    <v> = <V>",
    "if <c>:\n    shown = hidden * 1.0",
    "if <c>:\n    hidden = <V> * 1.0",
    "<v> = <v> + hidden * 0.5",
    "if <c>:\n    boxes[0] += 0.5",
    setup="hidden = v0 * 1.0\nshown = hidden\nboxes = [hidden, v1 * 1.0]",
    final="hidden * 0.5 + shown * 0.25 + boxes[0] * 0.1 + boxes[1] * 0.1",
    refusals=_IN_PLACE,
)

feature(
    "no_grad",
    "with dynarl.no_grad():\n    <v> = <V>",
    "with dynarl.no_grad():\n    if <c>:\n        <v> = <V>",
    "with dynarl.no_grad():\n    <block>",
    "<name1> = 0\nwith dynarl.no_grad():\n    while <name1> < 3 and <c>:\n        <name1> += 1\n"
    "        <v> = <v> - 0.1",
    "with dynarl.no_grad():\n    <name1> = <v>\n    if <c>:\n        <name1> = <name1> + 0.1\n<v> = <v> + <name1>",
    "if <c>:\n    with dynarl.no_grad():\n        <s> = <S>\n        <block>",
    "with dynarl.set_grad_enabled(bool(<c>)):\n    <v> = <V>",
    "with dynarl.no_grad():\n    <name1> = <V>\n    with dynarl.enable_grad():\n        if <c>:\n"
    "            <name1> = <V>\n"
    "    <s> = <s> + 0.1 * <name1>.sum()\n<v> = <v> * <name1>",
    "<v> = (<V>).detach() if <c> else <V>",
)

feature(
    "grad_inside",
    """
    with dynarl.enable_grad():
        <name1> = <v>.detach().clone().requires_grad_(True)
        (<name2>,) = dynarl.grad((<name1> * <name1> * <V>).sum(), [<name1>], create_graph=True)
        <v> = <v> - 0.1 * <name2>
    """,
    """
    with dynarl.enable_grad():
        <name1> = <v>.detach().clone().requires_grad_(True)
        <name2> = net.b(<name1>).tanh()
        if <c>:
            <name2> = <name2> * <name1>
        (<name2>,) = dynarl.grad(<name2>.sum(), [<name1>])
    <v> = <v> + 0.1 * <name2>
    """,
    """
    with dynarl.enable_grad():
        <name1> = <V>.detach().clone().requires_grad_(True)
        for <name2> in range(<k>):
            (<name3>,) = dynarl.grad((<name1> ** 2 * net.p).sum(), [<name1>], create_graph=True)
            <name1> = <name1> - 0.1 * <name3>
            if <c>:
                break
    <v> = <name1>
    """,
)

feature(
    "identity",
    "<n> = <n> % 3 + isinstance(<v>, dynarl.Tensor) + isinstance(<S>, dynarl.Tensor)",
    "<name1> = <v>\nif <c>:\n    <name1> = <V>\n<n> = int(<name1> is <v>)",
    "<name1> = {v0: 0.1, v1: 0.2, v2: 0.3}\n<s> = <s> + <name1>[<v>]",
    "match <v>:\n    case dynarl.Tensor(shape=(4,)):\n        <v> = <V>\n    case _:\n        <v> = <v> + 100",
)

feature(
    "iterate",
    "for <name1> in <v>:\n    if <name1> > <x>:\n        <n> = <n> % 4 + 1",
    "for <name1>, <name2> in enumerate(<V>):\n    if <name2> > <x>:\n        <s> = <s> * 0.5 + <name2> * <name1>\n"
    "    else:\n        break",
    "for <name1>, <name2> in zip(<v>, <v>):\n    if <name1> + <name2> > <x>:\n        <v> = <V>\n        break",
    "<name1>, <name2>, *_ = <v>\nif <name1> > <name2> + 0.013:\n    <s> = <name1>\n",
    "<s> = sum(w * j for j, w in enumerate(<v>)) * 0.25",
    "<v> = dynarl.stack([w * 0.5 if w > <x> else w for w in <v>])",
    "for <name1> in dynarl.stack([v0, v1]):\n    if <name1>.sum() > <x>:\n        <v> = <name1> * 0.5\n        <block>",
)
