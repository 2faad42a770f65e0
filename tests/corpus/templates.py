"""Chat templates that are no templates, fail, go on for ever, or write something else."""

from __future__ import annotations

from collections.abc import Iterator

from helpers import CHATML

TEMPLATE = "chat_template.jinja"
_LOOP = "{% for m in messages %}"
_FOR_A, _FOR_B = "{% for a in range(99999) %}", "{% for b in range(99999) %}"
_SAID = _LOOP + "{{ m['role'] }}: {{ m['content'] }}<|im_end|>\n{% endfor %}"
#: Expressions in the place of a turn's text. None of them can be computed, or none says it.
_EXPRESSIONS = {
    "unknown": "nothing.here.at.all",
    "attribute": "m.content.nothing.more",
    "index": "m[99]",
    "divides": "1 / 0",
    "modulo": "1 % 0",
    "power": "2 ** 99999999",
    "power-float": "9.9 ** 9999",
    "adds-types": "'a' + 1",
    "minus": "'a' - 'b'",
    "calls-text": "'a'()",
    "calls-none": "none()",
    "huge-text": "('x' * 1000000) * 1000",
    "huge-list": "[0] * 9999999999",
    "huge-format": "'%999999999d' % 1",
    "huge-centre": "'x'.center(99999999999)",
    "range": "range(99999999999)|list",
    "range-sum": "range(99999)|sum",
    "filter": "m|nothing",
    "test": "m is nothing",
    "raises": "raise_exception('no')",
    "import": "__import__('os')",
    "class": "''.__class__.__mro__[1].__subclasses__()",
    "globals": "cycler.__init__.__globals__",
    "format-class": "'{0.__class__}'.format(1)",
    "self": "self",
    "context": "self._TemplateReference__context",
    "json": "messages|tojson",
    "int": "'x'|int",
    "float-nan": "'nan'|float",
    "number": "1",
    "none": "none",
    "true": "true",
    "list": "[m]",
    "undefined-filter": "x|default(y)",
    "slice": "m['content'][::0]",
    "sorts-types": "[1, 'a']|sort",
    "batch": "[1]|batch(0)|list",
    "round": "1e400|round|int",
    "random": "range(0)|random",
    "first": "[]|first",
    "max": "[]|max",
    "regex": "m['content'].replace('', 'x' * 100000)",
    "join": "range(99999)|join('x' * 9999)",
    "wordwrap": "m['content']|wordwrap(0)",
    "truncate": "m['content']|truncate(-1)",
    "indent": "m['content']|indent(99999999999)",
    "encode": "m['content'].encode('nothing')",
    "surrogate": "'\\ud800'",
    "zero": "'\\x00'",
    "escape": "'\\x1b[2J'",
    "bom": "'\\ufeff'",
    "upper": "m['content']|upper",
    "reversed": "m['content']|reverse",
    "cut": "m['content'][:1]",
    "namespace": "namespace(a=1).b",
    "namespace-list": "namespace([1])",
    "dict": "dict(1)",
    "strftime": "strftime_now('%')",
    "strftime-long": "strftime_now('%Y' * 99999)",
    "strftime-none": "strftime_now(none)",
    "attr": "m|attr('__class__')",
    "map": "[1]|map('nothing')|list",
    "groupby": "[1]|groupby('x')",
    "lipsum": "lipsum(n=9999)",
    "pprint": "m|pprint",
    "urlize": "m['content']|urlize",
    "xmlattr": "{'a b': 1}|xmlattr",
    "sum": "['a']|sum",
    "items": "1|items|list",
    "dictsort": "1|dictsort",
}
#: Whole texts.
_TEXTS = {
    "empty": "",
    "white": " \n\t",
    "constant": "hello",
    "prompt-only": "{{ messages[0]['content'] }}",
    "nothing": "{{ '' }}",
    "beyond": "{{ messages[99] }}",
    "comment": "{# a #}",
    "open-comment": "{# a",
    "open-expression": "{{",
    "open-statement": "{%",
    "open-for": _LOOP,
    "open-if": "{% if x %}",
    "close-only": "{% endfor %}",
    "else-only": "{% else %}",
    "unknown-tag": "{% nothing %}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends 'x' %}",
    "import": "{% import 'os' as o %}",
    "from": "{% from 'x' import y %}",
    "extends-none": "{% extends none %}",
    "nested-loops": _FOR_A + _FOR_B + "{% endfor %}{% endfor %}",
    "nested-text": _FOR_A + _FOR_B + "x{% endfor %}{% endfor %}",
    "grows": "{% set n = namespace(x='x') %}"
    + _FOR_A
    + "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive-loop": "{% for m in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "deep": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "deep-list": "{{ " + "[" * 9000 + "]" * 9000 + " }}",
    "long": CHATML + "{# " + "x" * 1_000_000 + " #}",
    "many-blocks": "{{ 1 }}" * 50_000,
    "no-break": _LOOP + "{% break %}{% endfor %}",
    "no-continue": _LOOP + "{% continue %}{% endfor %}",
    "generation": _LOOP + "{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}",
    "changes": _LOOP + "{% set _ = messages.append(m) %}x{% endfor %}",
    "pops": "{% set _ = messages.pop() %}" + _SAID,
    "last-only": "{{ messages[-1]['content'] }}",
    "backwards": _SAID.replace("messages", "messages|reverse"),
    "twice": CHATML + CHATML,
    "call": "{% call x() %}{% endcall %}",
    "filter-block": "{% filter upper %}" + _SAID + "{% endfilter %}",
    "autoescape": "{% autoescape true %}" + _SAID + "{% endautoescape %}",
    "set-none": "{% set x %}{% endset %}{{ x }}",
    "do": "{% do messages.clear() %}" + _SAID,
    "debug": "{% debug %}",
    "trans": "{% trans %}x{% endtrans %}",
    "line-statement": "# for m in messages\n{{ m }}\n# endfor",
    "raw": "{% raw %}" + _SAID + "{% endraw %}",
    "no-end": _LOOP + "{{ m['content'] }}{% endfor %}",
    "spaces": _SAID.replace("{{", "   {{"),
    "bare-set": "{% set %}",
    "set-loop": "{% for x in x %}{{ x }}{% endfor %}",
    "for-none": "{% for x in none %}{% endfor %}",
    "unpacks": "{% for a, b, c in messages %}{% endfor %}",
    "for-number": "{% for x in 1 %}{% endfor %}",
}
#: What refuses a turn: of a role, by its place, by its type.
_GUARDS = ("user", "assistant", "system", "nothing")
_REFUSED = (
    *("empty", "white", "constant", "prompt-only", "nothing", "beyond", "comment", "close-only"),
    *("open-comment", "open-expression", "open-statement", "open-for", "open-if", "unknown-tag"),
    *("include", "extends", "import", "nested-loops", "nested-text", "grows", "recursion", "raw"),
    *("else-only", "recursive-loop", "unpacks", "for-number", "bare-set"),
)


