from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.ingest.dates import MAX_MENTIONS, find_mentions, read_times

WEDNESDAY = datetime(2023, 7, 19, 14, 30, tzinfo=UTC)


def days(text: str, said_at: datetime = WEDNESDAY) -> list[tuple[str, str, str]]:
    return [(m.text, str(m.start.date()), str(m.end.date())) for m in find_mentions(text, said_at)]


@pytest.mark.parametrize(
    ("expression", "start", "end"),
    [
        ("yesterday", "2023-07-18", "2023-07-19"),
        ("the day before yesterday", "2023-07-17", "2023-07-18"),
        ("tonight", "2023-07-19", "2023-07-20"),
        ("last night", "2023-07-18", "2023-07-19"),
        ("tomorrow morning", "2023-07-20", "2023-07-21"),
        ("the other day", "2023-07-12", "2023-07-19"),
        ("last Friday", "2023-07-14", "2023-07-15"),
        ("last Wednesday", "2023-07-12", "2023-07-13"),
        ("last Fri", "2023-07-14", "2023-07-15"),
        ("this Friday", "2023-07-21", "2023-07-22"),
        ("next Friday", "2023-07-28", "2023-07-29"),
        ("last week", "2023-07-10", "2023-07-17"),
        ("the week before last", "2023-07-03", "2023-07-10"),
        ("this weekend", "2023-07-22", "2023-07-24"),
        ("last weekend", "2023-07-15", "2023-07-17"),
        ("next month", "2023-08-01", "2023-09-01"),
        ("last year", "2022-01-01", "2023-01-01"),
        ("last summer", "2022-06-01", "2022-09-01"),
        ("last June", "2023-06-01", "2023-07-01"),
        ("3 days ago", "2023-07-16", "2023-07-17"),
        ("two weeks ago", "2023-07-03", "2023-07-10"),
        ("a couple of months ago", "2023-05-01", "2023-06-01"),
        ("a few years back", "2018-01-01", "2022-01-01"),
        ("a year and a half ago", "2022-01-01", "2023-01-01"),
        ("20 hours ago", "2023-07-18", "2023-07-19"),
        ("the past two weeks", "2023-07-05", "2023-07-19"),
        ("next 3 days", "2023-07-19", "2023-07-22"),
        ("two weeks from now", "2023-07-31", "2023-08-07"),
        ("7 May", "2023-05-07", "2023-05-08"),
        ("May 7th, 2022", "2022-05-07", "2022-05-08"),
        ("7th of May, 2022", "2022-05-07", "2022-05-08"),
        ("May 2023", "2023-05-01", "2023-06-01"),
        ("summer of 2022", "2022-06-01", "2022-09-01"),
        ("2023-05-07", "2023-05-07", "2023-05-08"),
        ("2023-05-07T10:00:00Z", "2023-05-07", "2023-05-08"),
        ("2023/5/7", "2023-05-07", "2023-05-08"),
        ("the first weekend of August 2023", "2023-08-05", "2023-08-07"),
        ("the last week of June 2023", "2023-06-26", "2023-07-03"),
        ("The Friday before 15 July 2023", "2023-07-14", "2023-07-15"),
        ("the week before 9 June 2023", "2023-05-29", "2023-06-05"),
        ("the week before", "2023-07-10", "2023-07-17"),
        ("昨天", "2023-07-18", "2023-07-19"),
        ("前天", "2023-07-17", "2023-07-18"),
        ("大前天", "2023-07-16", "2023-07-17"),
        ("昨晚", "2023-07-18", "2023-07-19"),
        ("上周五", "2023-07-14", "2023-07-15"),
        ("下周一", "2023-07-24", "2023-07-25"),
        ("上个星期天", "2023-07-16", "2023-07-17"),
        ("下周末", "2023-07-29", "2023-07-31"),
        ("上个月", "2023-06-01", "2023-07-01"),
        ("上上周", "2023-07-03", "2023-07-10"),
        ("去年", "2022-01-01", "2023-01-01"),
        ("今年三月", "2023-03-01", "2023-04-01"),
        ("去年5月7日", "2022-05-07", "2022-05-08"),
        ("去年夏天", "2022-06-01", "2022-09-01"),
        ("5月7日", "2023-05-07", "2023-05-08"),
        ("三天前", "2023-07-16", "2023-07-17"),
        ("两周后", "2023-07-31", "2023-08-07"),
        ("三个月前", "2023-04-01", "2023-05-01"),
        ("几天前", "2023-07-14", "2023-07-18"),
        ("过去三个月", "2023-04-19", "2023-07-19"),
        ("2023年5月", "2023-05-01", "2023-06-01"),
        ("二〇二三年五月七日", "2023-05-07", "2023-05-08"),
    ],
)
def test_expressions_said_on_a_wednesday(expression: str, start: str, end: str) -> None:
    assert days(expression) == [(expression, start, end)]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("In June I moved here.", "2023-06-01"),
        ("In August I will move.", "2023-08-01"),
        ("In August we went to Rome.", "2022-08-01"),
        ("We met on Monday.", "2023-07-17"),
        ("Let's meet on Monday.", "2023-07-24"),
        ("Over the weekend we hiked.", "2023-07-15"),
        ("I got married on 20 July.", "2022-07-20"),
        ("我们周五见了面", "2023-07-14"),
        ("周五要去上海", "2023-07-21"),
        ("周末我们去爬山了", "2023-07-15"),
        ("I have lived here since 2019.", "2019-01-01"),
    ],
)
def test_tense_decides_what_has_no_year_or_week(text: str, start: str) -> None:
    assert [d[1] for d in days(text)] == [start]


