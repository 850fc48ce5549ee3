"""Which instances rules take, held against saying it in one line, and what they say of it."""

from __future__ import annotations

from dataclasses import fields
from fnmatch import fnmatchcase

from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.model.cloud import CloudFacts
from sendense.model.coding import decode, encode
from sendense.model.fleet import InstanceName
from sendense.model.policy import MatchRules

words = st.text("aB", max_size=2)
patterns = st.lists(st.text("aB*?", min_size=1, max_size=3), max_size=2).map(tuple)
some = st.just(()) | st.just(()) | patterns
tag_patterns = st.lists(
    st.text("aB*", max_size=2) | st.builds("{}={}".format, *[st.text("aB*", max_size=2)] * 2),
    max_size=2,
).map(tuple)
clouds = st.builds(
    CloudFacts, cloud_id=words, cloud=words, name=words, other_name=words, zone=words,
    domain=words, account=words, project=words, offering=words,
    tags=st.dictionaries(words, words, max_size=2),
)  # fmt: skip
instances = st.builds(
    InstanceName, uuid=st.sampled_from(["u1", "u2"]), name=words.filter(bool),
    host_id=st.none() | st.sampled_from(["h1", "h2"]), cloud=st.none() | clouds,
    own_of=st.sampled_from(["", "", "west"]),
)  # fmt: skip
rules = st.builds(
    MatchRules, names=some, hosts=st.just(()) | st.just(("h1",)),
    instances=st.just(()) | st.just(("u1",)), except_names=some, clouds=some, zones=some,
    domains=some, accounts=some, projects=some, tags=st.just(()) | tag_patterns, offerings=some,
    except_tags=st.just(()) | tag_patterns,
)  # fmt: skip


def fits(given, values):
    return any(value and fnmatchcase(value, pattern) for pattern in given for value in values)


def tagged(given, tags):
    return any(
        fnmatchcase(f"{key}={value}" if "=" in pattern else key, pattern)
        for pattern in given
        for key, value in tags.items()
    )


def taken(rules, instance):
    cloud = instance.cloud or CloudFacts("", "", "")
    names = (instance.name, cloud.name, cloud.other_name)
    if instance.own_of:
        return False
    if fits(rules.except_names, names) or tagged(rules.except_tags, cloud.tags):
        return False
    kinds = [
        (rules.names, fits(rules.names, names)),
        (rules.hosts, instance.host_id in rules.hosts),
        (rules.clouds, fits(rules.clouds, (cloud.cloud, cloud.cloud_id))),
        (rules.zones, fits(rules.zones, (cloud.zone,))),
        (rules.domains, fits(rules.domains, (cloud.domain,))),
        (rules.accounts, fits(rules.accounts, (cloud.account,))),
        (rules.projects, fits(rules.projects, (cloud.project,))),
        (rules.tags, tagged(rules.tags, cloud.tags)),
        (rules.offerings, fits(rules.offerings, (cloud.offering,))),
    ]
    verdicts = [verdict for given, verdict in kinds if given]
    return instance.uuid in rules.instances or (bool(verdicts) and all(verdicts))


@settings(max_examples=400, deadline=None)
@given(rules=rules, instance=instances)
def test_what_is_taken_and_said(rules, instance):
    expected = taken(rules, instance)
    assert rules.match(instance) is expected
    said = rules.explain(instance)
    assert said.startswith("taken: ") is expected
    assert said.startswith(("taken: ", "not taken: ", "left out: "))
    assert decode(MatchRules, encode(rules)) == rules


def test_rules_of_before_still_count():
    old = {"names": ["web-*"], "hosts": [], "instances": ["u1"], "except_names": ["web-x"]}
    assert decode(MatchRules, old) == MatchRules(("web-*",), (), ("u1",), ("web-x",))
    assert {field.name for field in fields(MatchRules)} > set(old)
