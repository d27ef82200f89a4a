"""The teacher's knowledge: who teaches, what a student is told, and where."""

from pcdistill.teaching.lessons import Online
from pcdistill.teaching.teacher import Teacher, read_teacher

__all__ = ["Online", "Teacher", "read_teacher"]
