from __future__ import annotations
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.pair import Pair

def test_good(pair: Pair) -> None:
    pair.run()
    print(pair.source.log()); print(pair.target.log())
    print(pair.source.steps(), pair.target.steps(), pair.lives())
    print(pair.source.result()); print(pair.target.result())
    assert 0
