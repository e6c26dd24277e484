"""Every error of the kit is one family, and fits where Python's own would."""

import inspect

import pytest

from yolothreads import errors


def own_errors() -> list[type]:
    """The classes that errors.py defines."""
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


def test_all_derive_from_one_base() -> None:
    assert len(own_errors()) > 1
    assert all(issubclass(c, errors.YoloThreadsError) for c in own_errors())


def test_the_drawing_at_the_top_names_each_one() -> None:
    drawn = [line.split("─ ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "─ " in line]
    assert sorted(drawn) == sorted(c.__name__ for c in own_errors() if c is not errors.YoloThreadsError)


def test_a_bad_argument_is_a_value_error_and_a_closed_pool_a_runtime_error() -> None:
    assert issubclass(errors.ArgumentError, ValueError)
    assert issubclass(errors.PoolClosedError, RuntimeError)


@pytest.mark.parametrize("error", [OSError(28, "disk full"), OSError("disk full")], ids=["numbered", "only said"])
def test_what_cannot_be_written_is_named_with_the_reason_and_what_to_do(error: OSError) -> None:
    with pytest.raises(errors.OutputError) as raised, errors.writing('"x" could not be written', "name another"):
        raise error
    assert str(raised.value) == '"x" could not be written (disk full); name another.'
    assert raised.value.__cause__ is error


def test_other_errors_pass_through_where_files_are_written() -> None:
    with pytest.raises(errors.WeightsError), errors.writing("x", "y"):
        raise errors.WeightsError