@pytest.mark.parametrize(
    "text",
    [
        "I may go there, and they march on.",
        "on Fridays I swim; on Friday nights I rest",
        "30 February 2023 and Feb 30",
        "version 1.2.3 of 12345 items, 2023 of them at 10.2023.5.6.7",
        "finished it in two days",
        "once in a year or so",
        "每周三次，一周三天",
        "the best day of my life, every day",
        "2023-13-45",
        "ten layers, many prayers",
    ],
)
def test_no_date(text: str) -> None:
    assert days(text) == []


def test_mixed_languages_in_order() -> None:
    assert [d[0] for d in days("昨天 we met, 下周 again, on 7 May 2022")] == ["昨天", "下周", "7 May 2022"]


def test_days_are_those_of_the_speaker() -> None:
    late = datetime(2023, 7, 19, 1, 0, tzinfo=timezone(timedelta(hours=8)))  # still the 18th in UTC
    (mention,) = find_mentions("yesterday", late)
    assert mention.start == datetime(2023, 7, 17, 16, tzinfo=UTC)
    assert mention.end - mention.start == timedelta(days=1)


def test_absolute_only() -> None:
    found = find_mentions("yesterday, 7 May, 7 May 2022, 去年, 2021年", WEDNESDAY, absolute_only=True)
    assert [m.text for m in found] == ["7 May 2022", "2021年"]


@pytest.mark.parametrize(
    ("text", "valid_from"),
    [
        ("I moved to Porto last month.", date(2023, 6, 1)),
        ("Last year we met, and yesterday we married.", date(2022, 1, 1)),
        ("Did you go last month?", date(2023, 7, 19)),
        ("你昨天去了吗？", date(2023, 7, 19)),
        ("Did you go last month? I went yesterday.", date(2023, 7, 18)),
        ("I will go next month.", date(2023, 7, 19)),
        ("This year is good.", date(2023, 7, 19)),
        ("Nothing about time.", date(2023, 7, 19)),
        ("我上个月搬到了杭州", date(2023, 6, 1)),
        ("I have been ill for the past two weeks", date(2023, 7, 5)),
    ],
)
def test_when_a_message_holds(text: str, valid_from: date) -> None:
    times, start = read_times(text, WEDNESDAY)
    assert start.date() == valid_from
    assert (start == WEDNESDAY) == (valid_from == WEDNESDAY.date())
    assert times == find_mentions(text, WEDNESDAY)


