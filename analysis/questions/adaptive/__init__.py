"""What do batch sizes that follow the noise scale along training gain over fixed ones (`bcrit adaptive`)?"""

from bcrit.analysis.questions.adaptive.answer import ask

__all__ = ["ask"]
