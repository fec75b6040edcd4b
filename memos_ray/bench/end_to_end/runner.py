"""Asks for what is missing: answers, then their verdicts, many at once and each one kept as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from memos_ray.bench.end_to_end.plan import prompt_tokens
from memos_ray.bench.end_to_end.prompts import answer_messages, judge_messages
from memos_ray.bench.end_to_end.state import Answer, CountedBy, State, Verdict
from memos_ray.bench.end_to_end.verdict import read_verdict, verdict_schema, without_thoughts
from memos_ray.bench.locomo_data import Question
from memos_ray.bench.report import Deadline
from memos_ray.errors import Unavailable
from memos_ray.models.chat import OpenAIChat, Reply
from memos_ray.retrieval.budget import approximate_tokens

IN_A_ROW = 10  # failed calls without a good one between them, after which a run is given up
_KEPT = 300  # characters of a reply that is no verdict


@dataclass(frozen=True, slots=True)
class Job:
    """One question with one system's context. `context` is None if it was answered before."""

    system: str
    question: Question
    context: str | None = None
    search_s: float | None = None


@dataclass(slots=True)
class Runner:
    """Works off jobs. Calls that fail for good are listed in `failures` and not recorded: another run asks again."""

    answering: OpenAIChat
    judging: OpenAIChat
    keys: Mapping[str, str]
    state: State
    runs: int
    parallel: int
    deadline: Deadline
    done: Callable[[], None]  # called after every call
    failures: list[str] = field(default_factory=list)
    _in_a_row: int = 0

    def run(self, jobs: Sequence[Job]) -> None:
        """Returns once all are done, failed, or the deadline has passed. Raises `Unavailable` after `IN_A_ROW` failures
        one behind the other. What Ctrl-C interrupts is lost, what was there before is kept."""
        asyncio.run(self._run(jobs))

    async def _run(self, jobs: Sequence[Job]) -> None:
        async with AsyncExitStack() as stack:
            for chat in {id(c): c for c in (self.answering, self.judging)}.values():
                await stack.enter_async_context(chat)
            slots = asyncio.Semaphore(self.parallel)
            tasks = [asyncio.create_task(self._one(job, slots)) for job in jobs]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, job: Job, slots: asyncio.Semaphore) -> None:
        answer = self.state.answers.get((job.system, job.question.id))
        if answer is None:
            answer = await self._answer(job, slots)
        if answer is None:
            return
        key = self.keys[job.question.id]
        for run in range(self.runs):
            if (job.system, job.question.id, run) not in self.state.verdicts:
                await self._judge(job, answer, key, run, slots)

    async def _answer(self, job: Job, slots: asyncio.Semaphore) -> Answer | None:
        assert job.context is not None
        messages = answer_messages(job.context, job.question.text)
        reply = await self._ask(slots, self.answering, messages, f"answer {job.system} {job.question.id}")
        if reply is None:
            return None
        text, sent = without_thoughts(reply.text), prompt_tokens(job.context, job.question.text)
        came_in, came_out, by = _counted(reply, sent)
        answer = Answer(
            job.system,
            job.question.id,
            text,
            approximate_tokens=sent,
            prompt_tokens=came_in,
            output_tokens=came_out,
            counted_by=by,
            answer_s=reply.seconds,
            search_s=job.search_s,
        )
        self.state.record(answer)
        return answer

    async def _judge(self, job: Job, answer: Answer, key: str, run: int, slots: asyncio.Semaphore) -> None:
        messages = judge_messages(job.question.text, key, answer.text)
        what = f"verdict {run + 1} {job.system} {job.question.id}"
        reply = await self._ask(slots, self.judging, messages, what, judge=True)
        if reply is None:
            return
        label = read_verdict(reply.text)
        sent = sum(approximate_tokens(m["content"]) for m in messages)
        came_in, came_out, by = _counted(reply, sent)
        said = "" if label else reply.text[:_KEPT]
        self.state.record(
            Verdict(job.system, job.question.id, run, label, came_in, came_out, counted_by=by, said=said)
        )

    async def _ask(
        self,
        slots: asyncio.Semaphore,
        chat: OpenAIChat,
        messages: list[dict[str, str]],
        what: str,
        *,
        judge: bool = False,
    ) -> Reply | None:
        """None: it failed, or there is no time left for it."""
        async with slots:
            if self.deadline.expired():
                return None
            try:
                reply = await chat.ask(messages, json_schema=verdict_schema() if judge else None)
            except Unavailable as error:
                self.failures.append(f"{what}: {error.message}")
                self._in_a_row += 1
                if self._in_a_row >= IN_A_ROW:
                    raise Unavailable(
                        f"{self._in_a_row} calls failed one after another, the last because {error.message}",
                        what="chat model",
                    ) from error
                return None
            finally:
                self.done()
            self._in_a_row = 0
            return reply


def _counted(reply: Reply, sent: int) -> tuple[int, int, CountedBy]:
    """Tokens in and out as the server counted them, else as they are approximately."""
    if reply.prompt_tokens is not None and reply.completion_tokens is not None:
        return reply.prompt_tokens, reply.completion_tokens, "server"
    return sent, approximate_tokens(reply.text), "approximate"
