"""Numbers, booleans and strings read from tensors and kept."""

from tests.helpers.fuzz.features import feature

feature(
    "count",
    "<n> = <n> + 1",
    "if <c>:\n    <n> += 1",
    "<n> = int(<v>.argmax())",
    "<n> = (n0 * 2 + n1) % 5",
    "<n> = int((<s> * 1.5).floor().clamp(-2, 2))",
    "<v> = <v> + 0.1 * (<n> % 3)",
)

feature(
    "float",
    "number = float(<S>)",
    "number = number * 0.5 + <x>",
    "if number > <x>:\n    <v> = <v> + number",
    "for <name1> in range(<k>):\n    if float(<v>[0]) > number:\n        number = number + 0.25\n"
    "    <v> = <v> * 0.5 + number",
    "number, flag_kept = (<S>).item(), bool(<c>)",
    "flag_kept = flag_kept ^ bool(<c>)\nif flag_kept:\n    number = min(number, <x>)",
    "<v> = <v> * number + (0.1 if flag_kept else 0.2)",
    "<v> = <v> + 0.1 * math.copysign(1.0, float(<S>) * 0.0)",
    "number = round(number, 2) + math.floor(number) * 0.1",
    setup="number, flag_kept = 0.5, False",
    final="number * 0.1 + flag_kept",
)

feature(
    "builtins",
    "<s> = max(<S>, <s>, <S>)",
    "<s> = min([<S>, <s>]) + sum([<S>, <s>]) * 0.1",
    "if any(w > <x> for w in (<S>, <s>)):\n    <v> = <V>",
    "if all([<S> > <x>, <c>]):\n    <v> = <V>",
    "<name1> = sorted([<S>, <S>, <s>])\n<s> = <name1>[0] - <name1>[-1] * 0.5",
    "<name1> = sorted([<v>, <V>], key=lambda w: w[0])\n<v> = <name1>[0] + <name1>[1] * 0.5",
    "<name1> = max((v0, v1, v2), key=lambda w: w.sum())\n<v> = <name1> * 0.5",
    "<n> = sum(w > <x> for w in (<S>, <S>)) + 0 if <c> else len(list(filter(None, [<n> % 2, <c>])))\n<n> = int(<n>)",
    "<s> = sum(map(lambda w, u: w * u, <v>, <v>)) * 0.1",
)

feature(
    "text",
    "word += 'p' if <c> else 'n'",
    "word = word[-3:] + f'{<n> % 3}'",
    "if word.endswith('p'):\n    <v> = <V>",
    "<v> = <v> + 0.1 * len(word) + 0.05 * word.count('p')",
    "word = f'{int(<v>.argmax())}:{bool(<c>)}'",
    "<n> = len(f'{float(<S>):+.2f}') + len(str(<v>.argmax().item()))",
    "for <name1> in word[:3]:\n    <v> = <v> * 0.9\n    if <name1> == 'p' and <c>: break",
    "if <c>:\n    word = '''\n        #.\n      .#'''\n<n> = len(word)",
    "word = '-'.join(['ab'[w > <x>] for w in (float(<S>), <x>)])",
    setup="word = 'a'",
    final="0.1 * len(word) + 0.01 * sum(map(ord, word))",
)

feature(
    "shown",
    "<n> = len(str(<v>.argmax())) % 7",
    "<n> = len(f'{<v>.argmax()}') % 5 + len(str(<v>.detach() > <x>)) % 3",
    "<v> = <v> + {'0': 0.1, '1': 0.2}.get(f'{<v>.argmax():d}', 0.3)",
)

feature(
    "dispatch",
    "<v> = (net.a, net.b, net.c)[int(<v>[:3].argmax())](<v>)",
    "<name1> = int(<v>[:2].argmax())\nif <name1>:\n    <v> = net.a(<v>)\n<s> = <v>[<name1>]",
)

feature(
    "pick",
    "s0 = <v>[<v>.argmax()]",
    "s1 = <v>[int(<v>.argmin())]",
    "<v> = dynarl.where(<v> > <x>, <V>, <V>)",
    "<v> = dynarl.stack([<S> for _ in range(4)])",
    "<v> = dynarl.cat([<v>[:1], <V>[1:]])",
    "<v> = net.m @ <v>",
)
