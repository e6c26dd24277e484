"""All errors of the kit have one base class, and derive from Python's own where those would fit."""

import inspect

import pytest

from yolothreads import errors


def own_errors() -> list[type]:
    """Return the classes that errors.py defines."""
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


def test_all_derive_from_one_base() -> None:
    assert len(own_errors()) > 1
    assert all(issubclass(c, errors.YoloThreadsError) for c in own_errors())


def test_the_tree_in_the_docstring_names_each_error() -> None:
    drawn = [line.split("─ ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "─ " in line]
    assert sorted(drawn) == sorted(c.__name__ for c in own_errors() if c is not errors.YoloThreadsError)


def test_a_bad_argument_is_a_value_error_and_a_closed_pool_a_runtime_error() -> None:
    assert issubclass(errors.ArgumentError, ValueError)
    assert issubclass(errors.PoolClosedError, RuntimeError)


@pytest.mark.parametrize("error", [OSError(28, "disk full"), OSError("disk full")], ids=["numbered", "only said"])
def test_an_output_error_names_the_file_the_reason_and_the_remedy(error: OSError) -> None:
    with pytest.raises(errors.OutputError) as raised, errors.writing('"x" could not be written', "name another"):
        raise error
    assert str(raised.value) == '"x" could not be written (disk full); name another.'
    assert raised.value.__cause__ is error


def test_writing_lets_other_errors_pass() -> None:
    with pytest.raises(errors.WeightsError), errors.writing("x", "y"):
        raise errors.WeightsError
