"""What a definition means, and the digest by which a change of meaning is noticed.

The plan computes again what was computed under another meaning, ``fstore apply`` refuses another meaning under a
served name, the client's caches keep meanings apart, and the dashboard shows them. How a value is described, bounded or
drawn is no part of its meaning.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from feature_repo.catalog import INDICATORS, Indicator


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What an indicator's values are.

    Attributes:
        kind: name of the kind.
        kernel: version of the kernel, as ``kernel_version`` returns it.
        inputs, outputs: bar columns, and the fields computed from them, in order.
        parameters: name and value, in the order of the catalog's row, which means nothing.
        lookback, warm_up: as of ``Indicator``.
    """

    kind: str
    kernel: str
    inputs: tuple[str, ...]
    parameters: tuple[tuple[str, float], ...]
    lookback: int
    warm_up: int | None
    outputs: tuple[str, ...]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits; equal for equal meanings, on every machine and version of Python."""
        parts = {name: getattr(self, name) for name in self.__slots__} | {"parameters": sorted(self.parameters)}
        return _digest(json.dumps([*parts.values()]))

    def tags(self) -> dict[str, str]:
        """The meaning as text, for people and for Feast, with its digest as ``meaning``."""
        return {
            "kind": self.kind,
            "parameters": ", ".join(f"{name}={value:g}" for name, value in self.parameters),
            "inputs": ", ".join(self.inputs),
            "outputs": ", ".join(self.outputs),
            "lookback": str(self.lookback),
            "warm_up": "all history" if self.warm_up is None else str(self.warm_up),
            "kernel": self.kernel,
            "meaning": self.digest,
        }


def meaning_of(indicator: Indicator) -> Meaning:
    """What an indicator means."""
    return Meaning(
        kind=indicator.kind.name,
        kernel=kernel_version(indicator.kind.kernel),
        inputs=indicator.inputs,
        parameters=tuple((name, float(value)) for name, value in indicator.parameters.items()),
        lookback=indicator.lookback,
        warm_up=indicator.warm_up,
        outputs=indicator.outputs,
    )


def definitions_digest(indicators: Iterable[Indicator] = tuple(INDICATORS.values())) -> str:
    """One digest of what all indicators mean, in whatever order they are listed; 16 hexadecimal digits."""
    return _digest(json.dumps(sorted((i.name, meaning_of(i).digest) for i in indicators)))


# -------------------------------------------------------------------------------------------------------- kernels


@cache
def kernel_version(kernel: Callable[..., Any]) -> str:
    """A digest of what a kernel computes; 16 hexadecimal digits.

    It sees the code of the kernel and of every function of the project that it calls, the constants that they read, and
    TA-Lib's version when they use it. Comments, docstrings, annotations, layout and names of local variables are not
    seen, nor is the version of Python.
    """
    lines: list[str] = []
    seen: set[int] = set()
    waiting: list[Callable[..., Any]] = [kernel]
    while waiting:
        function = inspect.unwrap(waiting.pop(0))
        if id(function) in seen or not isinstance(function, types.FunctionType):
            continue
        seen.add(id(function))
        lines.append(_normalized(function))
        for name, value in _names_read(function):
            if isinstance(value, types.FunctionType):
                if _is_of_the_project(value, function):
                    waiting.append(value)
            elif isinstance(value, types.ModuleType):
                if value.__name__.partition(".")[0] == "talib":
                    lines.append(f"talib {_talib_version()}")
            elif isinstance(value, int | float | str | tuple | list | dict | frozenset):
                constant = sorted(map(repr, value)) if isinstance(value, frozenset) else value
                lines.append(f"{name} = {constant!r}")
    return _digest("\n".join(dict.fromkeys(lines)))


def _talib_version() -> str:
    """The version of TA-Lib's C library without the date of its build, such as ``0.8.1``."""
    import talib

    version = vars(talib)["__ta_version__"]
    return (version.decode() if isinstance(version, bytes) else str(version)).split()[0]


def _is_of_the_project(function: types.FunctionType, caller: types.FunctionType) -> bool:
    """Whether a function that a kernel calls is written beside it, and not a library's."""
    own, top = caller.__module__.partition(".")[0], function.__module__.partition(".")[0]
    installed = any(part in function.__code__.co_filename for part in ("site-packages", "dist-packages"))
    return top == own or not (installed or top in sys.stdlib_module_names)


def _names_read(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function reads from around it, by name: globals, enclosing variables, and attributes of modules."""
    around = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    tree = _source(function)
    nodes = [*ast.walk(tree)] if tree else []
    names = {node.id for node in nodes if isinstance(node, ast.Name)} if tree else {*function.__code__.co_names}
    for name in sorted(names & around.keys()):
        yield name, around[name]
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = around.get(node.value.id)
            if isinstance(module, types.ModuleType) and hasattr(module, node.attr):
                yield f"{node.value.id}.{node.attr}", getattr(module, node.attr)


def _source(function: types.FunctionType) -> ast.FunctionDef | None:
    """The syntax tree of a function; None of a lambda in a row, or of code without a file."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    return tree if isinstance(tree, ast.FunctionDef) else None


def _normalized(function: types.FunctionType) -> str:
    """The code of a function as text that only its computation decides."""
    tree = _source(function)
    if tree is None:
        code = function.__code__
        constants = [c for c in code.co_consts if not isinstance(c, types.CodeType) and c != function.__doc__]
        return repr((code.co_code.hex(), constants, code.co_names))
    tree.decorator_list = []
    arguments = [a.arg for a in ast.walk(tree.args) if isinstance(a, ast.arg)]
    stored = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    inner = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n is not tree]
    own = {name: f"v{at}" for at, name in enumerate(dict.fromkeys([*arguments, *stored, *inner]))}
    tree.name = "kernel"
    return _text(tree, own)


_UNSEEN = {"annotation", "returns", "type_comment", "type_params", "ctx", "type_ignores", "kind"}


def _text(node: Any, own: dict[str, str]) -> str:
    """A syntax tree as text: the same for every version of Python, whatever fields that has added or left out."""
    if isinstance(node, list):
        return f"[{','.join(_text(item, own) for item in node)}]"
    if isinstance(node, ast.Name | ast.arg):
        name = node.id if isinstance(node, ast.Name) else node.arg
        return own.get(name, name)
    if isinstance(node, ast.AnnAssign):  # an annotation is no part of the computation
        if node.value is None:
            return ""
        node = ast.Assign(targets=[node.target], value=node.value)
    if isinstance(node, ast.AST):
        fields = []
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(value, list):
                value = [s for s in value if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            if name == "name" and isinstance(value, str):
                value = own.get(value, value)
            if name not in _UNSEEN and value is not None and value != []:
                fields.append(f"{name}={_text(value, own)}")
        return f"{type(node).__name__}({','.join(fields)})"
    return repr(node)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
