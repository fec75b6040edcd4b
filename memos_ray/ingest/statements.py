"""First-person statements that `extract_rules` reads: patterns in English and Chinese, and what they say.

A pattern fits a whole clause or nothing: it begins where the clause begins and what follows its object must
end the clause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from memos_ray.types import Kind


@dataclass(frozen=True, slots=True)
class Statement:
    """`pattern` has a group `o` and perhaps `k`; `text` says it with a speaker `{s}`, `{o}` and `{k}`."""

    pattern: re.Pattern[str]
    kind: Kind
    relation: str
    text: str
    functional: bool  # one object at a time: a later one takes its place


_VAGUE = (  # objects that mean something only beside what was said before
    "it|that|this|these|those|them|him|her|you|your|their|his|our|how|what|when|where|the|all|every|everything|"
    "anything|something|being|to(?=[.,!;]|$)|one|both|seeing|each other"
)
_OBJECT = rf"(?P<o>(?!(?i:{_VAGUE})\b)[^\s,.;:!?—–(\"][^,.;:!?—–(\"\n]{{0,59}}?(?: and [\w-]+(?=[.,!;]|$))?)"
_NAMES = (
    r"(?P<o>(?:the )?[A-ZÀ-Þ][\w'’-]*(?: (?:(?:of|de|da|do|la|the) )?[A-ZÀ-Þ][\w'’-]*){0,4}"
    r"(?:, [A-ZÀ-Þ][\w'’-]+)?)"
)
_WHEN = (
    r"(?: (?:now|today|these days|yesterday|recently|last \w+|this \w+|(?:\w+ ){1,3}ago|in (?:19|20)\d\d|"
    r"in [A-Z][a-z]+|on (?:[A-Z][a-z]+|\d)[\w ]{0,12}))*"
)
_MORE = "and|but|so|because|'cause|cause|when|where|which|who|after|before|since|as|if|it|they"
_CLAUSE_END = rf"\s*(?=[,.;:!—–(\n]|$| - | (?:{_MORE})\b)"
_FACT_END = rf"{_WHEN}\s*(?=[,.;:!—–(\n]|$| (?:{_MORE}|with|for|to)\b)"
_LATELY = r"(?: (?:just|recently|finally|actually|also|really|absolutely|currently|still|now))*"
_I = rf"I(?:['’]ve)?{_LATELY}"
_IM = rf"I(?:['’]m| am){_LATELY}"
_OPENING = r"(?i:(?:well|so|yes|yeah|oh|also|actually|by the way|hi|hey|and|but),? )?"
_PERSON = r"(?P<o>[A-ZÀ-Þ][\w'’-]*(?: [A-ZÀ-Þ][\w'’-]*){0,2})"
_JOB = r"(?P<o>an? [a-z][\w -]{1,40}?)"
_DIETS = "vegan|vegetarian|pescatarian|lactose intolerant|gluten[- ]free"
_THING = r"(?P<k>[a-z][a-z ]{1,30}?)"
_F, _P = Kind.FACT, Kind.PREFERENCE


def _fact(pattern: str, relation: str, text: str, functional: bool = True) -> Statement:
    return Statement(re.compile(_OPENING + pattern + _FACT_END), Kind.FACT, relation, text, functional)


def _taste(pattern: str, relation: str, text: str, functional: bool = False) -> Statement:
    return Statement(
        re.compile(_OPENING + pattern + _CLAUSE_END), Kind.PREFERENCE, relation, text, functional
    )


ENGLISH = (
    _fact(rf"{_I} moved (?:back )?(?:from [A-Z]\w+ )?to {_NAMES}", "lives_in", "{s} moved to {o}"),
    _fact(rf"(?:{_I} live|{_IM} living) in {_NAMES}", "lives_in", "{s} lives in {o}"),
    _fact(rf"(?:{_IM}|{_I} come) (?:originally )?from {_NAMES}", "comes_from", "{s} comes from {o}"),
    _fact(rf"(?:{_I} work|{_IM} working) (?:at|for) {_NAMES}", "works_at", "{s} works at {o}"),
    _fact(rf"(?:{_I} work|{_IM} working) as {_JOB}", "works_as", "{s} works as {o}"),
    _fact(
        rf"{_I} (?:joined|(?:started|got)(?: a new job| working) at) {_NAMES}", "works_at", "{s} works at {o}"
    ),
    _fact(rf"[Mm]y name(?:['’]s| is) {_PERSON}", "is_called", "{s} is called {o}"),
    _fact(
        rf"{_IM}(?: severely| very)? allergic to {_OBJECT}", "allergic_to", "{s} is allergic to {o}", False
    ),
    _taste(rf"{_IM} (?:an? )?(?P<o>{_DIETS})", "diet", "{s} is {o}", True),
    _taste(
        rf"[Mm]y (?:all[- ]time )?favou?rite {_THING} (?:is|are) (?:(?:still|now) )?{_OBJECT}(?: now)?",
        "favourite",
        "{s}'s favourite {k} is {o}",
        True,
    ),
    _taste(rf"{_I} (?:love|adore) {_OBJECT}", "likes", "{s} loves {o}"),
    _taste(rf"{_I} (?:like|enjoy) {_OBJECT}", "likes", "{s} likes {o}"),
    _taste(rf"{_I} (?:hate|dislike|can['’]t stand) {_OBJECT}", "dislikes", "{s} dislikes {o}"),
    _taste(rf"{_I} prefer {_OBJECT}", "prefers", "{s} prefers {o}"),
)

_ZO = r"(?P<o>(?![你他她它这那])[^，。！？；：、\s（）了]{1,20}?)"
_ZPLACE = r"(?P<o>(?![你他她它这那家哪])[^，。！？；：、\s（）了的]{2,15}?)"
_ZEND = r"(?:了|啦|呢|啊|哦|哈)?(?=[，。！；、\s]|$)"
_ZWHEN = "现在|目前|其实|最近|今年|去年|上个月|上周|昨天|刚刚?|已经|一直"
_ZI = rf"(?:(?:{_ZWHEN}|对了，?|嗯，?)*我(?:{_ZWHEN}|也|就|真的)*)"
_VERY = "(?:很|非常|特别|最|超级?|挺|比较)?"


def _zh(pattern: str, kind: Kind, relation: str, text: str, functional: bool = False) -> Statement:
    return Statement(re.compile(_ZI + pattern + _ZEND), kind, relation, text, functional)


CHINESE = (
    _zh(rf"搬(?:家)?(?:到|去|回)了?{_ZPLACE}", _F, "lives_in", "{s}搬到{o}", True),
    _zh(rf"住在{_ZPLACE}", _F, "lives_in", "{s}住在{o}", True),
    _zh(rf"(?:来自|是从){_ZPLACE}(?:来的)?", _F, "comes_from", "{s}来自{o}", True),
    _zh(rf"在{_ZPLACE}(?:工作|上班|任职)", _F, "works_at", "{s}在{o}工作", True),
    _zh(rf"(?:加入|入职)了?{_ZPLACE}", _F, "works_at", "{s}在{o}工作", True),
    _zh(rf"(?:叫|的名字(?:叫|是)){_ZPLACE}", _F, "is_called", "{s}叫{o}", True),
    _zh(rf"对{_ZO}(?:严重)?过敏", _F, "allergic_to", "{s}对{o}过敏"),
    _zh(
        rf"最(?:喜欢|爱)的(?P<k>[^，。！？；\s是的]{{1,8}})是{_ZO}",
        _P,
        "favourite",
        "{s}最喜欢的{k}是{o}",
        True,
    ),
    _zh(rf"{_VERY}(?:喜欢|热爱|爱)(?!的){_ZO}", _P, "likes", "{s}喜欢{o}"),
    _zh(rf"{_VERY}(?:讨厌|受不了)(?!的){_ZO}", _P, "dislikes", "{s}讨厌{o}"),
    _zh(rf"(?:更喜欢|偏爱){_ZO}", _P, "prefers", "{s}更喜欢{o}"),
)

# A sentence with one of these is no plain statement about now.
NOT_PLAIN = re.compile(
    r"\b(?:not|never|no longer|nor|if|unless|wish|would|could|might|maybe|perhaps|used to|hope|imagine|"
    r"pretend|almost|nearly|said|says|told|asked|suppose|guess)\b|n['’]t\b(?! stand)|I['’]d\b|[\"“”]",
    re.IGNORECASE,
)
NOT_PLAIN_ZH = re.compile(
    "不(?!了)|没|(?<![特分区])别|如果|要是|假如|假设|万一|希望|想(?!起)|可能|也许|大概|以前|曾经|"
    "小时候|说|问|差点|[“”「」]"
)
