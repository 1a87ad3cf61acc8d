"""Control flow beyond `if`, `for` and `while`."""

from tests.helpers.fuzz.features import feature

feature(
    "for_else",
    """
    for <name1> in range(<k>):
        <loop>
        if <c>:
            break
    else:
        <block>
    """,
    """
    for <name1> in range(3):
        for <name2> in range(2):
            if <V>[<name1>] > <x> * <name2>:
                break
        else:
            break
        <v> = <V>
    """,
    """
    for <name1> in range(2):
        for <name2> in range(2):
            if <c>:
                break
            <v> = <V>
        else:
            <s> = <S>
            continue
        <v> = <v> * 0.5
    """,
)

feature(
    "while_else",
    """
    <name1> = 0
    while <name1> < 3 and <c>:
        <name1> += 1
        if <c>:
            <v> = <V>
            break
        <block>
    else:
        <v> = <v> - 0.25
    """,
    """
    <name1> = <k>
    while <name1>:
        <name1> -= 1
        if <c>:
            continue
        <loop>
    else:
        <s> = <S>
    """,
)

feature(
    "match",
    """
    match int(<v>.argmax()):
        case 0:
            <v> = <V>
        case 1 | 2:
            <block>
        case <name1> if <c>:
            <n> = <name1>
        case _:
            <s> = <S>
    """,
    """
    match (<n> % 2, [bool(<c>), <n>]):
        case (0, [True, _]):
            <v> = <V>
        case (1, [<name1>, <name2>]):
            <v> = <v> + 0.1 * <name1> + 0.01 * <name2>
        case (_, [*<name2>]):
            <n> = len(<name2>) + <n> % 3
    """,
    """
    match {'kind': 'a' if <c> else 'b', 'v': <v>}:
        case {'kind': 'a', 'v': <name1>}:
            <v> = <name1> * 0.5
        case {'v': <name1>, **<name2>}:
            <v> = <name1> + len(<name2>)
    """,
)

feature(
    "walrus",
    "if (<name1> := <S>) > <x>:\n    <v> = <v> + <name1>\nelse:\n    <s> = <name1> * 0.5",
    "<name1> = 0\nwhile (<name1> := <name1> + 1) < 4 and (<name2> := <S>) < <x>:\n    <v> = <v> + <name2> * 0.1\n"
    "    <s> = <S>\n<n> = <name1>",
    "<v> = (<name1> := <V>) * 0.5 + <name1>.tanh()",
    "<n> = sum((<name1> := <name2>) % 2 for <name2> in range(<n> % 4)) + <k>",
)

feature(
    "ternary",
    "<v> = <V> if <c> else <V>",
    "<s> = (<S> if <c> else <x>) + (<S> if <c> else <S>)",
    "<n> = <n> + 1 if <c> else <k> if <c> else <n>",
    "<v> = <v> + (1.0 if <c> and <c> else <x>)",
    "<v> = (net.a if <c> else net.b)(<v>)",
    "<s> = (<c> and <S>) or <S>\n<s> = <s> * 1.0",
)

feature(
    "comprehension",
    "<v> = sum([<V> * (<name1> + 1) for <name1> in range(<k>) if <v>[<name1>] > <x>], <v>) * 0.5",
    "<s> = max([<v>[<name1>] for <name1> in range(3)]) if <c> else min(<v>[<name1>] for <name1> in range(2))",
    "<name1> = {<name2>: <v>[<name2>] for <name2> in range(3) if <v>[<name2>] > <x>}\n"
    "<s> = sum(<name1>.values(), <s>)\n<n> = len(<name1>)",
    "<n> = len({int(<name1>.argmax()) for <name1> in (v0, v1, v2)})",
    "<name1> = [[<v>[<name2>] * <name3> for <name2> in range(2)] for <name3> in range(<n> % 3)]\n"
    "<s> = <s> + sum(sum(<name2>) for <name2> in <name1>)",
    "<v> = dynarl.stack([<S> if <name1> % 2 else <s> for <name1> in range(4)])",
    "if <c>:\n    <n> = sum(1 for <name1> in range(4) if <v>[<name1>] > <x>)",
)

feature(
    "del",
    "<name1> = <V>\nif <c>:\n    <name1> = <name1> * 0.5\n    <v> = <name1>\ndel <name1>",
    "<name1>, <name2> = <V>, <S>\nif <c>:\n    <v> = <name1>\n    del <name1>\nelse:\n    <s> = <name2>\n"
    "try:\n    <v> = <name1> + <v>\nexcept UnboundLocalError:\n    <v> = <v> - 0.5",
    "for <name1> in range(<k>):\n    <name2> = <V>\n    if <c>:\n        <v> = <name2>\n    del <name2>",
    "if <c>:\n    <name1> = <V>\ntry:\n    <v> = <name1> * 0.5\nexcept NameError:\n    <v> = <V>",
)

