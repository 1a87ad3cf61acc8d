"""Calls of Modules and per-sample functions, and of recursive walks over trees."""

from tests.helpers.fuzz.features import feature

feature(
    "module",
    "<v> = net.sub0(<v>)",
    "if <c>:\n    <v> = net.sub0(<V>)",
    "<v>, <s> = net.sub1(<v>)",
    "<name1> = net.sub1(<V>)\nif <c>:\n    <v> = <name1>[0]",
    "for <name1> in range(2):\n    <v> = net.sub0(<v>)\n    if <c>: break",
    module="""
    class Sub0(nn.Module):
        def forward(self, v0):
            v1, v2, s0, s1, n0, n1 = net.p, v0 * 0.5, v0[0], v0.sum() * 0.5, 0, 1
            <own>
            <own>
            return v0 + v1 * 0.1


    class Sub1(nn.Module):
        def forward(self, v0):
            v1, v2, s0, s1, n0, n1 = net.p, v0 * 0.5, v0[0], v0.sum() * 0.5, 0, 1
            <own>
            if <c>:
                return v1, s0
            return v0.tanh(), s1 + n0
    """,
)

feature(
    "per_sample",
    "<v> = marked(<v>, <s>)",
    "if <c>:\n    <v> = marked(<V>, <S>)",
    "<name1> = named(<v>)\n<v>, <n> = <name1>['h'], int(<name1>['n'])",
    "try:\n    <v> = raising(<v>)\nexcept ValueError as <name1>:\n    <v> = <V> + 0.01 * len(str(<name1>.args[0]))",
    module="""
    @per_sample
    def marked(v0, s0):
        v1, v2, s1, n0, n1 = net.p, v0 * 0.5, v0.sum() * 0.5, 0, 1
        <own>
        <own>
        return v0 + s1 * 0.1


    @per_sample
    def named(v0):
        v1, v2, s0, s1, n0, n1 = net.p, v0 * 0.5, v0[0], v0.sum() * 0.5, 0, 1
        <own>
        return {'h': v1, 'n': n0 % 4}


    @per_sample
    def raising(v0):
        if v0[<i>] > <x>:
            raise ValueError('a part of the samples')
        return v0.tanh()
    """,
)

feature(
    "module_state",
    "<v> = net.note(<v>, notes)",
    "if <c>:\n    <v> = net.note(<V>, notes=notes)",
    "notes['list'].append(<S>)",
    "<v> = remember(<v>, notes['list'], notes)",
    "<name1> = net.start(<v>)\n<name1>.n += 1\nif <c>:\n    <name1>.path.append(<S>)\n"
    "<v> = <name1>.h * 0.5 + 0.1 * <name1>.n + sum(<name1>.path)",
    "<name1>, <name2> = net.start(<v>), net.start(<v>)\nif <c>:\n    <name1>.path += [1.0]\n"
    "<n> = len(<name2>.path) + len(<name1>.path)",
    module="""
    @dataclasses.dataclass
    class Started:
        h: object
        n: int
        path: list


    class Note(nn.Module):
        def forward(self, w, notes):
            if w[<i>] > <x>:
                notes['list'].append(w[0])
                notes['n'] += 1
            elif w.sum() > <x>:
                notes['inner'][0]['h'] = notes['inner'][0]['h'] * 0.5 + w
            return w * 0.5 + 0.1 * notes['n']


    class Start(nn.Module):
        def forward(self, w):
            started = Started(w, 0, [])
            if w[<i>] > <x>:
                started.path.append(w[1])
            return started


    @per_sample
    def remember(w, items, notes):
        if w[<i>] > <x>:
            items.append(w[1])
            notes['n'] += 2
        return w * 0.5
    """,
    setup="notes = {'list': [s0], 'n': 0, 'inner': [{'h': v1}]}",
    final="sum(notes['list']) * 0.1 + 0.1 * notes['n'] + notes['inner'][0]['h']",
)

feature(
    "result_changed",
    "<name1> = made_list(<v>)\n<name1>.append(<V>)\n<name1>[0] = <name1>[0] * 2\nif <c>:\n    <name1>.append(<v>)\n"
    "<v> = <name1>[0] + <name1>[-1] * len(<name1>)",
    "<name1> = net.made(<v>)\n<name1>['h'] = <name1>['h'] * 2\nif <c>:\n    <name1>['extra'] = <V>\n"
    "<v> = <name1>['h'] * len(<name1>) + <name1>.get('extra', 0.5)",
    "<name1> = net.made(<v>)['counts']\n<name1> += 1\nif <c>:\n    <name1> *= 2\n"
    "<v> = <v> + 0.1 * float(<name1>.sum())",
    module="""
    @per_sample
    def made_list(w):
        if w[<i>] > <x>:
            return [w * 0.5, w.tanh()]
        return [w, net.b(w).tanh()]


    class Made(nn.Module):
        def forward(self, w):
            if w[<i>] > <x>:
                w = w * 0.5
            return {'h': w, 'counts': np.ones(2)}
    """,
)

feature(
    "tree",
    "<v> = walk(tree, <V>)",
    "if <c>:\n    <v> = walk(tree, <v>)",
    "<n> = depth_of(tree)",
    module="""
    def node(v0, v1):
        v2, s0, s1, n0, n1 = net.p, v0[0], v1.sum(), 0, 1
        <own>
        return net.a(v0 + v1).tanh()


    def walk(tree, v):
        if not isinstance(tree, tuple):
            return (tree * net.p).tanh()
        v = v * 0.5
        for part in tree:
            v = node(v, walk(part, v))
            if v[<i>] > 0.437:
                break
        return v


    def depth_of(tree):
        return 1 + max(map(depth_of, tree)) if isinstance(tree, tuple) else 0
    """,
)
