"""Answers questions about versions with PyPA's own libraries: a JSON document on stdin, one on stdout.

  choices.py resolve    [{"offers": [[name, version, [needs]]], "wanted": [...], "chosen": {name: version} or null}]
                        gives a problem or null for each
  choices.py versions   [[specifiers, version]]
                        gives whether the version is one of them, or null where one of both cannot be read
  choices.py order      [[version, version]]
                        gives -1, 0 or 1, or null
  choices.py tags       {"minor": 13, "glibc": 41, "machine": "x86_64", "tags": [tag]}
                        gives the place of each tag in pip's order, or null
"""

import json
import sys

from packaging import _manylinux, tags
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from resolvelib import BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver
from resolvelib.providers import AbstractProvider


class Provider(AbstractProvider):
    def __init__(self, offers):
        self.offers = {}
        for name, version, needs in offers:
            found = (name, Version(version), tuple(needs))
            self.offers.setdefault(name, []).append(found)
        for found in self.offers.values():
            found.sort(key=lambda candidate: candidate[1], reverse=True)

    def identify(self, requirement_or_candidate):
        one = requirement_or_candidate
        return one.name if isinstance(one, Requirement) else one[0]

    def get_preference(self, identifier, resolutions, candidates, information, backtrack_causes):
        return identifier

    def find_matches(self, identifier, requirements, incompatibilities):
        wanted = list(requirements[identifier])
        excluded = set(incompatibilities[identifier])
        return [
            one
            for one in self.offers.get(identifier, [])
            if one not in excluded and all(wish.specifier.contains(one[1]) for wish in wanted)
        ]

    def is_satisfied_by(self, requirement, candidate):
        return requirement.specifier.contains(candidate[1])

    def get_dependencies(self, candidate):
        return [Requirement(need) for need in candidate[2]]


def exhaustive(needs, wishes, chosen):
    """Tries all versions of all packages that are needed: slow, and never wrong."""
    for wish in wishes:
        if wish.name in chosen:
            if not wish.specifier.contains(chosen[wish.name]):
                return None
            continue
        for name, version in needs:
            if name == wish.name and wish.specifier.contains(version):
                found = exhaustive(needs, wishes + needs[name, version], chosen | {name: version})
                if found is not None:
                    return found
        return None
    return chosen


def problem(case):
    wanted = [Requirement(wish) for wish in case["wanted"]]
    chosen = case["chosen"]
    needs = {(name, version): list(map(Requirement, wishes)) for name, version, wishes in case["offers"]}
    if chosen is None:
        found = exhaustive(needs, wanted, {})
        if found is None:
            return None
        return f"nothing was chosen, and there is {found}"
    for wish in wanted + [wish for one in chosen.items() for wish in needs[one]]:
        if wish.name not in chosen or not wish.specifier.contains(chosen[wish.name]):
            return f"{chosen} does not meet {wish}"
    try:
        Resolver(Provider(case["offers"]), BaseReporter()).resolve(wanted, max_rounds=10000)
    except (ResolutionImpossible, ResolutionTooDeep, RecursionError):
        # where packages need themselves it jumps back too far, or does not end; elsewhere it finds what there is
        return None if in_a_circle(needs) else f"resolvelib finds nothing, and {chosen} was chosen"
    return None


def in_a_circle(needs):
    """Tells whether a package needs itself, by the way of others or at once."""
    after = {}
    for (name, _), wishes in needs.items():
        after.setdefault(name, set()).update(wish.name for wish in wishes)
    for start in after:
        known, todo = set(), list(after[start])
        while todo:
            name = todo.pop()
            if name == start:
                return True
            if name not in known:
                known.add(name)
                todo.extend(after.get(name, ()))
    return False


def admits(pair):
    specifiers, version = pair
    try:
        return SpecifierSet(specifiers).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return None


def order(pair):
    try:
        one, other = map(Version, pair)
    except InvalidVersion:
        return None
    return (one > other) - (one < other)


def places(question):
    minor, machine = question["minor"], question["machine"]
    _manylinux._get_glibc_version = lambda: _manylinux._GLibCVersion(2, question["glibc"])
    platforms = [*_manylinux.platform_tags([machine]), f"linux_{machine}"]
    own = f"cp3{minor}"
    known = [
        *tags.cpython_tags((3, minor), [own], platforms),
        *tags.compatible_tags((3, minor), own, platforms),
    ]
    known = {str(tag): place for place, tag in reversed(list(enumerate(known)))}
    return [known.get(tag) for tag in question["tags"]]


question = json.load(sys.stdin)
each = {"resolve": problem, "versions": admits, "order": order}
answer = places(question) if sys.argv[1] == "tags" else [each[sys.argv[1]](one) for one in question]
json.dump(answer, sys.stdout)
