"""How long the tests with random input run: a fixed budget in CI, any multiple of it by hand."""

import os

from hypothesis import HealthCheck, settings

VARIABLE = "CYCLEGAN_FUZZ"


def examples(count):
    """`count`, times the number in the environment variable CYCLEGAN_FUZZ."""
    return count * int(os.environ.get(VARIABLE, 1))


def fuzz_settings(count, **more):
    """Settings of hypothesis, as a decorator or for a state machine: `count` examples, the same at every run.

    With CYCLEGAN_FUZZ=N there are N times as many, other ones at every run. Neither keeps a database: what fails is
    printed, and belongs into a test.
    """
    quiet = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much)
    more = {"suppress_health_check": (*quiet, HealthCheck.data_too_large), **more}
    fixed = VARIABLE not in os.environ
    return settings(max_examples=examples(count), derandomize=fixed, deadline=None, database=None, **more)
