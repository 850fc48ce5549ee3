"""The use cases as durable jobs: queues, schedules, and what happens after a crash."""
