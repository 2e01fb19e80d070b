"""The fused losses and their gradients against the naive formulas in float64, and the memory they take."""

import os
import subprocess
import sys

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from reward_distiller.errors import ModelError
from reward_distiller.model.regularizer import FullTeacher, LMHead, TopK, regularize

TOKENS, VOCABULARY, HIDDEN = 7, 20, 5
A, B = 0.3, 0.7  # weights of NLL and KL


@pytest.fixture(autouse=True)
def deterministic():
    """As in training, but an operation without a deterministic kernel is an error here."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def problem(dtype=torch.float64, tokens=TOKENS, seed=0, bias=True, softcap=None):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    hidden, weight = normal(tokens, HIDDEN).requires_grad_(), normal(VOCABULARY, HIDDEN).requires_grad_()
    head = LMHead(weight, normal(VOCABULARY).requires_grad_() if bias else None, softcap)
    target = torch.randint(VOCABULARY, (tokens,), generator=generator)
    return hidden, target, torch.rand(tokens, generator=generator).to(dtype), head


def full_teacher(dtype=torch.float64, width=VOCABULARY, softcap=None, tokens=TOKENS):
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(tokens, 4, generator=generator), torch.randn(width, 4, generator=generator)
    return FullTeacher(hidden.to(dtype), LMHead(weight.to(dtype), None, softcap))


def top_k(teacher, ks):
    """The teacher's ks[t] most probable tokens at t, padded."""
    logits = teacher.hidden_TD @ teacher.head.weight_VD.T
    log_p, ids = logits.log_softmax(-1).topk(max(ks))
    padding = torch.arange(max(ks)) >= torch.tensor(ks)[:, None]
    return TopK(ids.masked_fill(padding, 0), log_p.masked_fill(padding, -torch.inf))


def naive_log_p(hidden, head):
    logits = hidden.double() @ head.weight_VD.double().T
    logits = logits if head.bias_V is None else logits + head.bias_V.double()
    return (logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)).log_softmax(-1)


def naive(hidden, target, weight, head, teacher, tail=True):
    """Equation 4, token by token, in float64: (NLL, KL)."""
    log_q_TV = naive_log_p(hidden, head)
    nll = kl = hidden.new_zeros((), dtype=torch.float64)
    for t, log_q in enumerate(log_q_TV):
        w = weight[t].double()
        nll = nll - w * log_q[target[t]]
        if isinstance(teacher, FullTeacher):
            log_p = naive_log_p(teacher.hidden_TD, teacher.head)[t]
            shared = min(len(log_p), len(log_q))
            kl = kl + w * sum(log_p[v].exp() * (log_p[v] - log_q[v]) for v in range(shared))
        elif isinstance(teacher, TopK):
            real = teacher.log_p_TK[t] > -torch.inf
            ids, log_p = teacher.ids_TK[t][real], teacher.log_p_TK[t][real].double()
            outside = torch.ones(len(log_q), dtype=torch.bool)
            outside[ids] = False
            if tail:
                p_tail = 1 - log_p.exp().sum()
                kl = kl + w * (log_p.exp() * (log_p - log_q[ids])).sum()
                if outside.any():
                    kl = kl + w * p_tail * (p_tail.log() - log_q[outside].exp().sum().log())
            else:
                log_p = log_p.log_softmax(-1)
                kl = kl + w * (log_p.exp() * (log_p - log_q[ids])).sum()
    return nll, kl


TEACHERS = {
    "none": lambda dtype: None,
    "full": full_teacher,
    "full, capped": lambda dtype: full_teacher(dtype, softcap=2.0),
    "full, wider": lambda dtype: full_teacher(dtype, width=VOCABULARY + 3),
    "full, narrower": lambda dtype: full_teacher(dtype, width=VOCABULARY - 3),
    "top 4": lambda dtype: top_k(full_teacher(dtype), [4] * TOKENS),
    "top 1 to 7": lambda dtype: top_k(full_teacher(dtype), [1, 7, 3, 2, 5, 1, 4]),
    "top all": lambda dtype: top_k(full_teacher(dtype), [VOCABULARY] * TOKENS),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("chunk_logits", [1, 3 * VOCABULARY, 10**9])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("name", TEACHERS)
def test_losses_and_gradients_are_the_formulas(name, tail, softcap, chunk_logits, dtype):
    hidden, target, weight, head = problem(dtype, softcap=softcap)
    teacher = TEACHERS[name](dtype)
    b = 0.0 if teacher is None else B
    made = regularize(
        hidden, target, weight, head, teacher, nll_weight=A, kl_weight=b, tail=tail, chunk_logits=chunk_logits
    )
    nll, kl = naive(hidden, target, weight, head, teacher, tail)
    close = {"abs": 1e-5} if dtype == torch.float32 else {"abs": 1e-11}
    assert made.nll.item() == pytest.approx(nll.item(), **close)
    assert made.kl.item() == pytest.approx(kl.item(), **close)
    assert made.loss.item() == pytest.approx((A * nll + b * kl).item(), **close)
    parameters = hidden, head.weight_VD, head.bias_V
    expected = torch.autograd.grad(A * nll + b * kl, parameters)
    for ours, exact in zip(torch.autograd.grad(made.loss, parameters), expected):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), exact.double(), rtol=0, atol=close["abs"])


