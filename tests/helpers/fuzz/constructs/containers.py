"""Lists, dicts, sets, iterators and generators that programs make and change."""

from tests.helpers.fuzz.features import feature

feature(
    "list",
    "if <c>:\n    items.append(<V>)",
    "items += [<v>, <V>]",
    "if <c>:\n    items[<k> % len(items)] = <V>",
    "if len(items) > 2 and <c>:\n    <v> = items.pop() + <v>",
    "for <name1> in range(<k>):\n    items.append(<v>)\n    <v> = <V>\n    if <c>: break",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    if <name1> == 0: <name2> = []\n    <name2> += [<S>]\n"
    "    <name1> += 1\n"
    "    <v> = <V>\n    items.append(items[0] * <name1> + sum(<name2>))",
    "if <c>:\n    del items[1:]\nelse:\n    items.insert(0, <V>)",
    "items.reverse()",
    "for <name1> in items:\n    <v> = <v> * 0.5 + <name1>\n    if len(items) < 4 and <c>:\n"
    "        items.append(<name1> * 0.5)",
    "for <name1>, <name2> in enumerate(items[:3]):\n    if <c>:\n        items[<name1>] = <name2> * 0.5",
    "<v> = dynarl.stack(items[-3:]).mean(0)",
    "<v> = <v> + len(items) * 0.1",
    setup="items = [v1]",
    final="sum(items) / len(items)",
)

feature(
    "alias",
    "if <c>:\n    one += [<S>]",
    "two.append(<S>)\nif <c>:\n    two = two + [0.5]",
    "if <c>:\n    held[0][0] = <S>",
    "if <c>:\n    two = list(one)\nelse:\n    held['two'] = two",
    "<s> = sum(one) / len(one) + len(two) * 0.1",
    "<n> = (one is two) + 2 * (held[0] is one)",
    "if <c>:\n    held[0] = two\n    held[0].append(<x>)",
    setup="one = [s0]\ntwo = one\nheld = {0: one, 'two': [s1]}",
    final="sum(one) * 0.1 + sum(two) * 0.2 + sum(held['two']) * 0.1 + sum(held[0]) * 0.05",
)

feature(
    "nested",
    "if <c>:\n    memory['seen'][0].append(<S>)",
    "memory['seen'][1]['n'] += 1\nif <c>:\n    memory['seen'][1]['n'] += 2",
    "if <c>:\n    memory['pair'][0].append(<V>)",
    "for <name1> in range(<k>):\n    if <c>:\n        memory['seen'].append([<S>])\n"
    "    memory['set'].add(len(memory['seen']))",
    "if memory['pair'][0]:\n    <v> = memory['pair'][0][-1] * 0.5 + <v>",
    "memory['seen'][0] = memory['seen'][0][-2:]",
    "<name1> = 0\nwhile <name1> < 2 and <c>:\n    <name1> += 1\n    memory['pair'][1][0] = <V>\n    <v> = <V>",
    setup="memory = {'seen': [[], {'n': 0}], 'pair': ([], [v1]), 'set': {0}}",
    final="sum(memory['seen'][0]) + 0.1 * memory['seen'][1]['n'] + sum(memory['pair'][0]) * 0.5 + memory['pair'][1][0] "
    "+ len(memory['set']) * 0.1 + len(memory['seen']) * 0.01",
)

feature(
    "dict_keys",
    "<name1> = int(<v>.argmax())\ntable[<name1>] = table.get(<name1>, 0.0) + <S>",
    "if <c>:\n    table[<n> % 3] = <S>",
    "<name1> = <n> % 3\nif <name1> in table:\n    <s> = table.pop(<name1>)",
    "for <name1>, <name2> in list(table.items()):\n    if <name2> > <x>:\n        table[<name1> + 1] = <name2> * 0.5\n"
    "        break",
    "<v> = <v> + {True: 0.1, False: 0.2}[bool(<c>)] + {'0': 0.3, '1': 0.1}.get(f'{int(<v>.argmax())}', 0.0)",
    "table.setdefault(<n> % 4, <S>)",
    setup="table = {0: s0}",
    final="sum(value * (key + 1) for key, value in table.items()) + 0.1 * len(table)",
)