def test_edges_of_the_calendar_give_no_date_rather_than_an_error() -> None:
    first = datetime(1, 1, 1, 12, tzinfo=UTC)
    last = datetime(9999, 12, 31, 12, tzinfo=UTC)
    for text in ("yesterday", "two hundred", "300 years ago", "last winter", "去年", "上周五", "前几年"):
        assert days(text, first) == []
    for text in ("tomorrow", "next year", "next 400 weeks", "明年", "下周五", "未来三年"):
        assert days(text, last) == []


def test_mentions_are_bounded() -> None:
    assert len(find_mentions("yesterday and 昨天 " * 500, WEDNESDAY)) == MAX_MENTIONS


zones = st.sampled_from([UTC, timezone(timedelta(hours=-7))])
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=zones)
pieces = (
    "last next this the past 3 two a few days weeks months year weekend Friday June May 7 7th of 2023 ago in "
    "on before after since yesterday tonight from now "
    "上 下 这 个 周 五 月 三 年 前 后 天 昨 去 今 号 日 12 几 2023年"
)
words = st.sampled_from(pieces.split())


@given(st.lists(words, max_size=12), st.sampled_from([" ", ""]), moments)
def test_whatever_is_found_is_a_span_of_time_named_in_the_text(
    parts: list[str], gap: str, at: datetime
) -> None:
    text = gap.join(parts)
    times, valid_from = read_times(text, at)
    for mention in times:
        assert mention.text in text
        assert mention.start < mention.end
        assert mention.start.tzinfo is UTC
    assert valid_from <= at


@given(st.text(max_size=200), moments)
def test_any_text_is_read(text: str, at: datetime) -> None:
    assert read_times(text, at)[1] <= at


@given(st.dates(date(1800, 1, 1), date(2099, 12, 31)), moments)
def test_written_dates_mean_themselves_whenever_said(day: date, at: datetime) -> None:
    name = f"{day:%B}"
    texts = (day.isoformat(), f"{day.day} {name} {day.year}", f"{name} {day.day}, {day.year}")
    for text in (*texts, f"{day.year}年{day.month}月{day.day}日"):
        (found,) = find_mentions(text, at.astimezone(UTC) if at.year not in (1, 9999) else WEDNESDAY)
        assert (found.start.date(), found.end.date()) == (day, day + timedelta(days=1))
        assert found.text == text


@pytest.mark.parametrize(
    ("text", "found", "start", "end"),
    [
        ("Ich war gestern in Köln.", "gestern", "2023-07-18", "2023-07-19"),
        ("Das war vor zwei Wochen.", "vor zwei Wochen", "2023-07-03", "2023-07-10"),
        ("Seit letztes Jahr, am 3. März 2021", "letztes Jahr", "2022-01-01", "2023-01-01"),
        ("Hier j'ai vu Anna", "Hier", "2023-07-18", "2023-07-19"),
        ("C'était le mois dernier", "le mois dernier", "2023-06-01", "2023-07-01"),
        ("Me mudé hace dos semanas", "hace dos semanas", "2023-07-03", "2023-07-10"),
        ("Nací el 5 de mayo de 1990", "5 de mayo de 1990", "1990-05-05", "1990-05-06"),
        ("Ontem fui ao Porto", "Ontem", "2023-07-18", "2023-07-19"),
        ("Ci siamo visti due mesi fa", "due mesi fa", "2023-05-01", "2023-06-01"),
    ],
)
def test_other_languages(text: str, found: str, start: str, end: str) -> None:
    assert days(text)[0] == (found, start, end)


def test_words_of_other_languages_inside_english_are_no_dates() -> None:
    assert days("The players are here, hier ist er, my prayer; there was far too much on the menu") == []