def templates() -> Iterator[tuple[str, bytes, str]]:
    """Name, text, and ``fine``, ``refused`` or nothing where both are right."""
    for name, text in _TEXTS.items():
        yield name, text.encode(), "refused" if name in _REFUSED else ""
    for name, expression in _EXPRESSIONS.items():
        yield f"says-{name}", _SAID.replace("m['content']", expression, 1).encode(), ""
        guarded = "{% if " + expression + " %}{% endif %}" + _SAID
        yield f"tests-{name}", guarded.encode("utf-8", "surrogatepass"), ""
        bound = "{% set x = " + expression + " %}" + _SAID
        yield f"sets-{name}", bound.encode("utf-8", "surrogatepass"), ""
        body = "{% for x in " + expression + " %}{{ x }}{% endfor %}"
        yield f"loops-{name}", (body + _SAID).encode("utf-8", "surrogatepass"), ""
    for role in _GUARDS:
        guard = f"{{% if m['role'] == '{role}' %}}{{{{ raise_exception('no') }}}}{{% endif %}}"
        text = _SAID.replace(_LOOP, _LOOP + guard)
        yield f"refuses-{role}", text.encode(), "refused" if role in _GUARDS[:2] else ""
    good = CHATML.encode()
    yield "same", good, "fine"
    yield "same-with-comment", b"{# a comment #}" + good, "fine"
    yield "same-with-set", b"{% set x = 1 %}" + good, "fine"
    yield "latin-1", good + b"\xe9", ""
    yield "utf-16", CHATML.encode("utf-16"), ""
    yield "bom", b"\xef\xbb\xbf" + good, ""
    yield "zeros", bytes(100), ""
    yield "binary", bytes(range(256)), ""
    for share in range(1, 20):
        yield f"cut-at-{share}", good[: len(good) * share // 20], ""
    for place in range(0, len(good), 9):
        yield f"flipped-at-{place}", good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :], ""