feature(
    "collections",
    "if <c>:\n    recent.append(<S>)",
    "tally[int(<v>.argmax())] += 1\nif <c>:\n    tally.update([1, 2])",
    "groups[<n> % 2].append(<S>)",
    "if recent and <c>:\n    <s> = recent.popleft()",
    "for <name1> in range(<k>):\n    recent.appendleft(<s>)\n    if <c>:\n        recent.rotate(1)\n        break",
    setup="recent = collections.deque([s0], maxlen=3)\ntally = collections.Counter()\n"
    "groups = collections.defaultdict(list)",
    final="sum(recent) + 0.1 * tally[1] + 0.01 * sum(tally.values()) + sum(sum(g) * k for k, g in groups.items())",
)

feature(
    "tuple_list",
    "if <c>:\n    trail[0].append(<S>)",
    "trail = (*trail, <S>) if <c> else trail",
    "if <c>:\n    trail = (trail[0][:1], *trail[1:])",
    "for <name1> in range(<k>):\n    if <c>:\n        trail[0].append(trail[1] * <name1>)\n"
    "    trail = (trail[0], <S>, 0.5)",
    "<s> = trail[-1] + sum(trail[0]) * 0.5",
    setup="trail = ([s1], s0)",
    final="sum(trail[0]) * 0.5 + trail[1] + len(trail) * 0.1",
)

feature(
    "iterator",
    "if <c>:\n    <v> = <v> + next(numbers) * 0.1",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    <v> = <v> * 0.5 + next(numbers)",
    "for <name1> in range(<k>):\n    if <c>:\n        <s> = <s> + next(numbers)\n    else:\n        break",
    "<n> = int(next(numbers)) % 3",
    "<name1> = iter([<S>, <s>])\nif <c>:\n    next(<name1>)\n<s> = next(<name1>)",
    setup="numbers = iter([0.5 * j for j in range(400)])",
    final="next(numbers) * 0.1",
)

feature(
    "generator",
    "if <c>:\n    <v> = <v> * 0.5 + next(squares) * 0.1",
    "for <name1> in parts(<V>):\n    <v> = <v> * 0.5 + <name1>\n    if <c>: break",
    "<name1> = parts(<v>)\n<s> = next(<name1>).sum()\nif <c>:\n    <v> = next(<name1>, <v>)",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    <v> = <v> * 0.5 + 0.1 * next(squares)",
    "<s> = sum(w[0] for w in parts(<v>)) * 0.5",
    "<v> = list(parts(<v>))[-1]",
    module="""
    def parts(w):
        yield w * 0.5
        for j in range(3):
            if w[j] > <x>:
                yield w * (j + 1) * 0.3
            else:
                w = w.tanh()
        yield w


    def counting():
        j = 0.0
        while True:
            yield j * 0.5
            j += 1
    """,
    setup="squares = counting()",
    final="0.1 * next(squares)",
)

feature(
    "deepcopy",
    "<name1> = copy.deepcopy(store)\nif <c>:\n    <name1>['n'].append(<x>)\n<s> = <s> + sum(<name1>['n'])",
    "if <c>:\n    store = copy.deepcopy(store)\nstore['n'].append(0.25)",
    "<name1> = copy.copy(store)\nif <c>:\n    <name1>['n'].append(<x>)\n    <name1>['h'] = <V>.detach()\n"
    "<v> = <v> + <name1>['h']",
    "store['h'] = copy.deepcopy(<V>.detach())",
    setup="store = {'n': [0.5], 'h': v1.detach()}",
    final="sum(store['n']) * 0.1 + store['h']",
)
