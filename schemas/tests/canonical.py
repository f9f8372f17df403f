"""Digests of canonical JSON (RFC 8785), computed without Frostline: `python canonical.py > canonical.json`."""

import hashlib
import json
import math
import sys


def number(value: float) -> str:
    """A number as ECMAScript's Number::toString writes it (ECMA-262, 6.1.6.1.20)."""
    if value == 0:
        return "0"
    sign, value = ("-" if value < 0 else ""), abs(value)
    # Python's repr finds the same shortest digits.
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + digits[0] + ("." + digits[1:] if count > 1 else "") + power


def canonical(value) -> str:
    match value:
        case None | bool() | str():
            return json.dumps(value, ensure_ascii=False)
        case int() | float():
            assert math.isfinite(value)
            return number(float(value))
        case list():
            return "[" + ",".join(map(canonical, value)) + "]"
        case dict():
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
            return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in keys) + "}"
    raise TypeError(type(value))


def digest(value) -> str:
    return "sha256:" + hashlib.sha256(canonical(value).encode()).hexdigest()


def seal(plan: dict) -> dict:
    """What a plan's `id` and `checksum` must be."""
    bound = {key: plan[key] for key in ("version", "model", "data", "method", "tensors")}
    bound["frost_line"] = plan["decision"]["frost_line"]
    if "per_example" in plan["decision"]:
        bound["per_example"] = plan["decision"]["per_example"]
    rest = {key: value for key, value in plan.items() if key != "checksum"}
    return {"id": digest(bound), "checksum": digest(rest)}


VALUES = [
    {"b": [1, 2.5], "a": {"y": None, "x": "é\n"}, "t": [True, False]},
    [0.0, -0.0, 1.0, 1e-6, 1e-7, 123456789012345680000.0, 1e21, 5e-324, 1.7976931348623157e308, 0.1, 333333333.3333333],
    [0.6931471805599453, 9.313225746154785e-10, -4.5, 100.0, 1e20, 9007199254740991],
    {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7},
    ["\x00\x1f\x7f\u2028\"\\/\b\f\t"],
]

if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(seal(json.load(open(sys.argv[1])))))
    else:
        print(json.dumps([{"value": value, "digest": digest(value)} for value in VALUES], indent=1))
