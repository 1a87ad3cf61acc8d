"""Functions inside programs: what they close over, how they are decorated and called."""

from tests.helpers.fuzz.features import feature

feature(
    "closure",
    "scale = scale * 0.5 + <x>",
    "if <c>:\n    scale = <x>\n    <v> = act(<v>)",
    "if <c>:\n    <v> = late(<v>)\nelse:\n    scale = scale + 0.5",
    "for <name1> in range(<k>):\n    scale = scale * 0.7\n    if <c>:\n        <v> = act(<V>)",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    scale = scale * 0.5 + 0.2\n    <v> = late(<v>)",
    "<name1> = lambda w: w * <name2> + scale\n<name2> = <x>\nif <c>:\n    <name2> = <S>\n<v> = <name1>(<v>)",
    "<name1> = (<v>[j] * scale for j in range(3))\nif <c>:\n    scale = <x>\n<s> = sum(<name1>)",
    "if <c>:\n    def act(w): return w - scale\n<v> = act(<v>)",
    "<name1> = [lambda w, j=j: w * j + scale for j in range(3)]\n<v> = <name1>[<n> % 3](<v>).tanh()",
    setup="""
    scale = 0.75

    def act(w):
        return w * scale

    late = lambda w: (act(w) + scale).tanh()
    """,
    final="act(0.1)",
)

feature(
    "nonlocal",
    "<v> = <v> + 0.05 * tick()",
    "if <c>:\n    tick()",
    "if <c>:\n    keep(<V>)",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    <v> = <v> * 0.5 + 0.1 * tick()",
    "for <name1> in range(<k>):\n    if <c>:\n        keep(<v>)\n    elif tick() > 2:\n        break",
    "<n> = count % 4",
    "if <c>:\n    count = count + 2\n    <v> = <v> + count * 0.1",
    "<v> = <v> + kept * 0.5",
    setup="""
    count, kept = 0, v0 * 0.0

    def tick():
        nonlocal count
        count += 1
        return count

    def keep(w):
        nonlocal kept
        if w[1] > 0.017:
            kept = kept + w
        else:
            kept = kept * 0.5
    """,
    final="0.1 * count + kept",
)

feature(
    "decorator",
    "<v> = halved_branch(<v>)",
    "if <c>:\n    <v> = halved_branch(<V>) + twice(<v>)",
    "<v> = twice(<V>)",
    module="""
    def halved(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return 0.5 * function(*args, **kwargs)

        return wrapper


    def plus(amount):
        def decorator(function):
            @functools.wraps(function)
            def wrapper(w):
                return function(w) + amount

            return wrapper

        return decorator


    @halved
    def halved_branch(w):
        if w[0] > 0.017:
            return w.tanh()
        return w - 0.1


    @plus(0.25)
    @halved
    def twice(w):
        y = w
        if w.sum() > 0.013:
            y = w * w
        return y.tanh()
    """,
)

feature(
    "quiet_decorator",
    "<v> = <v> + quiet_branch(<V>)",
    "if <c>:\n    <v> = quiet_branch(<v>) * <v>",
    "with dynarl.no_grad():\n    <v> = loud(<v>)",
    module="""
    @dynarl.no_grad()
    def quiet_branch(w):
        y = net.b(w).tanh()
        if w[0] > 0.017:
            y = y * w
        return y


    @dynarl.enable_grad()
    def loud(w):
        if w[1] > 0.017:
            return net.b(w).tanh()
        return w * 0.5
    """,
)

feature(
    "star",
    "<v> = spread(<v>, <S>, <s>, scale=<x>)",
    "<v> = spread(<V>, *[<S> for _ in range(<n> % 3)], **{'scale': 0.5, 'shift': <s>} if <c> else {})",
    "if <c>:\n    <v>, *<name1> = <V>, <S>, <s>\nelse:\n    <v>, <name1> = <V>, [<S>]\n"
    "<s> = sum(<name1>) / len(<name1>)",
    "(<v>, (<s>, *_)), <n> = (<V>, (<S>, <s>)), <n> % 3",
    module="""
    def spread(w, *more, scale=1.0, **named):
        for extra in more:
            if extra > 0.017:
                w = w + extra * scale
        if 'shift' in named and w[0] > 0.013:
            return w - named['shift']
        return w.tanh()
    """,
)

feature(
    "inner_helper",
    "<v> = inner(<V>, <v>)",
    "if <c>:\n    <v> = inner(<v>, <V>)",
    "for <name1> in range(2):\n    <v> = inner(<v>, <v>) * 0.5\n    if <c>:\n        break",
    setup="""
    def inner(v0, v1):
        v2, s0, s1, n0, n1 = net.p, v0[0], v1.sum() * 0.5, 0, 1
        <own>
        if <c>:
            return v0 + v1 * 0.5
        return (v0 - v1).tanh()
    """,
)

feature(
    "recursion",
    "<v> = deeper(<v>, <k>)",
    "<v> = counted(<V>, 3)[0]",
    "if <c>:\n    <v>, <n> = counted(<v>, <k>)\n    <n> = <n> % 5",
    module="""
    def deeper(v, depth):
        if depth == 0 or v[<i>] > <x>:
            return net.a(v)
        if v.sum() > <x>:
            return deeper(net.b(v), depth - 1) * 0.5 + v
        return deeper(net.c(v) * 1.5, depth - 1)


    def counted(v, left, path=()):
        if left == 0:
            return v, len(path)
        if v[<i>] > <x>:
            return counted(v * 0.5 - 0.1, left - 1, (*path, left))
        w, n = counted(v + 0.2, left - 1, path)
        return w.tanh(), n + left
    """,
)

feature(
    "cache",
    "<v> = <v> * 0.5 + power(<k>) * 0.1",
    "if <c>:\n    <v> = power(<n> % 4)",
    "<n> = power.cache_info().currsize",
    setup="""
    @functools.lru_cache
    def power(j):
        if j == 0:
            return v0
        if v0[<i>] > <x>:
            return power(j - 1) * 0.5
        return power(j - 1) + 0.1
    """,
)
