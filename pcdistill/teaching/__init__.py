"""The teacher's knowledge: who teaches, what a student is told, and where."""

from pcdistill.teaching.agreement import Agreement, Watched, agreement, before_training
from pcdistill.teaching.focus import Focus
from pcdistill.teaching.kept import KeptTeacher, TeacherFacts
from pcdistill.teaching.online import Online
from pcdistill.teaching.onpolicy import OnPolicy, OnPolicyOptions
from pcdistill.teaching.teacher import Teacher, read_teacher

__all__ = [
    "Agreement",
    "Focus",
    "KeptTeacher",
    "OnPolicy",
    "OnPolicyOptions",
    "Online",
    "Teacher",
    "TeacherFacts",
    "Watched",
    "agreement",
    "before_training",
    "read_teacher",
]
