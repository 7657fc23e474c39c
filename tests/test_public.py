"""The public names of the package: what they are, where they live, and which error is which."""

import inspect
import pkgutil
from importlib import import_module, util

import pytest

import cyclegan
from cyclegan import CycleganError, errors

# `translate_folder` comes with the package `cyclegan.translate`; until its module is there, it cannot be looked at.
NAMES = [name for name in cyclegan.__all__ if name != "translate_folder" or util.find_spec("cyclegan.translate.folder")]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported_and_is_documented(name):
    found = getattr(cyclegan, name)
    assert name in dir(cyclegan)
    assert cyclegan.__all__.count(name) == 1
    assert name == "__version__" or inspect.getdoc(found)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'cyclegan' has no attribute 'trian'"):
        cyclegan.trian  # noqa: B018


def test_no_submodule_bears_the_name_of_something_that_its_package_exports():
    for package in ("cyclegan", "cyclegan.step", "cyclegan.reference", "cyclegan.export", "cyclegan.config"):
        module = import_module(package)
        submodules = {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))}
        assert not submodules & set(getattr(module, "__all__", ())), package


@pytest.mark.parametrize("name", [name for name in vars(errors) if name.endswith("Error")])
def test_one_except_clause_catches_every_error_and_the_usual_ones_go_on_working(name):
    error = getattr(errors, name)
    assert issubclass(error, CycleganError)
    if error is not CycleganError:
        assert issubclass(
            error, ValueError if name in ("InputError", "MissingPackageError", "UnreadableError") else RuntimeError
        )
