"""Every public function says in its signature what it takes: what is no such thing is refused before it runs."""
import importlib
import inspect
import pkgutil

import pytest

import bcq_nb
from bcq_nb.arguments import meaning_of
from bcq_nb.calls import annotations_of

MODULES = [module.name for module in pkgutil.iter_modules(bcq_nb.__path__) if module.name[0] != "_"]
LOOKED_WITH = {"arguments", "shapes", "calls"}   # by the others
DO_NOT_LOOK = {"cli", "patterns", "plain", "reports", "weights"}   # not all of their functions


def public(module):
    "(name, function, its class or None) of the public functions and methods of a module"
    room = importlib.import_module(f"bcq_nb.{module}")
    for name in room.__all__:
        value = getattr(room, name)
        if getattr(value, "__module__", None) != room.__name__ or getattr(value, "_is_protocol", False):
            continue
        if inspect.isfunction(value):
            yield name, value, None
        elif inspect.isclass(value) and not issubclass(value, BaseException):
            for method, written in vars(value).items():
                function = getattr(written, "__func__", written)
                if inspect.isfunction(function) and (method[0] != "_" or method == "__init__"):
                    yield f"{name}.{method}", function, value


@pytest.mark.parametrize("module", [name for name in MODULES if name not in LOOKED_WITH | DO_NOT_LOOK])
def test_functions_look_at_their_arguments(module):
    looks = {name: hasattr(function, "__wrapped__") for name, function, _ in public(module)}
    blind = [name for name, does in looks.items() if not does and not name.endswith(".forward")]   # PyTorch calls that
    assert not blind


@pytest.mark.parametrize("module", MODULES)
def test_an_object_that_nobody_knows_is_nothing_that_is_asked_for(module):
    taken = []
    for name, function, owner in public(module):
        annotations = annotations_of(inspect.unwrap(function), owner)
        for argument, annotation in annotations.items():
            meaning = meaning_of(annotation) if argument != "return" else None
            if meaning is not None and meaning.holds(object()):
                taken.append(f"{name}({argument})")
    assert not taken
