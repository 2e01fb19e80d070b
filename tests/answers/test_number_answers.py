"""Where a number stands in a response, and which it is."""

import threading
import time

import pytest

from reward_distiller.answers import answer_format

NUMBER = answer_format("number")


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        # statements
        (r"So \boxed{18}.", "18"),
        ("5 + 5 = 10\n#### 18", "18"),
        ("The answer is 18 apples, of 20.", "18"),
        ("**Final Answer:** 18", "18"),
        ("Final Answer:\n\n**18 dollars**", "18"),
        ("The answer to the question is: 18", "18"),
        ("The answer is that he runs 3 sprints for 540 meters. Then 7.", "540"),
        ("Answer: 3\nBut no. Answer: 4\nHe has 12 left.", "4"),
        ("#### 5\nThe answer is: 6", "6"),
        (r"\boxed{3} or rather \boxed{4}, of 7", "4"),
        (r"The answer is 3, so \boxed{4}", "4"),
        (r"\boxed{4}. The answer is 3", "3"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{\text{about } \boxed{7}}", "7"),
        ("#### 1. Add the numbers\n5 + 7 = 12", "12"),
        ("5 + 7 = 12", "12"),
        ("The answer is the sum.\n5 + 7 = 12", "12"),
        ("no number", None),
        ("", None),
        (r"he has 5, so \boxed{1", None),
        (r"he has 5, so \boxed{\text{Monday}}", None),
        ("5 + 5\n#### unknown", None),
        ("<think>5 + 7 = 12", None),
        ("<think>The answer is 5</think>The answer is 6", "6"),
        # ambiguous
        (r"\boxed{3, 4}", None),
        (r"\boxed{3,4}", None),
        (r"\boxed{2 3}", None),
        ("The answer is 5 or 6", None),
        ("The answer is 3:4", None),
        # signs, separators, decimals
        ("-5", "-5"),
        ("x = −5", "-5"),
        ("- 5 apples", "5"),
        ("16-3", "3"),
        ("#### -1,234.50", "-2469/2"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("1,234", "1234"),
        ("1 234", "1234"),
        ("1\u202f234\u202f567", "1234567"),
        ("1'234", "1234"),
        ("1，234", "1234"),
        ("1,00,000", "100000"),
        (r"\boxed{1{,}234}", "1234"),
        ("a list 1, 2", "2"),
        ("100,000,00", None),
        ("4.50", "9/2"),
        (".5", "1/2"),
        ("007", "7"),
        ("18.", "18"),
        ("version 1.2.3", None),
        ("on 2024/1/5", None),
        # fractions
        ("The answer is 3/4.", "3/4"),
        ("6/8", "3/4"),
        ("-1/2", "-1/2"),
        ("3/-4", "-3/4"),
        ("1/0", None),
        ("1 1/2 cups", "3/2"),
        ("1½", "3/2"),
        ("½", "1/2"),
        (r"\boxed{-\dfrac{1}{2}}", "-1/2"),
        (r"\boxed{1\frac{1}{2}}", "3/2"),
        (r"The answer is $\frac34$", "3/4"),
        # percent, currencies, units, times
        ("25%", "25"),
        (r"\boxed{25\%}", "25"),
        ("answer: $18", "18"),
        (r"#### \$18", "18"),
        (r"\boxed{\$18.00}", "18"),
        ("18 dollars", "18"),
        ("€1,000", "1000"),
        (r"\boxed{5 \text{ cm}}", "5"),
        (r"\boxed{5\text{ km/h}}", "5"),
        (r"\boxed{20 m^2}", "20"),
        (r"\boxed{90^\circ}", "90"),
        ("#### 2:00 pm", "2"),
        # powers of ten
        ("3e5", "300000"),
        ("3.2 x 10^5 stars", "320000"),
        (r"\boxed{5 \times 10^{-3}}", "1/200"),
        # digits of other scripts
        ("٣٤", "34"),
        ("१२", "12"),
        ("３４", "34"),
        ("共540米", "540"),
        ("x² and CO2", None),
        # sums and expressions
        ("The answer is $3*4=12$.", "12"),
        (r"\boxed{x=5}", "5"),
        (r"\boxed{2+3}", "5"),
        (r"\boxed{3(4)}", "12"),
        (r"\boxed{(\sqrt{2}+1)(\sqrt{2}-1)}", "1"),
        (r"\boxed{\sqrt{2}}", r"\sqrt{2}"),
        (r"\boxed{x+1}", "x+1"),
    ],
)
def test_the_final_number_is_found(response, answer):
    assert NUMBER.extract(response) == answer


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (r"\sqrt{8}", r"2\sqrt{2}", True),
        (r"2\pi", r"\pi*2", True),
        ("x(x+1)", "x^2+x", True),
        ("x+1", "1+x", True),
        (r"1.5\pi", r"\frac{3\pi}{2}", True),
        (r"\sqrt{5+2\sqrt{6}}", r"\sqrt{2}+\sqrt{3}", True),
        ("x+1", "x+2", False),
        ("x", "y", False),
        (r"\sqrt{2}", "1.41421356237309504880", False),
        ("1/3", "0.333333", False),
        ("4.5", "9/2", True),
    ],
)
def test_sameness_is_exact_and_symmetric(a, b, same):
    a, b = NUMBER.extract(rf"\boxed{{{a}}}"), NUMBER.extract(rf"\boxed{{{b}}}")
    assert a is not None
    assert b is not None
    assert NUMBER.same(a, b) is same
    assert NUMBER.same(b, a) is same
    assert NUMBER.same(a, a)


