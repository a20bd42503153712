"""Chest X-ray classifiers that look at the lungs: ISNet training and honest external evaluation.

Research software, not a medical device.
"""

__version__ = "0.2.0"
