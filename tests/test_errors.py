"""What messages are made of: one mark ends a sentence."""

import ast
import itertools
from pathlib import Path

import pytest

import snnkit
from snnkit.errors import choices, sentences
from snnkit.training.config import parse_config

SOURCE = Path(snnkit.__file__).parent
ENDS = {"choices", "nearest", "sentences", "unknown"}
"""Functions whose text may end with a mark of its own."""


def called(node):
    return next((f.id for f in (getattr(n, "func", None) for n in ast.walk(node)) if hasattr(f, "id")), None)


def test_no_message_goes_on_with_a_full_stop_after_a_mark():
    wrong, seen = [], 0
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for part, then in itertools.pairwise([*parts, None]):
                if isinstance(part, ast.FormattedValue) and called(part.value) in ENDS:
                    seen += 1
                    after = getattr(then, "value", "")
                    if isinstance(after, str) and after.startswith((".", ";", ",")):
                        wrong.append(f"{path}:{part.lineno}")
    assert seen > 10
    assert not wrong


@pytest.mark.parametrize(
    ("problems", "text"),
    [
        (["a is wrong"], "a is wrong."),
        (["a is wrong.", "b, did you mean 'c'?"], "a is wrong; b, did you mean 'c'?"),
        (["b, did you mean 'c'?", "a is wrong"], "b, did you mean 'c'? a is wrong."),
    ],
)
def test_problems_end_with_one_mark_each(problems, text):
    assert sentences(problems) == text


def test_a_question_and_a_list_end_their_sentence():
    assert choices("trian", ["train", "test"]) == ", did you mean 'train'?"
    assert choices("zzz", ["train", "test"]) == ", known are train, test."
    with pytest.raises(ValueError, match=r"did you mean 'epochs'\?$"):
        parse_config({"train": {"epoch": 3}})
