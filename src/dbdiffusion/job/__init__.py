"""The main job behind ``python -m dbdiffusion``: may use every other room; nobody uses it."""

from dbdiffusion._arguments import parse_arguments
from dbdiffusion.job._evaluate import score_frame, score_targets
from dbdiffusion.job._job import HalfDoneError, readable, run_job
from dbdiffusion.job._output import check_output, whole_folder
from dbdiffusion.job._questions import answer_question
from dbdiffusion.job._report import verdicts_of

__all__ = [
    "HalfDoneError",
    "answer_question",
    "check_output",
    "parse_arguments",
    "readable",
    "run_job",
    "score_frame",
    "score_targets",
    "verdicts_of",
    "whole_folder",
]
