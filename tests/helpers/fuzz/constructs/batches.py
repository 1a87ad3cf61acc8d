"""What the batch gives each sample: sequences of different lengths, flags, random draws."""

from tests.helpers.fuzz.features import feature

feature(
    "ragged",
    "<n> = len(seq)",
    "<v> = seq[0] * 0.5",
    "<v> = seq[-1] + <v>",
    "<v> = seq[len(seq) - 1] * 0.5",
    "for <name1> in seq:\n    <v> = net.a(<name1> + <v>)\n    if <c>: break",
    "for <name1> in seq:\n    <v> = <name1> * 0.5 + <v>.tanh()\n    <loop>",
    "<v> = sum([w * 0.3 for w in seq], <v>)",
    setup="last = seq[-1]",
    final="last * 0.1",
)

feature(
    "flag",
    "if lit:\n    <v> = <V>",
    "<n> = <n> % 3 + bool(lit)",
    "<v> = <V> if lit and <c> else <v>",
    "lit = lit if <c> else not lit",
    setup="lit = flag",
    final="0.1 if lit else 0.2",
)

feature(
    "draw",
    "<v> = dynarl.randn(4, dtype=dynarl.float64) * 0.5 + <v>",
    "<s> = dynarl.rand((), dtype=dynarl.float64)",
    "<n> = int(dynarl.categorical(logits=<v>))",
    "<name1> = 0\nwhile <name1> < 3 and dynarl.rand(()) < 0.4:\n    <name1> += 1\n    <v> = <V>",
    "if dynarl.rand(()) < 0.5:\n    <v> = <V>\n    <block>",
)

feature(
    "given",
    "given['path'].append(<S>)",
    "if <c>:\n    given['n'] += 1\n    given['record'][0].append(<S>)",
    "if <c>:\n    given['record'][1]['v'] = <V>",
    "<v> = given['record'][1]['v'] * 0.5 + <v>",
    "for <name1> in range(given['n'] % 4):\n    <v> = <V>\n    if <c>:\n        given['path'].clear()\n        break",
    "<n> = given['n'] % 4 + len(given['path'])",
    setup="mine = given",
    final="given['record'][1]['v'] + 0.1 * mine['n'] + sum(given['path']) * 0.2 + sum(given['record'][0])",
)