HOSTILE = {
    "digits": "9" * 10**6,
    "boxed digits": rf"\boxed{{{'9' * 10**6}}}",
    "brackets": "(" * 10**6,
    "boxed brackets": rf"\boxed{{{'(' * 30}1{')' * 30}}}",
    "boxes": r"\boxed{" * 150_000,
    "closed boxes": r"\boxed{" * 150_000 + "}" * 150_000,
    "short tower": r"\boxed{9^{9^{9^{9}}}}",
    "flat tower": r"\boxed{9^9^9^9}",
    "powers of powers": r"\boxed{((9^{9})^{9})^{9}}",
    "tower": r"\boxed{" + "9^{" * 200 + "9" + "}" * 201,
    "power of ten": "1e999999999 and 10^999999999",
    "factorial": r"\boxed{99999!!!}",
    "polynomial": r"\boxed{(x+y+z)^{99}}",
    "statements": "the answer is " * 100_000,
    "answers for": "answer for " * 100_000,
    "headings": "answer\n" * 100_000,
    "dollars": "answer is $" * 100_000,
    "hashes": "#" * 10**6,
    "commas": "1," * 500_000,
    "groups": "123 " * 250_000,
    "dots": "1." * 500_000,
    "slashes": "1/" * 500_000,
    "minus": "-" * 10**6,
    "spaces": "answer" + " " * 10**6,
    "commands": r"\frac" * 200_000 + r"\text{" * 100_000,
    "stars": "*_" * 500_000,
    "nulls": "\0" * 10**6,
    "surrogate": "\ud800 5",
}


@pytest.mark.parametrize("name", ["number", "choice"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_read_in_no_time(text, name):
    answer_format("number").extract(r"\boxed{\sqrt{2}}")  # what is imported once
    start = time.perf_counter()
    answer = answer_format(name).extract(text)
    assert time.perf_counter() - start < 1
    assert answer is None or len(answer) < 100


def test_worker_threads_find_the_same():
    texts = [rf"\boxed{{\sqrt{{{n}}}+x}}" for n in range(2, 12)]
    wanted = [NUMBER.extract(text) for text in texts]
    found: dict[int, list[str | None]] = {}

    def work(number: int) -> None:
        fresh = answer_format("number")
        found[number] = [fresh.extract(text) for text in texts]
        found[number].append(str(fresh.same(r"\sqrt{8}", r"2\sqrt{2}")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in wanted
    assert found == {number: [*wanted, "True"] for number in range(4)}