@given(st.integers(1, VOCABULARY), st.integers(0, 10), st.floats(0.1, 60.0))
def test_top_k_is_the_formula_for_sharp_and_flat_students(k, seed, scale):
    """Top-k with the tail is never above the full KL: merging events loses information."""
    hidden, target, weight, head = problem(seed=seed, bias=False)
    head = LMHead((scale * head.weight_VD).detach().requires_grad_())
    teacher = full_teacher()
    cached = top_k(teacher, [k] * TOKENS)
    made = regularize(hidden, target, weight, head, cached, kl_weight=1.0)
    _, kl = naive(hidden, target, weight, head, cached)
    assert made.kl.item() == pytest.approx(kl.item(), rel=1e-9, abs=1e-9)
    assert made.kl <= regularize(hidden, target, weight, head, teacher, kl_weight=1.0).kl + 1e-9
    made.loss.backward()
    assert hidden.grad.isfinite().all()
    assert head.weight_VD.grad.isfinite().all()


def test_a_student_that_is_the_teacher_has_no_kl_and_no_gradient():
    hidden, target, weight, head = problem(torch.float32, bias=False)
    same = FullTeacher(hidden.detach(), LMHead(head.weight_VD.detach()))
    for teacher in (same, top_k(same, [3] * TOKENS)):
        made = regularize(hidden, target, weight, head, teacher, nll_weight=0.0, kl_weight=1.0)
        (gradient,) = torch.autograd.grad(made.loss, hidden)
        assert made.kl.item() == pytest.approx(0, abs=1e-6)
        assert gradient.abs().max() < 1e-6


def test_a_teacher_that_is_off_by_one_position_is_seen():
    hidden, target, weight, head = problem(bias=False)
    late = FullTeacher(hidden.detach().roll(1, 0), LMHead(head.weight_VD.detach()))
    for teacher in (late, top_k(late, [3] * TOKENS)):
        assert regularize(hidden, target, weight, head, teacher).kl > 0.1


def test_the_teacher_gets_no_gradient():
    hidden, target, weight, head = problem()
    teacher = full_teacher()
    teacher.hidden_TD.requires_grad_()
    teacher.head.weight_VD.requires_grad_()
    regularize(hidden, target, weight, head, teacher, kl_weight=1.0).loss.backward()
    assert teacher.hidden_TD.grad is None
    assert teacher.head.weight_VD.grad is None