feature(
    "try",
    """
    try:
        <block>
        if <c>:
            raise KeyError('branch')
        <v> = <V>
    except (LookupError, ZeroDivisionError):
        <block>
    """,
    """
    try:
        if <c>:
            1 / 0
        <v> = <V>
    except ZeroDivisionError:
        <v> = <v> - 0.5
    else:
        <s> = <S>
    finally:
        <n> = <n> % 3 + 1
    """,
    """
    for <name1> in range(3):
        try:
            if <c>:
                continue
            if <c>:
                break
            <v> = <V>
        finally:
            <s> = <s> * 0.5 + <name1>
    """,
)

feature(
    "carried",
    """
    try:
        <v> = stopping(<v>, <x>)
    except Stopped as <name1>:
        <v> = <name1>.value * 0.5 + len(<name1>.args)
    """,
    """
    try:
        <name1> = <V>
        if <c>:
            raise Stopped(<name1>)
        <v> = <name1>
    except Stopped as <name2>:
        <v> = <name2>.args[0] - 0.25
    """,
    """
    <name1> = None
    try:
        <v> = again(<v>)
    except RuntimeError as <name2>:
        <name1> = <name2>
    if <name1> is not None:
        <v> = <name1>.args[1] + <name1>.__cause__.value * 0.5
    """,
    module="""
    class Stopped(Exception):
        def __init__(self, value):
            super().__init__(value)
            self.value = value


    def stopping(v, limit):
        for i in range(3):
            v = v * 0.5 + i * 0.1
            if v.sum() > limit + i:
                raise Stopped(v)
        return v.tanh()


    def again(v):
        try:
            return stopping(v, 0.4)
        except Stopped as stop:
            if v[0] > 0.017:
                raise RuntimeError('again', v) from stop
            return stop.value
    """,
)

feature(
    "context_manager",
    "with Scope(log) as <name1>:\n    <v> = <V> + 0.1 * <name1>\n    if <c>:\n        <v> = <V>\n    <block>",
    "with Scope(log):\n    if <c>:\n        raise ArithmeticError('left')\n    <v> = <V>",
    "with contextlib.suppress(KeyError):\n    if <c>:\n        raise KeyError('left')\n    <block>",
    "if <c>:\n    with scaled(0.5) as <name1>:\n        <v> = <v> * <name1>",
    "for <name1> in range(2):\n    with Scope(log):\n        if <c>:\n            break\n        <v> = <V>",
    module="""
    class Scope:
        def __init__(self, log):
            self.log, self.entered = log, 0

        def __enter__(self):
            self.entered += 1
            self.log.append(1.0)
            return len(self.log)

        def __exit__(self, kind, error, trace):
            self.log.append(0.5 if kind is None else 2.0)
            return kind is ArithmeticError


    @contextlib.contextmanager
    def scaled(factor):
        yield factor * 2
    """,
    setup="log = []",
    final="0.1 * sum(log)",
)

feature(
    "early",
    "if <c>:\n    return <result>",
    "for <name1> in range(<k>):\n    <v> = <V>\n    if <c>:\n        return <result>",
)

feature(
    "leaving_try",
    """
    try:
        if <c>:
            return <result>
        <v> = <V>
    finally:
        <s> = <S>
    """,
    """
    <name2> = 0
    while True:
        <name1> = <V>
        try:
            if <c>:
                break
            <v> = <name1>
        finally:
            <name2> += 1
        if <name2> > 2:
            break
    """,
    """
    for <name1> in range(3):
        try:
            if <c>:
                raise IndexError(<name1>)
            if <c>:
                continue
            <v> = <V>
        except IndexError as <name2>:
            if <name2>.args[0] > 1:
                return <result>
            <s> = <s> + <name2>.args[0]
        else:
            break
    """,
    """
    with contextlib.suppress(AssertionError):
        assert <c>, 'some'
        <v> = <V>
        if <c>:
            return <result>
    """,
)

feature(
    "targets",
    "<name1> = <name2> = [<S>]\nif <c>:\n    <name1>.append(<x>)\n<s> = sum(<name2>)",
    "for spot.x in range(<k>):\n    <v> = <v> * 0.5 + spot.x * 0.1\n    if <c>: break",
    "for spot.y[0], (<s>, *<name1>) in enumerate([(<S>, 1, 2), (<s>, 3)]):\n    if <c>: break\n<n> = sum(<name1>)",
    "if <c>:\n    spot.x, spot.y[1] = <k>, <S>",
    "spot.y[0] += 1\nif <c>:\n    spot.y[1] = spot.y[1] * 0.5",
    "if <c>:\n    spot.x = spot.y = [spot.x if isinstance(spot.x, int) else 1, <S>]",
    "<s> = <S> if <x> < <s> < 0.413 <= 0.5 else <s>",
    "if <c>:\n    import math as maths\n    <s> = <s> * maths.sqrt(0.25)",
    setup="spot = types.SimpleNamespace(x=0, y=[0, s1])",
    final="0.1 * spot.y[0] + spot.y[1] + (spot.x if isinstance(spot.x, int) else 3) * 0.1",
)
