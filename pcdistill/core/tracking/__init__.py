"""Who is told of losses, pictures and results of long commands: a file each, or an entry point of another package."""

from pcdistill.core.registry import import_modules
from pcdistill.core.tracking.asked import Tracked, Tracking
from pcdistill.core.tracking.base import Facts, Tracker, trackers

import_modules(__name__, __path__)

__all__ = ["Facts", "Tracked", "Tracker", "Tracking", "trackers"]