@pytest.mark.parametrize("chunk_logits", [3 * VOCABULARY, 10**9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_weight_grad_is_the_plain_gradient_over_two_micro_batches(dtype, chunk_logits):
    expected, ours = [], []
    for collect, in_place in ((expected, False), (ours, True)):
        _, _, _, head = problem(dtype)
        head.weight_VD.grad = torch.ones_like(head.weight_VD)  # something is there already
        place = head.weight_VD.grad
        for seed in (1, 2):
            hidden, target, weight, _ = problem(dtype, seed=seed)
            made = regularize(
                hidden,
                target,
                weight,
                head,
                full_teacher(dtype),
                kl_weight=B,
                chunk_logits=chunk_logits,
                weight_grad=place if in_place else None,
            )
            (made.loss + hidden.sum()).backward()
            collect.append(hidden.grad)
        assert head.weight_VD.grad is place
        collect.extend([place, head.bias_V.grad])
    for one, other in zip(ours, expected):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_with_weight_grad_a_scaled_loss_is_refused():
    hidden, target, weight, head = problem()
    loss = regularize(hidden, target, weight, head, weight_grad=torch.zeros_like(head.weight_VD)).loss
    with pytest.raises(ValueError, match="not 1"):
        (2 * loss).backward()


def test_a_scaled_loss_scales_the_gradients_and_gives_them_once():
    hidden, target, weight, head = problem()
    (once,) = torch.autograd.grad(regularize(hidden, target, weight, head).loss, hidden)
    loss = regularize(hidden, target, weight, head).loss
    (twice,) = torch.autograd.grad(2 * loss, hidden, retain_graph=True)
    torch.testing.assert_close(twice, 2 * once)
    with pytest.raises(RuntimeError, match="given out once"):
        torch.autograd.grad(loss, hidden)


def test_gradients_are_made_for_what_needs_them_only():
    hidden, target, weight, head = problem()
    place = torch.zeros_like(head.weight_VD)
    with torch.no_grad():
        made = regularize(hidden, target, weight, head, weight_grad=place)
    assert not made.loss.requires_grad
    assert not place.any()
    frozen = LMHead(head.weight_VD.detach(), head.bias_V.detach())
    made = regularize(hidden, target, weight, frozen)
    made.loss.backward()
    assert hidden.grad.any()
    assert not regularize(hidden.detach(), target, weight, frozen).loss.requires_grad
    regularize(hidden.detach(), target, weight, head).loss.backward()
    assert head.weight_VD.grad.any()
    assert not made.nll.requires_grad


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_bfloat16_is_close_and_the_weight_keeps_its_fp32_gradient(autocast, in_place):
    hidden, target, weight, head = problem(torch.float32, bias=False)
    nll, kl = naive(hidden, target, weight, head, full_teacher(torch.float32))
    exact = torch.autograd.grad(nll + B * kl, (hidden, head.weight_VD))
    place = torch.zeros_like(head.weight_VD) if in_place else None
    given = hidden if autocast else hidden.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        made = regularize(
            given, target, weight, head, full_teacher(torch.float32), kl_weight=B, chunk_logits=60, weight_grad=place
        )
        made.loss.backward()
    assert made.loss.dtype == torch.float32
    assert made.loss.item() == pytest.approx((nll + B * kl).item(), rel=0.02)
    for ours, naively in zip((hidden.grad, place if in_place else head.weight_VD.grad), exact):
        assert ours.dtype == torch.float32
        assert (ours - naively).norm() < 0.02 * naively.norm()


def test_no_tokens_are_no_loss_and_no_gradient():
    hidden, target, weight, head = problem(tokens=0)
    for teacher in (None, full_teacher(tokens=0), TopK(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3))):
        made = regularize(hidden, target, weight, head, teacher)
        made.loss.backward()
        assert made.loss == 0
        assert hidden.grad.shape == (0, HIDDEN)
        assert not head.weight_VD.grad.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t, w: (h, t, w[:, None]), "are needed, got shapes"),
        (lambda h, t, w: (h, t[:, None], w[:, None]), "are needed, got shapes"),
        (lambda h, t, w: (h, t, w[:1]), "are needed, got shapes"),
        (lambda h, t, w: (h[None], t, w), "are needed, got shapes"),
        (lambda h, t, w: (h[:1], t, w), "1 positions, but 7 targets"),
        (lambda h, t, w: (h, t - VOCABULARY, w), "targets from"),
        (lambda h, t, w: (h, t + VOCABULARY, w), "targets from"),
        (lambda h, t, w: (h.half(), t, w), "bfloat16"),
    ],
)
def test_what_would_broadcast_or_is_no_token_is_refused(change, message):
    hidden, target, weight, head = problem()
    with pytest.raises(ValueError, match=message):
        regularize(*change(hidden, target, weight), head)


def test_a_teacher_of_other_positions_or_a_missing_one_is_refused():
    hidden, target, weight, head = problem()
    with pytest.raises(ValueError, match="teacher's hidden states"):
        regularize(hidden, target, weight, head, full_teacher(tokens=1))
    with pytest.raises(ValueError, match="top-k rows"):
        regularize(hidden, target, weight, head, TopK(torch.zeros(1, 2), torch.zeros(1, 2)))
    with pytest.raises(ValueError, match="needs a teacher"):
        regularize(hidden, target, weight, head, kl_weight=1.0)
    with pytest.raises(ValueError, match="weight_grad of shape"):
        regularize(hidden, target, weight, head, weight_grad=torch.zeros(1, HIDDEN))


