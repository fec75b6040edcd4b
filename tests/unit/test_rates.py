from memos_ray.rates import Rates


def test_rates_are_those_of_the_last_seconds():
    rates = Rates(window_s=10.0)
    assert rates.per_s("calls", 0.0) == 0.0
    rates.sample(0.0)
    assert rates.per_s("calls", 0.0) == 0.0
    for second in range(1, 31):
        rates.add("calls", 100 if second <= 15 else 10)
        rates.sample(float(second))
        if second == 15:
            assert rates.per_s("calls", 15.0) == 100.0
    assert rates.per_s("calls", 30.0) == 10.0
    assert rates.per_s("moves", 30.0) == 0.0


def test_between_two_samples_the_newest_counts():
    rates = Rates()
    rates.sample(0.0)
    rates.add("calls", 8)
    assert rates.per_s("calls", 4.0) == 2.0
