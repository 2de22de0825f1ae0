# SPDX-License-Identifier: Apache-2.0
"""Learns the range of every activation, from data or from the model alone."""

from edgekit.calibrate.calibration import Calibration, Progress, calibrate
from edgekit.calibrate.observers import METHODS
from edgekit.calibrate.synthetic import calibrate_without_data

__all__ = ["METHODS", "Calibration", "Progress", "calibrate", "calibrate_without_data"]
