from ansible_collections.fleet.criu.tests.unit.fakes import FakeRunner


def test_x():
    assert FakeRunner()
