"""The sandbox's reading of Telegram's HTML, against the Bot API's rules and tdlib's own error texts."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.sandbox.telegram_html import TAGS, MarkupError, length, plain_text

VALID = {
    "plain": ("just text", "just text"),
    "all simple tags": (
        "<b>1</b><strong>2</strong><i>3</i><em>4</em><u>5</u><ins>6</ins><s>7</s><strike>8</strike><del>9</del>",
        "123456789",
    ),
    "spoilers": ('<span class="tg-spoiler">a</span><tg-spoiler>b</tg-spoiler>', "ab"),
    "link": ('<a href="https://example.com/?a=1&amp;b=2">go</a>', "go"),
    "link without quotes": ("<a href=example.com>go</a>", "go"),
    "code with a language": ('<pre><code class="language-python">x = 1</code></pre>', "x = 1"),
    "quotes": ("<blockquote>a</blockquote><blockquote expandable>b</blockquote>", "ab"),
    "emoji": ('<tg-emoji emoji-id="5368324170671202286">👍</tg-emoji>', "👍"),
    "nested": ("<b>a<i>b<u>c</u></i></b>", "abc"),
    "capitals": ("<B>a</b>", "a"),
    "end tag without a name": ("<b>a</>", "a"),
    "spaces in an end tag": ("<b>a</b \n>", "a"),
    "unknown attributes": ("<b onclick='x' data-y=1 z>a</b>", "a"),
    "entities": ("&lt;&gt;&amp;&quot;&#39;&#x1F534;", "<>&\"'🔴"),
    "entities without semicolon": ("&lt &amp", "< &"),
    "ampersand alone": ("AT&T & Co", "AT&T & Co"),
    "greater-than alone": ("a > b", "a > b"),
}

INVALID = {
    "unknown tag": ("🏟 🏟&lt;<abac>", 'Unsupported start tag "abac" at byte offset 13'),
    "line break tag": ("a<br>b", 'Unsupported start tag "br" at byte offset 1'),
    "less-than alone": ("a < b", 'Unsupported start tag "" at byte offset 2|Unclosed start tag at byte offset 2'),
    "address in angle brackets": (
        "<kahn@inbox.example>",
        'Unsupported start tag "kahn@inbox.example" at byte offset 0',
    ),
    "never closed": ("<b>a", 'Can\'t find end tag corresponding to start tag "b"'),
    "closed before it was opened": ("a</b>", "Unexpected end tag at byte offset 1"),
    "crossed": ("<b>a<i>b</b></i>", 'Unmatched end tag at byte offset 8, expected "</i>", found "</b>"'),
    "cut in a start tag": ("é<b", "Unclosed start tag at byte offset 2"),
    "cut in an end tag": ("<i>a</i   ", "Unclosed end tag at byte offset 4"),
    "cut in a value": ('<a href="https://exa', "Unclosed start tag at byte offset 0"),
    "cut after attributes": ("<i aba  =  ", 'Unclosed start tag "i" at byte offset 0'),
    "no attribute name": ("<i   =aba>a</i>", 'Empty attribute name in the tag "i" at byte offset 0'),
    "bad bare value": ("<a href=https://x>a</a>", "Unexpected end of name token at byte offset 8"),
    "span without class": ("<span>a</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
    "span with another class": ('<span class="x">a</span>', 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
    "emoji without id": ("<tg-emoji>a</tg-emoji>", "Invalid custom emoji identifier specified"),
    "named entity": ("a&nbsp;b", "Unsupported HTML entity at byte offset 1"),
    "entity beyond Unicode": ("&#x110000;", "Unsupported HTML entity at byte offset 0"),
    "entity of a surrogate": ("&#xD800;", "Unsupported HTML entity at byte offset 0"),
}


@pytest.mark.parametrize(("markup", "text"), VALID.values(), ids=VALID)
def test_valid_markup_is_read_as_its_text(markup: str, text: str) -> None:
    """Telegram's tags and entities vanish and their text stays (M-2)."""
    assert plain_text(markup) == text


@pytest.mark.parametrize(("markup", "messages"), INVALID.values(), ids=INVALID)
def test_invalid_markup_is_refused_in_telegrams_words(markup: str, messages: str) -> None:
    """What Telegram cannot parse is refused, and the place is named in bytes (M-2)."""
    with pytest.raises(MarkupError) as refused:
        plain_text(markup)
    assert str(refused.value) in messages.split("|")


texts = st.text(st.characters(exclude_categories=["Cs"]))
plain_tags = st.sampled_from(sorted(TAGS - {"span", "tg-emoji"}))
trees = st.recursive(
    texts.map(lambda text: (html.escape(text), text)),
    lambda parts: st.tuples(plain_tags, st.lists(parts, max_size=3)).map(
        lambda tree: (
            f"<{tree[0]}>{''.join(markup for markup, _ in tree[1])}</{tree[0]}>",
            "".join(text for _, text in tree[1]),
        )
    ),
    max_leaves=8,
)


@given(trees)
def test_every_well_formed_tree_is_accepted(tree: tuple[str, str]) -> None:
    """Properly nested tags around escaped text always pass, and the text comes back unharmed (M-2)."""
    markup, text = tree
    assert plain_text(markup) == text


@given(trees, plain_tags)
def test_an_open_tag_around_anything_is_refused(tree: tuple[str, str], tag: str) -> None:
    """A text cut off before its last end tag never passes (M-2)."""
    with pytest.raises(MarkupError):
        plain_text(f"<{tag}>{tree[0]}")


@given(st.text(st.sampled_from("<>/&;#=\"' ab𝄞lt"), max_size=40))
def test_any_text_is_either_read_or_refused(markup: str) -> None:
    """No input makes the parser fail in any other way, and what it reads is never longer than the input (M-2)."""
    try:
        text = plain_text(markup)
    except MarkupError:
        return
    assert len(text) <= len(markup)


def test_length_counts_utf16_units() -> None:
    """An emoji counts as two, as in Telegram's own offsets (M-2)."""
    assert length("aé🔴") == 4
