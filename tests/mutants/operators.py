"""Mutants of a source file: each is the file with one small mistake, made on its syntax tree."""

import ast
import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

OPERATORS = ("comparison", "arithmetic", "boolean", "constant", "return", "statement", "argument")

_COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_CALCULATED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitXor: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One mistake: where it is, and the text before and after.

    Attributes:
        file: path in the checkout.
        operator: one of `OPERATORS`.
        line: number of the line, from 1.
        text: the line, stripped.
        start, end: offsets of the replaced part, in bytes.
        before, after: the part, and what replaces it.
    """

    file: str
    operator: str
    line: int
    text: str
    start: int
    end: int
    before: str
    after: str

    @property
    def key(self) -> str:
        """Identifies the mutant as long as its line stays as it is."""
        parts = (self.file, self.operator, self.text, self.before, self.after)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    def apply(self, source: str) -> str:
        """Returns the source with the mistake."""
        raw = source.encode()
        return (raw[: self.start] + self.after.encode() + raw[self.end :]).decode()

    def to_json(self) -> dict:
        """Returns the fields and the key."""
        return {"key": self.key, **asdict(self)}


def mutants(file: str, source: str) -> list[Mutant]:
    """Returns all mutants of a source file that are valid Python and differ from it; one for each key."""
    same = ast.dump(ast.parse(source))
    return [mutant for mutant in _candidates(file, source) if _differs(same, mutant.apply(source))]


def _candidates(file, source):
    """Returns all mutants of a source file, one for each key; not all need be valid."""
    tree, lines = ast.parse(source), source.encode().splitlines(keepends=True)
    begins = [0]
    for line in lines:
        begins.append(begins[-1] + len(line))
    made = {}
    for operator, node, after in _changes(tree):
        start, end = begins[node.lineno - 1] + node.col_offset, begins[node.end_lineno - 1] + node.end_col_offset
        before = source.encode()[start:end].decode()
        text = lines[node.lineno - 1].decode().strip()
        mutant = Mutant(file, operator, node.lineno, text, start, end, before, after)
        made.setdefault(mutant.key, mutant)
    return list(made.values())


def draw(by_file: Mapping[str, str], count: int, seed: int) -> list[Mutant]:
    """Returns `count` mutants, the operators in turn, each from a file drawn by `seed`.

    Args:
        by_file: source by path.
        count: number of mutants; fewer if there are no more.
        seed: decides the draw.
    """
    rng = random.Random(seed)
    pools: dict[str, dict[str, list[Mutant]]] = {operator: {} for operator in OPERATORS}
    for file, source in by_file.items():
        for mutant in _candidates(file, source):
            pools[mutant.operator].setdefault(file, []).append(mutant)
    same = {file: ast.dump(ast.parse(source)) for file, source in by_file.items()}
    drawn: list[Mutant] = []
    while len(drawn) < count and any(pools.values()):
        for operator in OPERATORS:
            files = pools[operator]
            if files and len(drawn) < count:
                file = rng.choice(sorted(files))
                mutant = files[file].pop(rng.randrange(len(files[file])))
                if not files[file]:
                    del files[file]
                if _differs(same[file], mutant.apply(by_file[file])):
                    drawn.append(mutant)
    return drawn


def _differs(same, source):
    """Returns whether a source is valid Python with another syntax tree than the one dumped as `same`."""
    try:
        return ast.dump(ast.parse(source)) != same
    except SyntaxError:
        return False


def _changes(tree) -> Iterator[tuple[str, ast.AST, str]]:
    """Yields an operator, the node that it replaces, and the new text."""
    for node in _code(tree):
        for operator, changes in _CHANGES.items():
            yield from ((operator, *change) for change in changes(node))


def _comparisons(node):
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
        yield node, _unparsed(node, ops=[_COMPARED[type(node.ops[0])]()])


def _calculations(node):
    if isinstance(node, ast.BinOp) and type(node.op) in _CALCULATED:
        yield node, _unparsed(node, op=_CALCULATED[type(node.op)]())


def _conditions(node):
    if isinstance(node, ast.BoolOp):
        yield node, _unparsed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, f"({ast.unparse(node.operand)})"
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield node.test, f"(not ({ast.unparse(node.test)}))"


def _constants(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield node, repr(node.value + 1)


def _returns(node):
    if isinstance(node, ast.Return) and node.value is not None:
        yield node, "return None"


def _statements(node):
    stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if stored or (isinstance(node, ast.Expr | ast.AugAssign | ast.Raise) and not _is_text(node)):
        yield node, "pass"


def _arguments(node):
    if not isinstance(node, ast.Call):
        return
    for i in range(len(node.keywords)):
        yield node, _unparsed(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
    if len(node.args) > 1:
        yield node, _unparsed(node, args=node.args[:-1])


_CHANGES = dict(
    zip(
        OPERATORS,
        (_comparisons, _calculations, _conditions, _constants, _returns, _statements, _arguments),
        strict=True,
    )
)


def _code(tree):
    """Yields the nodes that run: no annotations, texts, f-strings, or contents of error messages."""
    waiting = [tree]
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.JoinedStr | ast.Raise) or (isinstance(node, ast.Expr) and _is_text(node)):
            continue
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list", "type_params"):
                waiting += [
                    part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST)
                ]


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _unparsed(node, **changes):
    fields = {name: value for name, value in ast.iter_fields(node)} | changes
    return f"({ast.unparse(type(node)(**fields))})" if isinstance(node, ast.expr) else ast.unparse(type(node)(**fields))
