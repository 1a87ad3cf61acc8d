"""Objects with state: classes with methods, dataclasses, callable objects, Modules' attributes."""

from tests.helpers.fuzz.features import feature

feature(
    "object",
    "<v> = counter.tick(<v>)",
    "if <c>:\n    counter.tick(<v>)",
    "if <c>:\n    <v> = counter.tick(<V>)\nelse:\n    counter.trace.append(<S>)",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    <v> = counter.tick(<v>)",
    "for <name1> in range(<k>):\n    <v> = counter(<v>) if <c> else <V>",
    "if <c>:\n    counter.h = <V>\n    counter.other = counter",
    "<v> = counter.other.h * 0.5 + <v>",
    "if <c>:\n    counter.other = Counting(<v>)\ncounter.other.n += 1",
    "<name1> = counter.tick\nif <c>:\n    <v> = <name1>(<v>)",
    module="""
    class Counting:
        made = 0.5

        def __init__(self, h):
            self.h, self.n, self.trace, self.other = h, 0, [], self

        def tick(self, w):
            self.n += 1
            if w[<i>] > <x>:
                self.trace.append(w[0] * self.made)
                return w * 0.5
            self.h = self.h + w * 0.1
            return w + 0.1 * self.n

        def __call__(self, w):
            if self.n > 2:
                return w.tanh()
            return self.tick(w)

        @property
        def size(self):
            return len(self.trace)
    """,
    setup="counter = Counting(v1)",
    final="counter.h + 0.1 * counter.n + sum(counter.trace) + counter.size * 0.1 + counter.other.n * 0.01",
)

feature(
    "dataclass",
    "if <c>:\n    record.n += 1\n    record.path.append(<S>)",
    "record = dataclasses.replace(record, h=<V>)\nif <c>:\n    record.n = <n> % 5",
    "if <c>:\n    record = Record(<V>, 1, [<S>])",
    "same = record\nif <c>:\n    same.h = same.h * 0.5\n    same.path = [*same.path[-1:], <x>]",
    "for <name1> in range(<k>):\n    if <c>:\n        record.path.append(record.h[<name1>])\n"
    "        break\n    record.n += 1",
    "<v> = record.step(<v>)",
    "point = Point(<S>, <n> % 3)\nif <c>:\n    point = point._replace(y=2)\n<s> = point.x + point.y * 0.1",
    module="""
    @dataclasses.dataclass
    class Record:
        h: object
        n: int = 0
        path: list = dataclasses.field(default_factory=list)

        def step(self, w):
            if (w + self.h)[<i>] > <x>:
                self.n += 1
                return (w + self.h) * 0.5
            self.path.append(w.sum() * 0.1)
            return w


    class Point(typing.NamedTuple):
        x: object
        y: int = 0
    """,
    setup="record = Record(v1 * 0.5)\nsame = record",
    final="record.h + 0.1 * record.n + sum(record.path) + same.n * 0.01",
)

feature(
    "slots",
    "if <c>:\n    box.value = box.value + <V>",
    "box.count += 1\nif <c>:\n    box.count -= 2",
    "<v> = box.value * 0.5 + <v>",
    "if <c>:\n    del box.value\ntry:\n    <v> = box.value * 0.3\nexcept AttributeError:\n    box.value = <V>",
    module="""
    class Box:
        __slots__ = ('count', 'value')

        def __init__(self, value):
            self.value, self.count = value, 0
    """,
    setup="box = Box(v2 * 0.5)",
    final="box.value + 0.1 * box.count",
)

feature(
    "operator",
    "if <c>:\n    total += <V>",
    "total += <S>\n<v> = (total + <v>).tanh()",
    "for <name1> in range(<k>):\n    total += <x>\n    if <c>: break",
    "if <c>:\n    kept_total = total\n    total = total * 0.5",
    module="""
    class Total:
        def __init__(self, value, times=0):
            self.value, self.times = value, times

        def __iadd__(self, other):
            self.value, self.times = self.value * 0.5 + other, self.times + 1
            return self

        def __add__(self, other):
            return self.value + other

        def __mul__(self, factor):
            return Total(self.value * factor, self.times)
    """,
    setup="total = Total(v0)\nkept_total = total",
    final="total + 0.1 * total.times + kept_total.value * 0.1",
)

