"""Counts the tokens that the engine generates, through vLLM's interface for loggers of statistics."""

from __future__ import annotations

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from slipway_serving.http.metrics import ServerMetrics


def token_counter(metrics: ServerMetrics) -> Any:
    """Returns the factory that vLLM calls for each engine."""

    class TokenCounter(StatLoggerBase):
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
        ) -> None:
            if iteration_stats is not None:
                metrics.generated_tokens.inc(iteration_stats.num_generation_tokens)

        def log_engine_initialized(self) -> None:
            pass

    return TokenCounter
