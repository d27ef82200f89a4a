"""What came of a run, apart from the set: whether its loss fell, and where what it needed came from."""

from pcdistill.condense.loop import Follower


class Outcome(Follower):
    """Listens to a run.

    Attributes:
        kept: whether the networks or experts that it needed were in the cache.
        worse: what is wrong with the result; empty where the loss fell.
    """

    kept = False
    worse = ""

    def prepared(self, kept: bool) -> None:
        self.kept = kept

    def judged(self, before: float, after: float) -> None:
        if not after < before:
            change = "never fell from" if after == before else "rose from"
            self.worse = f"the loss {change} {before:.4g}" + (f" to {after:.4g}" if after != before else "")