feature(
    "attributes",
    "<v> = <v> * net.factor + net.shift",
    "if net.training and <c>:\n    <v> = <v> * net.weights[<k> % 2]",
    "<s> = <s> + net.names[('up', 'down')[<n> % 2]]",
    "<v> = getattr(net, 'abc'[<n> % 3])(<v>)",
    "for <name1> in net.weights:\n    <v> = <v> * <name1>\n    if <c>: break",
    "<name1>, = [p for name, p in net.named_parameters() if name == 'p']\n<v> = <v> + <name1> * 0.5",
)

feature(
    "globals",
    "<v> = <v> * FACTOR + LIMITS[<n> % 3]",
    "if <v>[0] > LIMITS[<k> % 3]:\n    <v> = CHOICES['half'](<v>)",
    "<v> = CHOICES[('half', 'net')[int(<v>[0] > 0.017)]](<v>)",
    "if <c>:\n    FACTOR_HERE = FACTOR\n    <v> = <v> * FACTOR_HERE",
    module="""
    FACTOR = 0.75
    LIMITS = (-0.4, 0.1, 0.35)
    CHOICES = {'half': lambda w: w * 0.5, 'net': lambda w: net.b(w) if w[1] > 0.017 else net.c(w)}
    """,
)

feature(
    "callables",
    "<v> = rounds(<v>)",
    "if <c>:\n    <v> = part_of(<V>)",
    "<v> = early(<v>, <s>)",
    "if <c>:\n    <v> = rounds.both(<v>)",
    "<v> = functools.reduce(lambda a, b: (a + b).tanh(), [<V>, <v>, <V>][:<n> % 3 + 1])",
    "<name1> = rounds.both if <c> else part_of\n<v> = <name1>(<v>)",
    "<s>, <n> = looked_up(<v>)",
    module="""
    class Rounds:
        scale = 0.5

        def __call__(self, w):
            if w[<i>] > <x>:
                return w * self.scale
            return net.c(w)

        def both(self, w):
            for j in range(3):
                w = self(w) + 0.1
                if w.sum() > 1.513:
                    return w * 0.5
            return w

        @staticmethod
        def fixed(w):
            return w.tanh() if w[0] > 0.017 else w

        @classmethod
        def made(cls, w):
            if w[1] > 0.017:
                return cls.fixed(w) * cls.scale
            return w


    def early(w, s):
        if s > <x>:
            return w * 0.5
        if w[<i>] > <x>:
            return w + s
        return Rounds.made(w)


    def two(w, u, scale):
        while w.mean() < <x> and scale < 3:
            w, scale = w + 0.2, scale + 1
        return w * u


    def looked_up(w):
        for j, limit in enumerate((0.31, 0.013, -0.27)):
            if w[j] > limit:
                return w[j] * 0.5, j
        return w.sum(), 3


    rounds = Rounds()
    part_of = functools.partial(two, u=0.5, scale=1)
    """,
)

feature(
    "private",
    "<v> = secret(<v>)",
    "if <c>:\n    <v> = secret.both(<V>)",
    "<n> = secret.seen % 4",
    "for <name1> in range(2):\n    <v> = secret(<v>)\n    if <c>: break",
    module="""
    class Open:
        def __init__(self):
            self.__n, self.__scale = 0, 0.5

        def __step(self, w):
            __limit = <x>
            if w[<i>] > __limit:
                self.__n += 1
                return w * self.__scale
            return w.tanh()

        def __call__(self, w):
            y = self.__step(w)
            while y.sum() > 1.213:
                y = self.__step(y) * 0.5
            return y

        @property
        def seen(self):
            return self.__n


    class Secret(Open):
        def __call__(self, w):
            if w[<i>] > <x>:
                return super().__call__(w) * len(__class__.__name__) * 0.1
            return super().__call__(w * 0.5)

        def both(self, w):
            y = self(w)
            if y.sum() > <x>:
                y = Open.__call__(self, y)
            return y
    """,
    setup="secret = Secret()",
    final="0.1 * secret.seen",
)

feature(
    "class_inside",
    "if <c>:\n    Spot.seen.append(<S>)",
    "if <c>:\n    Spot.n += 1",
    "<v> = Spot().moved(<v>)",
    "if <c>:\n    class Spot(Spot):\n        n = <k>",
    setup="""
    class Spot:
        seen, n = [s0], 0

        def moved(self, w):
            if w[<i>] > <x>:
                return w * 0.5 + self.n
            return w.tanh()
    """,
    final="sum(Spot.seen) * 0.1 + 0.1 * Spot.n",
)
