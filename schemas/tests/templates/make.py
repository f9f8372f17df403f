"""Writes the cases of schemas/tests/templates.rs: small chat templates with what transformers renders by them.

    pip install transformers==5.23 jinja2
    python schemas/tests/templates/make.py            writes them
    python schemas/tests/templates/make.py --check    says whether they are what transformers gives now

Each case is a template with its inputs and either the text that transformers gives or `null` where it fails; for templates
with `{% generation %}` also what was marked, in bytes of the text. The templates are our own. Where one uses a macro or a
`{% set %}` around a mark, transformers counts from where the text will stand and so do we, but only if nothing stands before
the mark in it; such cases have nothing there.
"""

import datetime
import json
import pathlib
import sys

import transformers.utils.chat_template_utils as chat_template_utils

OUT = pathlib.Path(__file__).parent
DATE = "2026-03-05"


class Midnight(datetime.datetime):
    """The date that the cases are rendered on."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


chat_template_utils.datetime = Midnight

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is 2+2? "},
    {"role": "assistant", "content": "Four \u2014 4."},
    {"role": "user", "content": "Und auf Deutsch, \u00e4h \U0001f600?"},
    {"role": "assistant", "content": "Vier.\n"},
]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Wetter <b>\u00fc</b> & \"more\"",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Z\u00fcrich", "days": 2, "x": None}}}
VALUES = {
    "t": True,
    "f": False,
    "n": None,
    "zero": 0,
    "one": 1,
    "int": 42,
    "neg": -7,
    "big": 12345678901234567890,
    "float": 1.5,
    "whole": 2.0,
    "tiny": 1.5e-07,
    "huge": 1e16,
    "third": 0.1,
    "s": "Hello World",
    "empty": "",
    "uni": "\u00dcn\u00ef\u00df \u6f22 \U0001f600",
    "quotes": "it's \"so\"",
    "apostrophe": "it's",
    "control": "a\tb\nc\rd\\e\x00\x7f\u00a0\u2028",
    "spaced": " \t a b  c \n",
    "lines": "one\ntwo\r\n\nthree\rfour\u2028five",
    "list": [3, 1, 2],
    "strs": ["b", "A", "c", "a"],
    "mixed": [1, "a", None, True, 2.5, [1, "x"], {"k": "v"}],
    "none_list": [],
    "dict": {"b": 1, "a": "x", "C": None},
    "nothing": {},
    "methods": {"items": [1, 2], "keys": "k", "get": 5, "content": "c", "count": 3},
    "nested": {"a": {"b": [{"c": "deep"}]}},
    "rows": [
        {"n": "x", "v": 2, "g": "p"},
        {"n": "Y", "v": 1, "g": "q"},
        {"n": "z", "v": 3, "g": "P"},
        {"n": "w", "v": 2.0},
    ],
}

PRINTED = [*VALUES, "missing", "dict.items()", "dict.keys()", "dict.values()", "range(3)", "range(1, 9, 2)", "(1, 'a')", "(1,)",
           "()", "[(1, 2), none]", "{'a': [true, none, 1.0]}", "[missing]", "messages[1]", "tools", "documents", "namespace",
           "1e5", "1.0e-5", "123456789.123456789", "1e22", "100000000000000000000", "-0.0", "1_000", "0x1f", "0b11", "'\\x41\\u00e9\\n\\q'",
           "'a' 'b'", "[]", "{}", "{'b': 1, 'a': 2}.a", "none", "None", "true", "True", "1 == 1.0", "'%s' % 3"]

EXPRESSIONS = [
    # Arithmetic.
    "1 + 2 * 3", "7 // 2", "-7 // 2", "7 % 3", "-7 % 3", "7 / 2", "6 / 2", "2 ** 10", "2 ** -1", "2 ** 3 ** 2", "-2 ** 2", "1.5 + 1", "t + 1",
    "1 / 0", "1 // 0", "1 % 0", "10 ** 20", "int - neg", "big + 1", "big * 2", "'ab' * 3", "3 * 'ab'", "[1, 2] * 2", "'a' + 'b'",
    "'a' + 1", "1 + 'a'", "[1] + [2]", "[1] + (2,)", "(1,) + (2,)", "n + 1", "missing + 'a'", "'a' + missing", "'a' ~ missing ~ 'b'",
    "1 ~ 2 ~ n ~ t ~ float ~ huge ~ tiny ~ list ~ dict", "-int", "+int", "-float", "-s", "7.5 // 2", "-7.5 % 2", "0.1 + 0.2", "1e16 + 1",
    "'%s and %r' % ('a', 'b')", "'%d%%' % 5", "'%05.2f|%-6s|%6s|%x' % (3.14159, 'ab', 'cd', 255)", "'%(a)s' % {'a': 1}", "'%s' % n",
    "'%s' % [1, 2]", "'%s %s' % 'a'", "'%d' % 'a'", "'%+d % d' % (5, 5)", "'%e' % 12345.678", "'%g' % 0.00001", "'%c' % 65",
    # Comparison.
    "1 < 2 < 3", "1 < 3 < 2", "1 == true", "0 == false", "'1' == 1", "none == false", "missing == none", "missing == missing", "'a' < 'b'",
    "1 < 'a'", "none < 1", "missing > 0", "[1, 2] == [1, 2]", "[1, 2] == (1, 2)", "[1, 2] < [1, 3]", "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
    "1 != 1.0", "'a' in 'abc'", "'' in 'abc'", "1 in [1.0]", "'a' in dict", "'x' in dict", "'x' not in dict", "1 in 'abc'", "'a' in n",
    "'a' in missing", "none in [none]", "'b' in dict.keys()", "1 in dict.values()", "not 1 in [2]", "2 in range(3)",
    # Logic.
    "0 or 'x'", "'' or none", "1 and 2", "0 and 2", "not ''", "not missing", "missing or 'd'", "missing and 'd'", "not none and 1", "1 if t else 2",
    "1 if f", "1 if f else 2 if f else 3", "(1 if f) is defined", "n is none and n is not string", "t and not f or f",
    # Items and attributes.
    "dict.a", "dict['a']", "dict.nope", "dict['nope']", "dict.nope.more", "missing.a", "missing['a']", "n.a", "n['a']", "s.nope", "int.a", "list[0]",
    "list[-1]", "list[9]", "list['a']", "list.0", "s[0]", "s[-1]", "s[99]", "uni[-1]", "nested.a.b[0].c", "nested['a']['b'][0]['c']", "list[true]",
    "dict[0]", "dict[none]", "list[1.0]", "(1, 2)[1]", "'abc'[1]", "methods.content", "methods['items']", "methods.items()", "methods['keys']",
    "methods.get('count')", "methods.count", "dict.items is defined", "s.upper is defined", "dict['a' ~ '']", "rows[0]['n']", "[1, 2, 3][1:][0]",
    # Slices.
    "list[1:]", "list[:1]", "list[::-1]", "list[-2:]", "list[:-1]", "list[5:]", "s[1:4]", "s[::-1]", "s[-3:]", "s[::2]", "uni[1:3]", "uni[::-1]", "n[1:]",
    "missing[1:]", "dict[1:]", "(1, 2, 3)[1:]", "messages[1:] | length", "list[1:2:1]", "list[::0]", "s[4:1]", "range(10)[2:4] | list",
    # String methods.
    "s.upper()", "s.lower()", "s.title()", "s.capitalize()", "s.swapcase()", "uni.upper()", "uni.lower()", "'\u01c6 stra\u00dfe'.title()", "spaced.strip()",
    "spaced.lstrip()", "spaced.rstrip()", "'xxaxx'.strip('x')", "'\\x1ca\\x1f'.strip()", "'abc'.strip('ca')", "s.split()", "spaced.split()", "'a,b,,c'.split(',')",
    "'a,b,c'.split(',', 1)", "'a b  c '.split(none, 1)", "' a b  c '.rsplit(none, 1)", "'a,b,c'.rsplit(',', 1)", "''.split()", "''.split(',')", "'a'.split('')",
    "'a<x>b</x>c'.split('<x>')[-1].split('</x>')[0]", "lines.splitlines()", "lines.splitlines(true)", "s.replace('o', '0')", "s.replace('o', '0', 1)",
    "'aa'.replace('', '-')", "s.startswith('He')", "s.endswith(('x', 'ld'))", "s.startswith('W', 6)", "s.startswith(1)", "', '.join(strs)", "'-'.join('abc')",
    "''.join([1])", "s.find('o')", "s.rfind('o')", "s.find('zz')", "s.index('zz')", "uni.find('\u6f22')", "s.count('o')", "s.count('')", "s.find('o', 5)",
    "'a=b=c'.partition('=')", "'a=b=c'.rpartition('=')", "'abc'.partition('x')", "'abc'.removeprefix('a')", "'abc'.removesuffix('c')", "'7'.zfill(3)",
    "'-7'.zfill(4)", "'a'.center(4)", "'ab'.center(5, '*')", "'a'.ljust(3, '.')", "'a'.rjust(3)", "'12'.isdigit()", "'1a'.isalnum()", "'ab'.isalpha()",
    "' '.isspace()", "'ab'.islower()", "'AB1'.isupper()", "''.isdigit()", "'Ab Cd'.istitle()", "'a\\tb'.expandtabs(4)", "'{} and {}'.format(1, 'b')",
    "'{0}{1}{0}'.format('a', 'b')", "'{a}-{b}'.format(a=1, b='x')", "'{:>5}|{:03d}'.format('ab', 7)", "'{:.2f}'.format(1.005)", "s.nope()", "n.upper()",
    "missing.upper()", "'a'.upper(1)", "'\u00c5\u03a3'.lower()", "'a'.encode()",
    # Methods of lists and dicts.
    "dict.get('a')", "dict.get('q')", "dict.get('q', 'd')", "dict.keys() | list", "dict.values() | list", "dict.items() | list", "dict.items() | length",
    "list.index(1)", "list.count(1)", "list.append(4)", "dict.update({'a': 1})", "dict.pop('a')", "dict.copy()", "list.index(9)", "dict.keys()[0]",
    "{'a': 1}.items()", "dict(a=1, b='x')", "dict({'q': 1}, r=2)", "dict([('a', 1)])",
    # Filters.
    "list | length", "s | length", "uni | length", "dict | count", "missing | length", "n | length", "int | length", "spaced | trim", "'xax' | trim('x')", "n | trim",
    "missing | trim", "s | upper", "n | upper", "uni | lower", "s | title", "'a-b (c) d\\'e' | title", "'hELLO wORLD' | capitalize", "list | first", "list | last", "none_list | first",
    "s | first", "s | last", "dict | first", "missing | first", "int | first", "list | join", "mixed | join(', ')", "strs | join('-')", "rows | join(',', attribute='n')", "s | join('.')",
    "n | join", "missing | join", "dict | join(',')", "list | sum", "rows | sum(attribute='v')", "list | sum(start=10)", "strs | sum", "list | max", "list | min", "strs | max", "strs | min(case_sensitive=true)",
    "none_list | max", "mixed | max", "rows | map(attribute='n') | list", "rows | map(attribute='g', default='-') | list", "strs | map('upper') | join(',')", "rows | map(attribute='v') | sum",
    "['1', '2'] | map('int') | list", "strs | map('replace', 'a', 'X') | list", "strs | map('nope') | list", "list | select('gt', 1) | list", "list | reject('odd') | list", "mixed | select | list",
    "mixed | reject | list", "mixed | select('string') | list", "rows | selectattr('g') | map(attribute='n') | list", "rows | selectattr('v', '==', 2) | map(attribute='n') | list",
    "rows | selectattr('v', 'equalto', 2) | list | length", "rows | rejectattr('g', 'defined') | list", "rows | selectattr('g', 'undefined') | list", "rows | selectattr('n', 'in', ['x', 'z']) | list | length",
    "rows | selectattr('v', 'ge', 2) | first", "rows | selectattr('nope.more') | list", "rows | selectattr('v') | length", "rows | selectattr('v')", "messages | selectattr('role', 'equalto', 'user') | list | last",
    "strs | sort", "strs | sort(case_sensitive=true)", "list | sort(reverse=true)", "rows | sort(attribute='v') | map(attribute='n') | list", "rows | sort(attribute='v,n') | map(attribute='n') | list", "mixed | sort",
    "strs | unique | list", "[1, 1.0, true, 2] | unique | list", "rows | unique(attribute='v') | list | length", "list | reverse | list", "s | reverse", "list | reverse", "dict | dictsort", "dict | dictsort(reverse=true)",
    "{'a': 2, 'b': 1} | dictsort(by='value')", "dict | dictsort(case_sensitive=true)", "dict | items | list", "missing | items | list", "list | items | list", "s | replace('l', 'L')", "s | replace('l', 'L', 1)", "int | replace('4', 'x')",
    "'a\\nb\\n\\nc' | indent", "'a\\nb\\n\\nc' | indent(2, true)", "'a\\nb\\n\\nc' | indent(2, blank=true)", "'a\\nb' | indent('> ')", "'a\\nb\\n' | indent(first=true)", "'' | indent(first=true)", "int | indent", "int | string", "float | string | length",
    "n | string", "list | string", "'42' | int", "' 42 ' | int", "'4_2' | int", "'42.7' | int", "'x' | int", "'x' | int(7)", "'1f' | int(base=16)", "'0x1f' | int(0, 16)", "1.9 | int", "-1.9 | int", "n | int", "t | int", "missing | int", "'1.5' | float", "'x' | float",
    "'1e3' | float", "int | float", "'inf' | float", "'nan' | float", "missing | float", "2.5 | round", "3.5 | round", "2.675 | round(2)", "2.1 | round(method='ceil')", "2.9 | round(0, 'floor')", "int | round", "1.2345 | round(2, 'ceil')", "neg | abs", "-1.5 | abs", "s | abs",
    "missing | default('d')", "n | default('d')", "n | default('d', true)", "'' | d('x', true)", "missing | default", "missing.a | default('x')", "dict.nope | default('x')", "list | list", "s | list", "dict | list", "missing | list", "n | list", "int | list",
    "range(7) | batch(3) | list", "range(7) | batch(3, 0) | list", "range(7) | slice(3) | list", "range(7) | slice(3, 'x') | list", "rows | groupby('v') | list | length", "rows | selectattr('g') | groupby('g') | map('first') | list",
    "'one two-three f\u00fcnf' | wordcount", "'a' | center(5)", "s | truncate(5)", "s | truncate(9, leeway=0)", "s | truncate(9, true, '..', 0)", "'%s-%s' | format(1, 'a')", "'%(x)s' | format(x=3)", "'<a href=\"x\">\\'&' | escape", "'<a>' | e | length", "'<a>' | safe", "'<a>' ~ '<b>' | escape",
    "s | nope", "s | upper | lower | title", "-1 | abs", "(-5) | abs", "s | attr('upper') is defined", "dict | attr('a')", "s | length > 3", "not s | length", "strs | join(',') | upper ~ '!'", "1 + list | first",
    # Tests.
    "n is none", "n is not none", "missing is defined", "s is defined", "missing is undefined", "s is string", "int is number", "t is number", "float is float", "int is integer", "t is integer", "t is boolean", "one is boolean", "dict is mapping", "list is mapping",
    "list is sequence", "s is sequence", "dict is sequence", "int is sequence", "n is sequence", "missing is sequence", "list is iterable", "s is iterable", "int is iterable", "dict.items() is sequence", "dict.items() is iterable", "range(2) is sequence", "rows | map(attribute='n') is iterable",
    "(rows | map(attribute='n')) is sequence", "3 is odd", "4 is even", "4 is divisibleby 2", "4 is divisibleby(3)", "'a' is in ['a']", "1 is in [2]", "t is true", "one is true", "f is false", "zero is false", "n is sameas none", "t is sameas(true)", "'ab' is lower", "'AB' is upper", "3 is eq 3", "3 is gt 2", "2 is lt(3)",
    "3 is ne 4", "'upper' is filter", "'nope' is filter", "'defined' is test", "s is callable", "namespace is callable", "s is nope", "raise_exception is defined", "strftime_now is callable", "tools is none", "tools is defined", "documents is none", "add_generation_prompt is true", "s is string and s is not mapping",
    "missing is none", "messages[0].tool_calls is defined", "messages[0]['content'] is string", "dict is not string", "3 is not eq 4",
    # JSON.
    "s | tojson", "uni | tojson", "uni | tojson(ensure_ascii=true)", "quotes | tojson", "control | tojson", "'<>&\\'' | tojson", "list | tojson", "mixed | tojson", "dict | tojson", "dict | tojson(sort_keys=true)", "{'b': 1, 'a': 2} | tojson(sort_keys=true)",
    "nested | tojson(indent=2)", "nothing | tojson(indent=4)", "none_list | tojson(indent=4)", "mixed | tojson(indent=1)", "dict | tojson(indent='--')", "list | tojson(separators=(',', ':'))", "dict | tojson(separators=(',', ':'), indent=none)", "dict | tojson(indent=0)", "huge | tojson", "tiny | tojson", "whole | tojson", "third | tojson",
    "big | tojson", "t | tojson", "n | tojson", "missing | tojson", "(1, 2) | tojson", "{1: 2, none: 3, true: 4, 1.5: 5} | tojson", "tools | tojson", "dict.items() | tojson", "dict.items() | list | tojson", "range(3) | tojson", "'nan' | float | tojson", "'-inf' | float | tojson", "dict | tojson(true)", "dict | tojson | length", "dict | tojson ~ 'x'", "rows | map(attribute='v') | tojson",
    # Dates and refusals.
    "strftime_now('%d %b %Y')", "strftime_now('%Y-%m-%d')", "strftime_now('%A, %-d. %B %y %H:%M:%S %p %j')", "strftime_now('100%%')", "strftime_now('%e|%I|%U|%W|%w|%u|%V|%G|%c|%x|%X|%z|%Z|%f')", "raise_exception('no')", "raise_exception(1)", "strftime_now()",
    # Functions.
    "range(3) | list", "range(5, 1, -2) | list", "range(0) | list", "range(100001)", "range(1.5)", "range(3)[1]", "range(3) | length", "nope()", "s()", "namespace(a=1).a", "namespace({'a': 2}).a", "namespace(a=1).b", "namespace(_a=1)", "dict is defined", "lipsum is defined", "[*list]", "'a'.__class__", "s.__class__.__name__",
    "messages.__len__()",
]

TEMPLATES = [
    # White space.
    "a\n{% if true %}\nb\n{% endif %}\nc\n", "  {% if true %}  b  {% endif %}  c", "a  {%- if true -%}  b  {%- endif -%}  c", "  {%+ if true %} b{% endif +%}\n c", "x\n\n", "x\n", "x\n \n{# c #}\ny", "  {# c #}  y", "a {#- c -#} b", "  {{ 1 }}  {% if true %}  x{% endif %}",
    "{{ 1 -}}  x  {{- 2 }}\n\n{{ 3 }}\n", "{% raw %}{{ x }}{% if %}{# y #}{% endraw %}", " {%- raw -%} {{ a }} {%- endraw -%} b", "a\n  {% raw %}\n b\n  {% endraw %}\nc", "a\r\nb\rc\r\n{% if true %}\r\nd{% endif %}\r\n", "{{ 'a\r\nb' }}", "\t{% set x = 1 %}\n{{ x }}",
    "{% if true %}\n\n  a{% endif %}", "a{% if true %}\n{% endif %}\nb", "{{ '{{' }} {{ '%}' }} {{ \"}}\" }}", "{ {{ 1 }} }", "{{ {'a': 1}['a'] }}", "{{ {'a': {'b': 1}} }}", "{% for x in [1,2] %}\n  {{ x }}\n{% endfor %}\nend", "{#- a\nb -#}\nc", "{# {% generation %} #}x", "a{%- set x = 1 %}\n\n b",
    "\u3000{%- if true %}a{% endif %}", "{{ 1 }}\n{{- 2 }}", "<div>\n    {%- for x in [1] %}\n    {{- x }}\n    {%- endfor %}\n</div>", "{{\n 1\n+\n2 }}", "{%if true%}a{%endif%}", "{% if true -%}\n\n a {% endif %}",
    # Loops.
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }}|{% endfor %}", "{% for m in messages %}{{ loop.previtem.role }}>{{ m.role }}>{{ loop.nextitem.role if loop.nextitem }};{% endfor %}", "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% else %}none{% endfor %}",
    "{% for x in [] %}a{% else %}empty{% endfor %}", "{% for x in missing %}a{% else %}empty{% endfor %}", "{% for x in none %}a{% endfor %}", "{% for x in 5 %}a{% endfor %}", "{% for c in 'a\u00fc\U0001f600' %}[{{ c }}]{% endfor %}", "{% for k in dict %}{{ k }},{% endfor %}", "{% for k, v in dict.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in dict | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in dict | dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [1] %}{{ a }}{% endfor %}", "{% for i, (a, b) in [(1, (2, 3))] %}{{ i }}{{ a }}{{ b }}{% endfor %}", "{% for x in [1,2,3,4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1,2] %}{% for y in [3,4] %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}", "{% for x in [1,2] %}{% set outer = loop %}{% for y in [3] %}{{ outer.index }}{% endfor %}{% endfor %}", "{% for x in [1,2,3] %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in [[1,[2]],[3]] recursive %}({{ loop(x) if x is sequence else x }}){% endfor %}", "{% for x in [1] %}{{ x }}{% endfor %}{{ x is defined }}", "{% for x in range(3) | reverse %}{{ x }}{% endfor %}", "{% for x in list | sort %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}", "{% for x in rows | groupby('v') %}{{ x.grouper }}:{{ x.list | length }} {% endfor %}", "{% for g, items in rows | groupby('v') %}{{ g }}{{ items | map(attribute='n') | join }} {% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}", "{% for m in messages %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{% set xs = list | map('string') %}{{ xs | join }}-{{ xs | join }}", "{% for x in dict.values() %}{{ x }}{% endfor %}", "{% for x in 1, 2 %}{{ x }}{% endfor %}", "{% break %}",
    # Variables.
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% set a, b = 1, 2 %}{{ b }}{{ a }}", "{% set x %}a{{ 1 }}\n{% endset %}[{{ x }}]", "{% set x | upper | trim %} abc {% endset %}[{{ x }}]",
    "{% set x = (1, 2) %}{{ x }}", "{% set x = 1, %}{{ x }}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with a = 1, b = a | default(9) %}{{ a }}{{ b }}{% endwith %}", "{% set a = 5 %}{% with a = 1, c = a %}{{ a }}{{ c }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}", "{% set messages = messages[1:] %}{{ messages | length }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}{{ ns['a'] }}", "{% set ns = namespace(a=[]) %}{% set ns.a = ns.a + [1] %}{{ ns.a }}", "{% set d = {} %}{% set d.a = 1 %}",
    "{% set missing.a = 1 %}", "{% set ns = namespace() %}{% set ns._a = 1 %}", "{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x ~ m.role[0] %}{% endfor %}{{ ns.x }}", "{% set x = messages | selectattr('role', 'equalto', 'user') | list %}{{ x | length }}{{ x[0].content }}", "{% set content = messages[0].content if messages[0].content is string else '' %}{{ content }}",
    "{% set ns = namespace(l=[1]) %}{{ ns is mapping }}{{ ns.l }}", "{% set loop_messages = messages %}{% for m in loop_messages %}{{ m['content'] | trim }}\n{% endfor %}", "{% if x is not defined %}{% set x = 3 %}{% endif %}{{ x }}", "{{ x }}{% set x = 3 %}{{ x }}", "{% set bos_token = 'b' %}{{ bos_token }}",
    "{% set a %}x{% set b %}y{% endset %}{{ b }}{% endset %}{{ a }}{{ b is defined }}", "{% set b = 1 %}{% set a %}{% set b = 2 %}{{ b }}{% endset %}{{ a }}{{ b }}", "{% filter upper %}{% set q = 'x' %}{{ q }}{% endfilter %}{{ q is defined }}",
    "{% set ns = namespace(n=0) %}{% set a %}{% set ns.n = 3 %}{% for x in [1] %}{{ loop.index }}{% endfor %}{% endset %}{{ ns.n }}{{ a }}", "{% for x in [1, 2] %}{% set a %}{{ loop.index }}{{ x }}{% endset %}{{ a }}{% endfor %}",
    # Macros.
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(1, 2, 3) }} {{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %} {{ a }} {% endmacro %}[{{ m('x') | trim }}]{{ m('y') | length }}", "{% macro m(d) %}{% for k in d %}{{ k }}{% if d[k] is mapping %}({{ m(d[k]) }}){% endif %}{% endfor %}{% endmacro %}{{ m({'a': {'b': {'c': 1}}}) }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{% endcall %}", "{% macro m() %}<{{ caller('x') }}>{% endmacro %}{% call(a) m() %}in{{ a }}{% endcall %}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}", "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% set x = 1 %}{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}",
    "{% macro m(a, b=5) %}{{ a }}{{ a is defined }}{{ b }}{{ b is defined }}{% endmacro %}{{ m() }} {{ m(nope) }} {{ m(nope, nope) }} {{ m(1, b=nope.x | default(nope)) }} {{ m(b=none, a=nope) }} {{ m(1, messages[0].nope) }}",
    "{% macro m(a, b=5) %}{{ a }}{{ b }}{{ caller(nope) }}{% endmacro %}{% call(c=7) m(nope, nope) %}{{ c }}{% endcall %}{% macro n(d) %}{{ m(d, d) }}{% endmacro %}", "{% macro m(a=1) %}{{ a }}{% endmacro %}{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m(nope) }}", "{% macro m(a, b=5) %}{{ a }}{{ b }}{% endmacro %}{% set f = m %}{{ f(1) }}{{ m(*[1, 2]) }}{{ m(**{'b': 3}) }}",
    "{% macro m() %}{{ s }}{{ messages | length }}{% endmacro %}{{ m() }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{{ m() }}{% macro m() %}x{% endmacro %}", "{% if true %}{% macro m() %}x{% endmacro %}{% endif %}{{ m() }}", "{% macro m(x) %}{%- if x -%} y {%- endif -%}{% endmacro %}{{ m(1) ~ m(0) ~ '.' }}", "{% macro m(a=[]) %}{{ a }}{% endmacro %}{{ m() }}{{ m([1]) }}",
    "{% for i in [1,2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m(ns) %}{% set ns.x = 7 %}{% endmacro %}{% set n2 = namespace(x=1) %}{{ m(n2) }}{{ n2.x }}", "{% set n2 = namespace(x=1) %}{% macro m() %}{% set n2.x = 7 %}{% endmacro %}{{ m() }}{{ n2.x }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ ['a', 'b'] | map('upper') | map('lower') | join(m('-')) }}",
    # Blocks and refusals.
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter trim | upper %}  a {% endfilter %}", "{% if %}x{% endif %}", "{% if x %}", "{{ x", "{% endif %}", "{%}", "{%", "{{ 1 }}}", "{{ (1 }}", "{{ 'a }}", "{# x", "{% for x %}{% endfor %}", "{% nope %}", "{{ 1 2 }}", "{{ a b }}", "{{ | upper }}", "{% set 1 = 2 %}", "{% raw %}x", "{{ }}", "{% if true %}{% endfor %}", "{{ 1 + }}", "{{ x. }}", "{{ [1, }}",
    "{% do list.append(1) %}", "{% include 'x' %}", "{% if 1 %}a{% elif 2 %}b{% else %}c{% endif %}", "{% if 0 %}a{% elif none %}b{% else %}c{% endif %}", "{% if list %}a{% endif %}{% if not none_list %}b{% endif %}{% if 0.0 %}c{% endif %}{% if '0' %}d{% endif %}{% if nothing %}e{% endif %}", "{{ raise_exception('a ' ~ 1) if messages else 'x' }}", "{% if messages[0].role != 'user' %}{{ raise_exception('first!') }}{% endif %}",
    "{% if f %}{{ s | nope }}{% endif %}ok", "{% if f %}{{ nope() }}{% endif %}ok", "{% if s is nope %}{% endif %}", "{{ bos_token }}{{ eos_token is defined }}{{ unk_token }}", "{% if 'Zzz' in messages[0]['content'] %}a{% else %}b{% endif %}", "{% if messages[0]['content'] is not string and messages[0]['content'] is iterable %}a{% else %}b{% endif %}",
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}x{% else %}y{% endif %}{% endfor %}", "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] | trim + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
    "{%- for t in tools %}{{ t | tojson(indent=4) }}{{ t.function.parameters.properties.items() | list }}{% endfor %}", "{% if tools %}yes{% else %}no{% endif %}", "{% for m in messages %}{{ m }}{% endfor %}",
]

MARKS = [
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %};{% endfor %}",
    "{%- for m in messages %}\n{{- '<|' + m.role + '|>' }}\n{%- if m.role == 'assistant' %}\n  {%- generation -%}\n {{ m.content | trim }}<|end|>\n  {%- endgeneration -%}\n {%- else %}{{ m.content }}{% endif %}\n{%- endfor %}",
    "{% for m in messages %}\n  {% generation %}\n  a{{ m.role }}\n  {% endgeneration %}\nb\n{% endfor %}",
    "{% for m in messages %}\n  {%+ generation +%}\n  a{{ m.role }}\n  {%+ endgeneration +%}\nb\n{% endfor %}",
    "{# {% generation %} #}{% raw %}{% generation %}{% endraw %}{{ '{% generation %}' }}{% for m in messages %}{% generation %}{{ loop.index }}{{ m.content }}{% endgeneration %}|{% endfor %}",
    "{% for m in messages %}{% generation %}{% if m.role == 'assistant' %}{% set x = m.content %}{{ x }}{% endif %}{% endgeneration %}{{ x is defined }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% generation %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endgeneration %},{% endfor %}{{ ns.n }}",
    "{% for m in messages %}{% generation %}{{ loop.index0 }}{{ loop.last }}{% for c in m.content[:2] %}{{ c }}{{ loop.index }}{% endfor %}{% endgeneration %}{% endfor %}",
    "{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}{% for m in messages %}{{ m.role }}{{ say(m) }}{% endfor %}",
    "{% for m in messages %}{% generation %}{% endgeneration %}x{% endfor %}",
    "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}",
    "{% macro end() %}<e>{% endmacro %}{% for m in messages %}{% generation %}{{ m.role ~ end() }}{% endgeneration %}{% endfor %}",
    "{%generation%}a{%endgeneration%}",
    "{% generation %}a",
    "{% endgeneration %}",
    "{% generation x %}a{% endgeneration %}",
    "{% for m in messages %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{{ s }}\u00fc\U0001f600{% generation %}\u6f22{{ uni }}{% endgeneration %}\u00fc",
]

CONVERSATIONS = [
    {"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "a", "tool_calls": None}]},
    {"messages": [{"role": "assistant", "content": "a", "thinking": "t"}]},
    {"messages": [{"role": "assistant", "reasoning": "r", "content": "a"}]},
    {"messages": [{"role": "assistant", "reasoning_content": "rc", "thinking": "t", "content": "a"}]},
    {"messages": [{"role": "assistant", "thinking": None, "reasoning_content": "rc"}]},
    {"messages": [{"role": "assistant", "content": "", "tool_calls": [CALL]}], "tools": [TOOL]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "image"}]}]},
    {"messages": [{"role": "user", "content": "a"}], "tools": []},
    {"messages": [{"role": "user", "content": "a"}], "tools": json.dumps([TOOL])},
    {"messages": [{"role": "user", "content": "a"}], "documents": [{"title": "T", "text": "x"}]},
    {"messages": [{"role": "user", "content": "a"}], "documents": ["x"]},
    {"messages": ["x"]},
    {"messages": [{"role": "user", "content": "a"}], "variables": {"bos_token": "<other>", "enable_thinking": False}},
    {"messages": [{"role": "user", "content": "a"}], "prompt": True},
]


def plain(messages):
    """What apply_chat_template does before it renders."""
    return [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in messages]


def case(template, messages=MESSAGES, tools=None, documents=None, variables=None, prompt=False, marks=False):
    found = {"template": template, "messages": messages, "variables": variables or {}, "prompt": prompt, "text": None}
    found |= {"tools": tools} if tools is not None else {}
    found |= {"documents": documents} if documents is not None else {}
    try:
        texts, ranges = chat_template_utils.render_jinja_template(
            [plain(messages)], tools=tools, documents=documents, chat_template=template, add_generation_prompt=prompt,
            return_assistant_tokens_mask=marks, **{"bos_token": "<s>", "eos_token": "</s>"} | (variables or {}),
        )
        text = texts[0]
        text.encode()
    except Exception:
        return found
    # Addresses in memory, classes and bytes are refused here.
    if " at 0x" in text or "<class" in text or text.startswith("b'"):
        return found
    found["text"] = text
    if marks:
        byte = lambda at: len(text[:at].encode())
        found["answers"] = [[byte(start), byte(end)] for start, end in ranges[0] if end > start]
    return found


def write(name, cases):
    shared = {"date": DATE, "special_tokens": {"bos_token": "<s>", "eos_token": "</s>"}, "variables": VALUES}
    for found in cases:
        found["variables"] = {k: v for k, v in found["variables"].items() if k not in VALUES or v != VALUES[k]}
    lines = ",\n".join(json.dumps(found, ensure_ascii=True) for found in cases)
    text = f'{{"shared": {json.dumps(shared)},\n"cases": [\n{lines}\n]}}\n'
    path = OUT / f"{name}.json"
    if sys.argv[1:] == ["--check"]:
        if path.read_text() != text:
            sys.exit(f"{path} differs")
        return
    path.write_text(text)
    failed = sum(found["text"] is None for found in cases)
    print(f"{name}: {len(cases)} cases, {failed} of them refused")


write("expressions", [case("{{ " + e + " }}", variables=VALUES) for e in PRINTED + EXPRESSIONS]
      + [case("{{ [" + e + "] }}|{{ (" + e + ") ~ '' }}", variables=VALUES) for e in PRINTED])
write("templates", [case(t, variables=VALUES, tools=[TOOL]) for t in TEMPLATES])
write("marks", [case(t, variables=VALUES, marks=True) for t in MARKS])
SHOWN = "{{ messages }}|{{ tools }}|{{ documents }}|{{ bos_token }}|{{ enable_thinking }}|{{ add_generation_prompt }}"
write("conversations", [case(SHOWN, variables={**VALUES, **c.get("variables", {})}, **{k: v for k, v in c.items() if k != "variables"}) for c in CONVERSATIONS])
