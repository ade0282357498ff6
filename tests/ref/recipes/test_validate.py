"""The validator: every unsound recipe is refused, with the path of the field; named after the constraints of `validate`."""

# ruff: noqa: E501 - one case a line: base, change, what the error says
from __future__ import annotations

import pytest

from lpref.ref.errors import SpecError
from lpref.specs import recipe

NVFP4_SR = {"base": "nvfp4", "rounding": "stochastic"}
CASES = [
    # V1 transforms
    ("v1_one_operand", "nvfp4", {"linear.wgrad.transform": "none", "linear.wgrad.b.transforms": [{"size": 16}]}, "linear.wgrad: along the contraction axis M, a is in the plain basis and b in H16"),
    ("v1_sizes", "mxfp8", {"linear.dgrad.a.transforms": [{"size": 16}], "linear.dgrad.b.transforms": [{"size": 32}]}, "a is in H16 and b in H32"),
    ("v1_streams", "mxfp8", {"linear.dgrad.a.transforms": [{"size": 16, "signs": "random", "stream": "one"}], "linear.dgrad.b.transforms": [{"size": 16, "signs": "random", "stream": "two"}]}, "random one signs and b in H16 with random two"),
    ("v1_other_not_undone", "halo", {"linear.dgrad.epilogue": []}, "linear.dgrad.epilogue: axis M of the output stays in H128"),
    ("v1_undone_on_the_wrong_side", "halo", {"linear.dgrad.epilogue.0.side": "b"}, "axis K of the output stays in H128"),
    ("v1_undone_with_other_size", "halo", {"linear.dgrad.epilogue.0.transform.size": 64}, "stays in H128 then H64"),
    ("v1_saved_basis", "quartet", {"linear.wgrad.epilogue": [{"kind": "mask", "mask": "w_mask"}]}, "linear.wgrad.epilogue: axis K of the output stays in H32"),
    # V2 masks
    ("v2_mask_after_rotating_back", "quartet", {"linear.dgrad.epilogue": [{"kind": "inverse", "transform": {"size": 32, "tail": "shrink"}}, {"kind": "mask", "mask": "x_mask"}]}, "linear.dgrad.epilogue.1.mask: 'x_mask' was made in H32 along K, here the output is in the plain basis"),
    ("v2_mask_of_another_tensor", "lsq", {"linear.dgrad.epilogue.0.mask": "w_mask"}, "'w_mask' has the axes K x N, the output M x K"),
    ("v2_mask_forgotten", "lsq", {"linear.wgrad.epilogue": []}, "linear.wgrad.epilogue: the gradient rule 'lsq' of fprop.b needs its mask"),
    ("v2_mask_without_rule", "lsq", {"linear.fprop.a.quantizer": "int8_tensor"}, "linear.dgrad.epilogue: fprop.a has the gradient rule 'ste', which leaves gradients as they are"),
    ("v2_no_such_mask", "lsq", {"linear.dgrad.epilogue.0.mask": "xmask"}, "linear.dgrad.epilogue.0.mask: 'xmask' is no saved mask; save has x_mask, w_mask"),
    # V3 sources
    ("v3_x_not_saved", "nvfp4", {"linear.save": {"w": {"what": "codes", "of": "fprop.b"}}}, "linear.wgrad.b.source: hp, but save keeps neither x in high precision nor the codes of wgrad.b"),
    ("v3_no_codes", "bf16", {"linear.save.w": {"what": "reference"}}, "linear.dgrad.b.of: 'w' are no saved codes"),
    ("v3_nothing_before_forward", "bf16", {"linear.fprop.a.source": "requant"}, "linear.fprop.a.source: 'requant', but nothing was quantized before this slot"),
    ("v3_dy_is_not_there_yet", "bf16", {"linear.save.g": {"what": "codes", "of": "dgrad.a"}}, "linear.save.g.of: dY does not exist yet"),
    ("v3_codes_of_high_precision", "bf16", {"linear.fprop.b.quantizer": "none"}, "linear.dgrad.b.source: 'reuse_transposed', but fprop.b has no quantizer"),
    ("v3_x_does_not_outlive", "bf16", {"linear.save.x": {"what": "reference"}}, "linear.save.x.what: only the weight outlives"),
    # V4 reuse
    ("v4_rows_transposed", "nvfp4", {"linear.fprop.b.quantizer": {"base": "nvfp4", "tail": "pad_zero"}}, "linear.dgrad.b.source: codes in blocks of 1 x 16 (other x k) cannot be reused transposed"),
    ("v4_rows_of_tokens", "bitnet_b158", {"linear.wgrad.b.source": "reuse_transposed"}, "linear.wgrad.b.source: codes in blocks of 1 x all"),
    ("v4_plain_reuse_along_another_axis", "fp8_current", {"linear.dgrad.b.source": "reuse"}, "reuse, but these codes are blocked for a contraction over K, dgrad.b contracts over N"),
    ("v4_codes_with_a_quantizer", "fp8_current", {"linear.dgrad.b.quantizer": "fp8_tensor"}, "linear.dgrad.b.quantizer: reuse_transposed takes the codes as they are"),
    ("v4_codes_rotated", "fp8_current", {"linear.dgrad.transform": {"size": 16}}, "linear.dgrad.b.source: codes cannot be transformed"),
    # V5 formats
    ("v5_no_sign", "fp8_current", {"linear.dgrad.a.quantizer.format": "uint8"}, "linear.dgrad.a.quantizer.format: uint8 has no sign, and dy has negative values"),
    ("v5_width", "fp8_current", {"linear.dgrad.a.quantizer.format": "int33"}, "linear.dgrad.a.quantizer.format: int33 is no format; integers have 1 to 16 bits"),
    ("v5_unknown_format", "fp8_current", {"linear.dgrad.a.quantizer.format": "e5m22"}, "linear.dgrad.a.quantizer.format: "),
    ("v5_learned_gradient", "lsq", {"linear.dgrad.a.quantizer": {"base": "int4_learned", "gradient": "lsq"}}, "linear.dgrad.a.quantizer.scale.rule: a learned scale belongs to the forward pass"),
    ("v5_learned_without_lsq", "lsq", {"linear.fprop.a.quantizer.gradient": "clipped_ste"}, "linear.fprop.a.quantizer.gradient.kind: 'clipped_ste' trains no scale, and the scale is learned"),
    ("v5_word_bits", "nvfp4", {"linear.dgrad.a.quantizer.word_bits": 12}, "linear.dgrad.a.quantizer"),
    ("v5_words_without_need", "nvfp4", {"linear.fprop.a.quantizer.word_bits": 8}, "linear.fprop.a.quantizer.word_bits: rounding 'nearest_even' takes no random bits"),
    # V6 tails
    ("v6_tails", "mxfp8", {"linear.fprop.a.quantizer.tail": "partial"}, "linear.fprop: the operands' tails differ (pad_zero and partial)"),
    # V7 sums
    ("v7_part", "ifairy", {"linear.wgrad.terms.0.a": "re"}, "linear.wgrad.terms.0.a: 're', but wgrad.a has the parts real, imag"),
    ("v7_no_terms", "ifairy", {"linear.wgrad.terms": []}, "linear.wgrad.terms: wgrad.a is split into real, imag"),
    ("v7_terms_of_a_stack", "int4_hq_lss", {"linear.wgrad.terms": [{"a": "hi"}]}, "linear.wgrad.terms: the parts of wgrad.a are stacked into one product"),
    ("v7_combine", "bf16", {"linear.wgrad.epilogue": [{"kind": "combine"}]}, "linear.wgrad.epilogue: combine adds stacked parts, and no operand is stacked"),
    ("v7_combine_k", "int4_hq_lss", {"linear.wgrad.epilogue": [{"kind": "combine"}]}, "linear.wgrad.epilogue: combine adds stacked parts, and M is contracted"),
    ("v7_stack_not_combined", "int4_hq_lss", {"linear.dgrad.epilogue": []}, "linear.dgrad.epilogue: the product has a stack of rows for every part; begin with"),
    ("v7_axis", "int4_hq_lss", {"linear.wgrad.sampling": {"axis": "other", "norms": ["a"]}}, "linear.wgrad.sampling.axis: 'other'; the rows are tokens, 'k' here"),
    ("v7_forward", "fp32", {"linear.fprop.sampling": {"kind": "top"}}, "linear.fprop.sampling.axis: 'k'; the rows are tokens, sampled in dgrad and wgrad only"),
    ("v7_norms", "int4_hq_lss", {"linear.dgrad.sampling": {"axis": "other"}}, "linear.dgrad.sampling.norms: b; along the other axis of a"),
    ("v7_not_stacked", "int4_hq_lss", {"linear.wgrad.a.split.stacked": False}, "linear.wgrad.sampling: rows of split operands are sampled from the stack"),
    ("v7_stacked_w", "ifairy", {"linear.fprop.b.split.stacked": True}, "linear.fprop.b.split.stacked: only parts of dY become more rows"),
    ("v7_algebra", "ifairy", {"linear.algebra": "real"}, "linear.fprop.a.split: algebra real, but the operand is split into complex parts"),
    ("v7_complex", "bf16", {"linear.algebra": "complex"}, "linear.wgrad.b.split: algebra complex, but the operand is not split into complex parts"),
    ("v7_unquantized", "fp32", {"linear.dgrad.a.split": {"kind": "samples", "parts": ["p", "q"]}}, "linear.dgrad.a.split.quantizers: a samples split needs a quantizer"),
    ("v7_state", "int4_hq_lss", {"linear.dgrad.a.split.quantizers": ["int4_group", "fp8_tensor:history=delayed"]}, "linear.dgrad.a.split: the part 'lo' has a scale with state"),
    ("v7_gradient", "fp32", {"linear.fprop.a.split": {"kind": "samples", "parts": ["p", "q"]}, "linear.fprop.a.quantizer": {"base": "int4_group", "gradient": "clipped_ste"}}, "linear.fprop.a.split: the part 'p' has the gradient rule 'clipped_ste'"),
    ("v7_parts", "int4_hq_lss", {"linear.dgrad.a.split.parts": ["hi", "hi"]}, "linear.dgrad.a.split.parts: hi, hi; a residual split has parts of different names"),
    ("v7_counts", "int4_hq_lss", {"linear.dgrad.a.split.parts": ["hi", "lo", "rest"]}, "linear.dgrad.a.split.quantizers: 2 for 3 parts"),
    ("v7_keep", "int4_hq_lss", {"linear.dgrad.a.split.keep": 0.9}, "linear.dgrad.a.split.keep: 0.9; the quantile, above 0.5 and up to 1, of an outliers split"),
    ("v7_target", "int4_hq_lss", {"linear.dgrad.a.split.target": -1.0}, "linear.dgrad.a.split.target: -1.0; the number above 0"),
    ("v7_threshold", "int4_hq_lss", {"linear.dgrad.a.split.threshold": 1.0}, "linear.dgrad.a.split.threshold: 1.0; the amax of a block"),
    ("v7_share", "int4_hq_lss", {"linear.dgrad.sampling.share": 0.0}, "linear.dgrad.sampling.share: 0.0 of the rows"),
    ("v7_mixing", "bf16", {"linear.dgrad.a.mixing": "householder", "linear.dgrad.a.quantizer": "none"}, "linear.dgrad.a.mixing: rows are mixed around one quantizer"),
    ("v7_rank", "mxfp4", {"linear.dgrad.transform.rank": 128}, "linear.dgrad.transform.rank: 128; at most the size 64"),
    ("v7_projection", "fp32", {"linear.save.w": {"what": "projection", "ratio": 2}}, "linear.save.w: a projection is of x, with ratio 1 or more; got w and 2"),
    # V8 the rest
    ("v8_variant", "nvfp4", {"rules.0.use": "bf61"}, "rules.0.use: no variant 'bf61'; did you mean 'bf16'?"),
    ("v8_schedule", "nvfp4", {"schedule": [{"start": 0.8, "unit": "fraction", "set": {"linear.fprop.a.quantizr": "none"}}]}, "schedule.0.set: linear.fprop.a.quantizr: no such field; did you mean 'quantizer'?"),
    ("v8_unsound_phase", "nvfp4", {"schedule": [{"start": 10, "set": {"linear.wgrad.b.transforms": []}}, {"set": {"linear.save.x.of": "fprop.a"}}]}, "schedule.1.set: linear.wgrad.b.source: hp, but save keeps neither"),
    ("v8_executable", "halo", {"executable": False}, "missing: names the mechanisms"),
    ("v8_not_executable", "fp32", {"linear.fprop.a.quantizer": {"missing": "a rule of tomorrow", "format": "e2m1", "statistic": "amax"}}, "executable: true, but this version lacks a rule of tomorrow"),
    ("v8_controllers", "fp32", {"controllers": [{"kind": "bit_allocator"}]}, "executable: true, but this version lacks the controller bit_allocator"),
    # V9 weights
    ("v9_sign", "fp32", {"weights.stored": {"format": "uint8"}}, "weights.stored.format: uint8 has no sign"),
    ("v9_state", "fp32", {"weights.stored": "int4_learned"}, "weights.stored.scale: its scale needs a state"),
    ("v9_tail", "fp32", {"weights.gradient": "mxfp4"}, "weights.gradient.tail: 'error'"),
    ("v9_unit", "fp32", {"weights.update": "codes"}, "weights.unit: null is the step of the stored grid"),
    ("v9_codes", "fp32", {"weights.update": "codes", "weights.unit": 0.5, "weights.gradient": "int8_row"}, "needs integers under one scale per tensor"),
    ("v9_grid", "fp32", {"weights.grid": "first"}, "weights.grid: 'first' fixes amax"),
    ("v9_clip", "fp32", {"weights.clip": -1.0}, "weights.clip: -1.0 is not a positive number"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "change", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_refused(base: str, change: dict, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        recipe({"base": base, "set": change})
    assert any(expected in problem for problem in caught.value.problems), caught.value


SOUND = [
    ("nvfp4", {"linear.wgrad.transform": "none"}),
    ("nvfp4", {"linear.dgrad.a.quantizer.rounding": "nearest_even"}),
    ("nvfp4", {"rules": []}),
    ("nvfp4", {"linear.fprop.b.quantizer.blocks": {"other": 1, "k": 16}, "linear.dgrad.b": {"source": "hp", "quantizer": {"base": "nvfp4", "tail": "pad_zero"}}, "linear.save.w": {"what": "reference"}}),
    ("mxfp4", {"linear.dgrad.transform.signs": "none", "linear.wgrad.transform": "none"}),
    ("mxfp4", {"linear.dgrad.a.quantizer.word_bits": 16}),
    # two transforms that cancel: H H is the identity
    ("mxfp8", {"linear.dgrad.a.transforms": [{"size": 16}, {"size": 16}]}),
    # random signs on slots cancel where both name one stream
    ("mxfp8", {"linear.dgrad.a.transforms": [{"size": 16, "signs": "random", "stream": "s"}], "linear.dgrad.b.transforms": [{"size": 16, "signs": "random", "stream": "s"}]}),
    ("halo", {"linear.fprop.transform": "none", "linear.dgrad.a.transforms": [], "linear.dgrad.epilogue": []}),
    ("fp8_block", {"linear.wgrad.a.quantizer": "none"}),
]  # fmt: skip


@pytest.mark.parametrize(("base", "change"), SOUND)
def test_accepted(base: str, change: dict) -> None:
    assert recipe({"base": base, "set": change}) != recipe(base)


def test_all_problems_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        recipe({"base": "lsq", "set": {"linear.dgrad.epilogue": [], "linear.wgrad.epilogue": [], "rules.0.use": "x"}})
    assert len(caught.value.problems) == 3
