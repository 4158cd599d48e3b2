"""Results of threads."""

import itertools
import threading
import time

from flowprep.system.threads import in_threads


def test_results_of_threads_are_in_order_and_slots_are_not_shared():
    busy, lock, most = set(), threading.Lock(), []

    def work(slot, key):
        with lock:
            assert slot not in busy
            busy.add(slot)
            most.append(len(busy))
        time.sleep(0.001 * (key % 3))
        with lock:
            busy.remove(slot)
        return key * key

    results = list(in_threads(work, range(40), 4, 6, held=2))
    assert [result for _, result in results] == [n * n for n in range(40)]
    assert {slot for slot, _ in results} == set(range(6)) and max(most) == 4
    # A slot comes back when the second result after its own is asked for.
    for held in (1, 2):
        slots = [slot for slot, _ in in_threads(work, range(40), 4, 6, held=held)]
        assert all(a != b for a, b in itertools.pairwise(slots))
