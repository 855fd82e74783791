"""The bundle that the desk scores with: the one of the settings, as workers have it. Loaded once, when first needed."""

from __future__ import annotations

import threading

from model.bundle import Bundle
from stream.scoring.prediction import Predictor
from stream.settings import Settings


class ModelInUse:
    """Loads the bundle; threads that ask meanwhile wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._predictor: Predictor | None = None

    @property
    def predictor(self) -> Predictor:
        """Scores by the bundle, under the alert policy and the rules of the settings. Raises `BundleError`."""
        with self._lock:
            if self._predictor is None:
                settings = self._settings
                bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
                policy = settings.alert_policy(bundle.thresholds)
                self._predictor = Predictor(bundle, policy, settings.topics, settings.portfolio_rules())
            return self._predictor

    @property
    def bundle(self) -> Bundle:
        """The bundle. Raises `BundleError`."""
        return self.predictor.bundle
