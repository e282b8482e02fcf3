"""How sharp is the loss around the winners, beside what un-tuned training finds (`bcrit landscape`)?"""

from bcrit.analysis.questions.landscape.answer import ask

__all__ = ["ask"]
