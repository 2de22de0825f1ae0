# SPDX-License-Identifier: Apache-2.0
"""Places the tensors of a program in the arena."""

from edgekit.plan.liveness import Buffer, lower_bound, timeline
from edgekit.plan.planner import PlanReport, plan

__all__ = ["Buffer", "PlanReport", "lower_bound", "plan", "timeline"]
