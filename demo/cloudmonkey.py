"""What the story needs of CloudMonkey, CloudStack's own command line, which Debian does not have.

``sendense cloud role`` prints commands for it.  The story runs them as they are printed, with this
in its place: a verb, a noun and parameters become one signed call; a job is waited for; ``filter``
leaves of the answer what it names.  It knows nothing of the product or the simulator, and imports
little: a role is a hundred calls, each a program of its own.

    python -m demo.cloudmonkey PROFILE [-o json] create role type=Admin name=backup filter=id
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import urlopen

FAILED = 2
STAYS_S = 180
_FEWEST = 2
"""A verb and a noun."""


class CloudMonkey:
    """One user of a cloud."""

    def __init__(self, url: str, api_key: str, secret: str) -> None:
        """Ask nothing yet."""
        self.url = url
        self.keys = (api_key, secret)
        self._names: dict[str, str] = {}

    def do(self, words: str, **params: object) -> dict[str, Any]:
        """Do what a verb and a noun say: ``deploy virtualmachine``; a job to its end."""
        answer = self._call(self._name(words.replace(" ", "")), params)
        if "jobid" not in answer:
            return answer
        deadline = time.monotonic() + STAYS_S
        while not (job := self._call("queryAsyncJobResult", {"jobid": answer["jobid"]}))[
            "jobstatus"
        ]:
            if time.monotonic() > deadline:
                raise SystemExit(f"{words} did not end in {STAYS_S} s")
            time.sleep(0.2)
        if job["jobstatus"] == FAILED:
            raise SystemExit(f"{words}: {job['jobresult']}")
        done: dict[str, Any] = job["jobresult"]
        return done

    def made(self, words: str, **params: object) -> dict[str, Any]:
        """Give the object that an answer tells of."""
        answer = self.do(words, **params)
        return next((value for value in answer.values() if isinstance(value, dict)), answer)

    def rows(self, words: str, **params: object) -> list[dict[str, Any]]:
        """Give what a list has."""
        answer = self.do(words, **params)
        return next((value for value in answer.values() if isinstance(value, list)), [])

    def named(self, words: str, name: str, **params: object) -> str:
        """Give the id of what is called so."""
        found = self.rows(words, **params)
        return str(next(row["id"] for row in found if row["name"] == name))

    def profile(self, path: Path) -> None:
        """Write where and as whom it asks, and what there is, for this module as a program."""
        self._name("listApis")
        path.touch(mode=0o600)
        path.write_text(json.dumps({"user": [self.url, *self.keys], "names": self._names}))

    @classmethod
    def of_profile(cls, path: Path) -> CloudMonkey:
        """Give the user of a profile."""
        kept = json.loads(path.read_text())
        monkey = cls(*kept["user"])
        monkey._names = kept["names"]
        return monkey

    def _call(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        words = {name: str(value) for name, value in params.items()}
        words |= {"command": command, "response": "json", "apiKey": self.keys[0]}
        words["signature"] = signature(words, self.keys[1])
        try:
            with urlopen(self.url, urlencode(words).encode(), timeout=60) as answer:  # noqa: S310
                text = answer.read()
        except HTTPError as error:
            text = error.read()
        (body,) = json.loads(text).values()
        if "errorcode" in body:
            raise SystemExit(f"{command}: {body.get('errortext', body)}")
        found: dict[str, Any] = body
        return found

    def _name(self, word: str) -> str:
        """Give a call as CloudStack writes it; its names are of mixed case."""
        if not self._names:
            rows = self._call("listApis", {})["api"]
            self._names = {row["name"].lower(): row["name"] for row in rows}
        try:
            return self._names[word.lower()]
        except KeyError:
            raise SystemExit(f"this user may not call {word}, or it is not there") from None


def signature(words: dict[str, str], secret: str) -> str:
    """Sign a call: names in order, values encoded, all in lower case."""
    pairs = (f"{name}={quote(value, safe='*')}" for name, value in sorted(words.items()))
    digest = hmac.new(secret.encode(), "&".join(pairs).lower().encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def shown(words: str, params: dict[str, object]) -> str:
    """Give a call as it is typed."""
    return shlex.join(["cmk", *words.split(), *(f"{key}={value}" for key, value in params.items())])


def _kept(answer: Any, names: list[str]) -> Any:  # noqa: ANN401 - a document
    if isinstance(answer, list):
        return [_kept(each, names) for each in answer]
    if not isinstance(answer, dict):
        return answer
    inner = {key: _kept(value, names) for key, value in answer.items()
             if isinstance(value, (dict, list))}  # fmt: skip
    return inner | {key: value for key, value in answer.items() if key in names}


def main(arguments: list[str]) -> int:
    """Make one call and print its answer."""
    profile, *words = arguments
    if words[:1] == ["-o"]:
        words = words[2:]
    plain = [word for word in words if "=" not in word]
    params = dict(word.split("=", 1) for word in words if "=" in word)
    if len(plain) < _FEWEST:
        raise SystemExit("a verb and a noun are needed")
    names = params.pop("filter", "").split(",")
    answer = CloudMonkey.of_profile(Path(profile)).do(" ".join(plain), **params)
    print(json.dumps(answer if names == [""] else _kept(answer, names), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
