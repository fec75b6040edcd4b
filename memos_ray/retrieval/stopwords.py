"""Function words: which words say nothing about a text's subject, and which give its language away.

Knows word lists only. Stop words stay in the index (a query of nothing else still finds its text) and are
left out of queries that hold anything else: on LoCoMo that is as good as leaving them out altogether, and the
index stays exact.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_ENGLISH = """
    a about after again all also am an and any are aren't as at be because been before being both but by can
    can't could couldn't did didn't do does doesn't doing don't down during each few for from further had
    hadn't has hasn't have haven't having he her here hers herself him himself his how i i'd i'll i'm i've
    if in into is isn't it it's its itself just let's me more most my myself no nor not of off on once only
    or other our ours ourselves out over own same she should shouldn't so some such than that that's the
    their theirs them themselves then there there's these they they're this those through to too under until
    up us very was wasn't we we're we've were weren't what what's when where which while who whom whose why
    will with won't would wouldn't you you'd you'll you're you've your yours yourself yourselves
"""
ENGLISH_STOP = frozenset(_ENGLISH.split())

# Characters; a CJK term is a stop word when it is made of these alone.
CHINESE_STOP = frozenset(
    "的了是在我你您他她它们吗呢吧啊呀么什谁哪怎这那和与就都也很有不个把被让会要之其而或着过得地"
)

# What a Chinese question asks with, longest first: as rare in a memory as it is common in questions, so that its
# characters and pairs would weigh more than what is asked about.
CHINESE_ASKING = re.compile(
    "什么时候|什么地方|什么样|为什么|怎么样|怎么办|哪一[天年月位个种家]|哪[里儿些个位种家年天月]|几[点号月岁]|多少|多久|多长时间|多大"
    "|什么|怎么|怎样|如何|为何|何时|何处|是不是|有没有|能不能|谁"
)

_HINTS = {  # frequent words that the other languages of this table do not share
    "english": "the and is was of to it that you for with are this have what i",
    "german": "der die das und ist nicht ich ein eine mit für auf den dem zu war wir auch sich von im wie",
    "french": "le les des est et une je pas dans que qui pour sur du avec elle nous vous au ce il",
    "spanish": "el los las que y una por con para es del se lo como pero muy está yo mi",
    "portuguese": "o os um uma não com para que é do da em eu por mas muito você na no as",
    "italian": "il che di è una un non sono per con gli della mi ho anche ma nel alla più",
    "dutch": "de het een en van ik niet dat is op te met voor zijn maar ook naar wij",
    "swedish": "och det att jag en är som på inte med för den till av var har vi ett",
    "danish": "og det jeg en er at på ikke med for den til af har vi et der",
    "polish": "i w nie na się z do jest to że jak ale co po był o już",
    "turkish": "ve bir bu da de için çok ben ne ile gibi ama daha var mi",
}
_HINT_LANGUAGES: dict[str, tuple[str, ...]] = {}
for _language, _words in _HINTS.items():
    for _word in _words.split():
        _HINT_LANGUAGES[_word] = (*_HINT_LANGUAGES.get(_word, ()), _language)


def guess_language(words: Collection[str]) -> str:
    """Snowball's name of the language of Latin-script `words` (casefolded), by distinct function words.

    English unless another language has strictly more of them. Good enough to choose a stemmer, no more.
    """
    counts: dict[str, int] = {}
    for word in _HINT_LANGUAGES.keys() & set(words):
        for language in _HINT_LANGUAGES[word]:
            counts[language] = counts.get(language, 0) + 1
    return max(counts, key=lambda name: (counts[name], name == "english"), default="english")
