import inspect

from zvt_crypto.core import errors


def classes():
    return [
        item
        for item in vars(errors).values()
        if inspect.isclass(item) and issubclass(item, errors.ZvtCryptoError)
    ]


def test_codes_are_unique_and_the_docstring_lists_every_class():
    groups = {errors.ZvtCryptoError, errors.RetriableError, errors.SkippableError, errors.FatalError}
    leaves = [cls for cls in classes() if cls not in groups]
    codes = [cls.code for cls in leaves]
    assert len(set(codes)) == len(codes)
    for cls in leaves:
        line = next(line for line in errors.__doc__.splitlines() if f" {cls.__name__} " in line)
        assert cls.code in line and str(cls.http_status) in line, cls
        assert sum(issubclass(cls, group) for group in groups) == 2, cls


def test_unknown_value_names_value_nearest_and_allowed():
    error = errors.unknown_value("provider", "binanse", ["okx", "binance"])
    assert error.one_line() == "unknown provider 'binanse'. did you mean binance?; allowed: binance, okx"
    assert error.as_dict()["details"] == {"value": "binanse", "nearest": ["binance"]}
