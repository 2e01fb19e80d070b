"""GSM8K, GSM-Plus and MMLU-Pro as tasks of lm-eval over local files, graded by our reading of final answers."""

from reward_distiller.evaluate.policy.lm_eval_tasks.questions import LOCAL_TASKS, LocalTask, Question, questions_of

__all__ = ["LOCAL_TASKS", "LocalTask", "Question", "questions_of"]
