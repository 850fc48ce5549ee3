"""Calls of a cloud's API as the simplest of clients makes them: no code of the product."""

from __future__ import annotations

from typing import Any

import httpx

from sendense_lab.commands import wait_until
from sendense_lab.simulator.signing import signed

FAILED = 2


class CloudCaller:
    """One user of a cloud."""

    def __init__(self, url: str, api_key: str, secret: str) -> None:
        self._url = url
        self._keys = (api_key, secret)

    def call(self, command: str, **params: object) -> dict[str, Any]:
        """Ask, and give what is below the one key of the answer."""
        words = {name: str(value) for name, value in params.items()}
        request = signed({**words, "command": command, "response": "json"}, *self._keys)
        answer = httpx.post(self._url, data=request, timeout=60)
        assert answer.status_code == 200, answer.text
        (body,) = answer.json().values()
        found: dict[str, Any] = body
        return found

    def one(self, command: str, **params: object) -> dict[str, Any]:
        """The only object of a list."""
        answer = self.call(command, **params)
        (rows,) = (value for value in answer.values() if isinstance(value, list))
        (row,) = rows
        found: dict[str, Any] = row
        return found

    def rows(self, command: str, **params: object) -> list[dict[str, Any]]:
        answer = self.call(command, **params)
        return next((value for value in answer.values() if isinstance(value, list)), [])

    def outcome(self, command: str, **params: object) -> dict[str, Any]:
        """Have a job done, and give how it ended."""
        job = self.call(command, **params)["jobid"]

        def ended() -> dict[str, Any] | None:
            found = self.call("queryAsyncJobResult", jobid=job)
            return found if found["jobstatus"] else None

        return wait_until(ended, f"the end of {command}", timeout_s=150)

    def run(self, command: str, **params: object) -> dict[str, Any]:
        """Have a job done well, and give the object that it tells of."""
        done = self.outcome(command, **params)
        assert done["jobstatus"] != FAILED, done["jobresult"]
        result = done["jobresult"]
        inner = next((value for value in result.values() if isinstance(value, dict)), result)
        found: dict[str, Any] = inner
        return found