@pytest.mark.parametrize(
    ("ids", "log_p", "message"),
    [
        ([0, VOCABULARY], [-1.0, -1.0], "beyond the student's vocabulary"),
        ([0, -1], [-1.0, -1.0], "beyond the student's vocabulary"),
        ([3, 3], [-1.0, -1.0], "twice"),
        ([0, 1], [-0.5, -0.5], "more than 1"),
        ([0, 1], [-1.0, float("nan")], "more than 1"),
        ([0, 1], [-torch.inf, -1.0], "empty"),
    ],
)
def test_a_top_k_row_that_is_no_distribution_is_refused(ids, log_p, message):
    hidden, target, weight, head = problem(tokens=1)
    with pytest.raises(ValueError, match=message):
        regularize(hidden, target, weight, head, TopK(torch.tensor([ids]), torch.tensor([log_p])))


def test_a_teacher_that_is_certain_has_no_tail_and_gives_numbers():
    hidden, target, weight, head = problem(torch.float32, tokens=1)
    certain = TopK(torch.tensor([[4, 0]]), torch.tensor([[5e-4, -torch.inf]]))  # over 1 by rounding
    made = regularize(hidden, target, weight, head, certain, kl_weight=1.0)
    made.loss.backward()
    assert made.loss.isfinite()
    assert hidden.grad.isfinite().all()


def test_only_a_plain_linear_head_is_taken():
    linear = torch.nn.Linear(4, 9)
    assert LMHead.of(linear, 30.0) == LMHead(linear.weight, linear.bias, 30.0)

    class Wrapped(torch.nn.Linear):
        pass

    for module in (Wrapped(4, 9), torch.nn.Linear(4, 9, device="meta"), torch.nn.Identity(), None):
        with pytest.raises(ModelError, match=r"plain nn\.Linear"):
            LMHead.of(module)


def test_gemma_2_logits_are_capped_as_the_model_caps_them():
    config = transformers.Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        final_logit_softcapping=0.5,
        initializer_range=1.0,
    )
    lm, ids = transformers.Gemma2ForCausalLM(config), torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        log_p = lm(input_ids=ids).logits[0].log_softmax(-1)
        hidden = lm.base_model(input_ids=ids).last_hidden_state[0]
    head = LMHead.of(lm.get_output_embeddings(), lm.config.final_logit_softcapping)
    made = regularize(hidden, ids[0], torch.ones(3), head)
    assert made.nll.item() == pytest.approx(-log_p[range(3), ids[0]].sum().item(), abs=1e-5)


MEMORY = """
import ctypes, sys, torch
from reward_distiller.model.regularizer import FullTeacher, LMHead, regularize

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

torch.set_num_threads(2)
in_place, online, tokens = sys.argv[1] == "in place", sys.argv[2] == "KL", int(sys.argv[3])
vocabulary, width = 151_936, 512
weight = torch.nn.Parameter(torch.full((vocabulary, width), 0.01))
hidden = torch.full((tokens, width), 0.5, requires_grad=True)
teacher = FullTeacher(hidden.detach().clone(), LMHead(torch.full((vocabulary, width), 0.02))) if online else None
target, token_weight = torch.arange(tokens), torch.full((tokens,), 1 / tokens)
torch.ones(64, 64) @ torch.ones(64, 64)  # the library's own buffers
if in_place:
    weight.grad = torch.full_like(weight, 0.001)
ctypes.CDLL(None).malloc_trim(0)
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
place = weight.grad if in_place else None
made = regularize(hidden, target, token_weight, LMHead(weight), teacher, kl_weight=float(online), weight_grad=place)
made.loss.backward()
gradients = hidden.grad.nbytes + (0 if in_place else weight.grad.nbytes)
print(status("VmHWM") - before - gradients)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("mode", "kind", "tokens"),
    [("in place", "KL", 8 * 512), ("in place", "NLL", 512), ("plain", "KL", 512), ("plain", "NLL", 512)],
)
def test_peak_memory_beyond_parameters_and_gradients_stays_under_300_mb(mode, kind, tokens):
    """Responses of 512 tokens over Qwen's vocabulary; the logits of 8 would be 2.5 GB. A chunk holds 110 tokens."""
    output = subprocess.run(
        [sys.executable, "-c", MEMORY, mode, kind, str(tokens)], capture_output=True, text=True, check=True, timeout=300
    )
    beyond = int(output.stdout)
    print(f"{mode}, {kind}, {tokens} tokens: {beyond / 1e6:.0f} MB")
    assert beyond < 300e6
