"""What leaves the project: the model that MLflow stores."""

from cxr_isnet.deployment.model_package import log_classifier

__all__ = ["log_classifier"]
