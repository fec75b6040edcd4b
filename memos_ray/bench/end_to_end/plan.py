"""What is to be asked, what of it is still missing, and what that will cost. Asks nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from memos_ray.bench.end_to_end.contexts import FULL, MEMORY, SYSTEMS, full_context, messages
from memos_ray.bench.end_to_end.prompts import NO_MESSAGES, answer_messages, judge_messages
from memos_ray.bench.end_to_end.state import State
from memos_ray.bench.locomo_data import Conversation, Question
from memos_ray.errors import Invalid
from memos_ray.retrieval.budget import approximate_tokens

PUBLISHED = (1, 2, 3, 4)  # without the adversarial ones, which have no key
ANSWER_TOKENS, VERDICT_TOKENS = 30, 10  # assumed of a reply that does as the prompt says
_ROOM = 500  # tokens of the context window that are kept for the reply


@dataclass(frozen=True, slots=True)
class Limits:
    """What of the data is asked."""

    categories: tuple[int, ...] = PUBLISHED
    systems: tuple[str, ...] = (MEMORY, FULL)
    runs: int = 3
    questions: int | None = None  # the first so many, in the file's order
    context_window: int = 128_000  # tokens

    def __post_init__(self) -> None:
        if not self.categories or not set(self.categories) <= set(PUBLISHED):
            shown = ", ".join(map(str, PUBLISHED))
            raise Invalid(
                f"categories must be some of {shown}: others have no answer key", argument="categories"
            )
        if not self.systems or not set(self.systems) <= set(SYSTEMS):
            raise Invalid(f"systems must be some of {', '.join(SYSTEMS)}", argument="systems")


@dataclass(frozen=True, slots=True)
class Plan:
    """The questions by conversation, the systems that are asked about each, and what was left out and why."""

    asked: tuple[tuple[Conversation, tuple[Question, ...], tuple[str, ...]], ...]
    keys: Mapping[str, str]
    limits: Limits
    notes: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[str, Question]]:
        """Every (system, question), in the order of the data."""
        return [
            (system, question)
            for _, questions, systems in self.asked
            for system in systems
            for question in questions
        ]

    def missing(self, state: State) -> tuple[int, int]:
        """(answers, verdicts) that are still to be asked for."""
        pairs, runs = self.pairs(), range(self.limits.runs)
        answers = sum((system, q.id) not in state.answers for system, q in pairs)
        verdicts = sum((system, q.id, run) not in state.verdicts for system, q in pairs for run in runs)
        return answers, verdicts


def make_plan(conversations: Sequence[Conversation], keys: Mapping[str, str], limits: Limits) -> Plan:
    """Chooses the questions. Raises `Invalid` if there is none."""
    left = limits.questions
    asked, notes = [], []
    without_key = 0
    for conversation in conversations:
        chosen = [q for q in conversation.questions if q.category in limits.categories]
        without_key += sum(q.id not in keys for q in chosen)
        chosen = [q for q in chosen if q.id in keys][:left]
        left = None if left is None else left - len(chosen)
        systems = limits.systems
        if chosen and FULL in systems:
            needed = _longest_prompt(conversation, chosen) + _ROOM
            if needed > limits.context_window:
                systems = tuple(s for s in systems if s != FULL)
                notes.append(
                    f"{conversation.id}: {FULL} is left out, it needs about {needed:,} tokens and the context window "
                    f"has {limits.context_window:,}"
                )
        if chosen and systems:
            asked.append((conversation, tuple(chosen), systems))
    if without_key:
        notes.append(f"{without_key} questions without an answer key are left out")
    if not asked:
        raise Invalid("there is nothing to ask: no question of these categories with a key", argument="data")
    return Plan(tuple(asked), keys, limits, tuple(notes))


def _longest_prompt(conversation: Conversation, questions: Collection[Question]) -> int:
    longest = max((q.text for q in questions), key=len)
    return prompt_tokens(full_context(conversation), longest)


def prompt_tokens(context: str, question: str) -> int:
    """Tokens of an answer prompt, approximately."""
    bare = sum(approximate_tokens(m["content"]) for m in answer_messages("", question))
    return bare - approximate_tokens(NO_MESSAGES) + _tokens_of(context) if context else bare


@lru_cache(maxsize=8)  # a whole conversation takes milliseconds to count, and is sent with every question
def _tokens_of(context: str) -> int:
    return approximate_tokens(context)


@dataclass(slots=True)
class Estimate:
    """Calls and tokens that are still to come, by who is asked. Tokens are approximate."""

    calls: Counter[str] = field(default_factory=Counter)
    tokens_in: Counter[str] = field(default_factory=Counter)
    tokens_out: Counter[str] = field(default_factory=Counter)

    def add(self, who: str, calls: int, tokens_in: int, tokens_out: int) -> None:
        """Adds `calls` calls of so many tokens each."""
        self.calls[who] += calls
        self.tokens_in[who] += calls * tokens_in
        self.tokens_out[who] += calls * tokens_out

    def price(self, price_in: float, price_out: float) -> float:
        """Of everything, in the currency of the prices, which are per million tokens."""
        return (self.tokens_in.total() * price_in + self.tokens_out.total() * price_out) / 1e6


def estimate(plan: Plan, state: State, *, top_k: int, budget_tokens: int | None) -> Estimate:
    """What is missing in `state`. A search is not run for it: its context is taken as `top_k` messages of the
    conversation's mean length and half as much again (what is found is longer than the mean), or as its budget."""
    found = Estimate()
    for conversation, questions, systems in plan.asked:
        lengths = [approximate_tokens(message) for message in messages(conversation)]
        whole = sum(lengths)
        mean = whole / max(1, len(lengths))
        searched = min(whole, budget_tokens if budget_tokens is not None else round(1.5 * mean * top_k))
        sizes = {MEMORY: searched, FULL: whole}
        for system in systems:
            for question in questions:
                held = state.answers.get((system, question.id))
                if held is None:
                    size = prompt_tokens("", question.text) + sizes.get(system, 0)
                    found.add(f"answers, {system}", 1, size, ANSWER_TOKENS)
                missing = sum((system, question.id, r) not in state.verdicts for r in range(plan.limits.runs))
                judged = judge_messages(question.text, plan.keys[question.id], held.text if held else "")
                size = sum(approximate_tokens(m["content"]) for m in judged)
                size += 0 if held else ANSWER_TOKENS
                if missing:
                    found.add("verdicts", missing, size, VERDICT_TOKENS)
    return found
