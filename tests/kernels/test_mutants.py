# SPDX-License-Identifier: Apache-2.0
"""The cases catch what they are there for: each mutated kernel must fail against the scalar one.

A mutant is the kernel's own source with one passage replaced (mutants.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kernels.cases import case
from kernels.harness import (
    Kernel,
    Machine,
    compare,
    compile_sources,
    ffi,
    isolated,
    listed_kernels,
    processor_flags,
    scalar_of,
    why_not_here,
)
from kernels.mutants import Passage

VALUES = 20_000_000
"""A mutant that survives so many output values is a failure of the cases."""


@dataclass(frozen=True)
class Mutant(Passage):
    """A passage that `kernels` must notice."""

    kernels: tuple[str, ...]


ROUND = "v = (v + magic) - magic;"
REQUANTIZE = "return ek_round_clamped((float)(int32_t)acc * multiplier, r);"
SUMMED = ("conv2d_scalar", "depthwise_scalar", "matmul_scalar", "average_pool_scalar")
ROUNDED = (*SUMMED, "add_scalar", "mul_scalar", "prelu_scalar", "softmax_scalar", "layer_norm_scalar", "quantize_scalar")
SOME = ("conv2d_scalar", "add_scalar", "quantize_scalar")

SCALAR = [
    Mutant("product rounded only once", "requant.h", REQUANTIZE,
           """double v = (double)(float)(int32_t)acc * multiplier;
           v = v > r->lo ? v : r->lo; v = v < r->hi ? v : r->hi;
           return (int8_t)((int32_t)((v + 0x1.8p52) - 0x1.8p52) + r->zero);""", ("conv2d_scalar", "depthwise_scalar")),
    Mutant("accumulator not rounded to binary32", "requant.h", REQUANTIZE,
           "return ek_round_clamped((float)((double)(int32_t)acc * multiplier), r);", ("conv2d_scalar", "depthwise_scalar")),
    Mutant("half away from zero", "requant.h", ROUND, "v = (float)(int32_t)(v + (v < 0 ? -0.5f : 0.5f));", ROUNDED),
    Mutant("half up", "requant.h", ROUND, "v = (float)((int32_t)(v + 1024.5f) - 1024);", SOME),
    Mutant("truncation", "requant.h", ROUND, "v = (float)(int32_t)v;", SOME),
    Mutant("zero point before rounding", "requant.h", ROUND, "v = ((v + (float)r->zero) + magic) - magic - (float)r->zero;",
           ROUNDED),
    Mutant("clamp of the type only", "requant.h", "(float)(clamp->hi - clamp->zero)", "(float)(127 - clamp->zero)", SOME),
    Mutant("NaN becomes the highest value", "requant.h", "v = v > r->lo ? v : r->lo;", "v = v < r->lo ? r->lo : v;",
           ("quantize_scalar",)),
    Mutant("fused multiply-add of a", "requant.h", "return ek_round_clamped(a_product + b_product, r);",
           "return ek_round_clamped((float)((double)s->a_multiplier * a + b_product), r);", ("add_scalar",)),
    Mutant("fused multiply-add of b", "requant.h", "return ek_round_clamped(a_product + b_product, r);",
           "return ek_round_clamped((float)((double)s->b_multiplier * b + a_product), r);", ("add_scalar",)),
    Mutant("common multiplier", "scalar/mul.c", "ek_requantize((uint32_t)(a * b), p->multiplier, &r)",
           "ek_round_clamped((float)a * ((float)b * p->multiplier), &r)",
           ("mul_scalar",)),
    Mutant("dropped tail of channels", "scalar/conv2d.c", "for (; o < o_end; o += BLOCK) {",
           "for (; o + (o_end > 4 ? BLOCK - 1 : 0) < o_end; o += BLOCK) {", ("conv2d_scalar",)),
    Mutant("dropped tail of taps", "scalar/conv2d.c", "ek_min(s->segment, s->depth - k), acc",
           "ek_min(s->segment, s->depth - k) & ~(s->depth > 64), acc", ("conv2d_scalar",)),
    Mutant("padding of zero", "scalar/conv2d.c", "memset(patch, p->x_zero,", "memset(patch, 0,", ("conv2d_scalar",)),
    Mutant("saturating 16-bit sums", "scalar/depthwise.c", "acc[i] += (uint32_t)(x[o + i] * w[i]);",
           """{ int32_t s = (int32_t)acc[i] - p->start[o + i] + x[o + i] * w[i];
              acc[i] = (uint32_t)(p->start[o + i] + (s > 32767 ? 32767 : s < -32768 ? -32768 : s)); }""", ("depthwise_scalar",)),
    Mutant("padding of zero", "scalar/depthwise.c", "(uint32_t)(p->x_zero * w[i])", "0", ("depthwise_scalar",)),
    Mutant("divisor of the whole window", "average.h", "uint32_t n = inside;",
           "uint32_t n = (uint32_t)(p->kernel_h * p->kernel_w);", ("average_pool_scalar",)),
    Mutant("scales divided first", "average.h", "p->x_scale / (p->y_scale * (float)n)",
           "p->x_scale / p->y_scale / (float)n", ("average_pool_scalar",)),
    Mutant("padding counts zero", "scalar/max_pool.c", "memset(y, -128,", "memset(y, -100,", ("max_pool_scalar",)),
    Mutant("product before quotient", "scalar/softmax.c", "(float)p->table[max - x[i]] * k",
           "(float)p->table[max - x[i]] * p->inverse_scale / (float)sum", ("softmax_scalar",)),
    Mutant("one rounding of the quotient", "scalar/layer_norm.c", "(float)(p->c * x[i] - sum) * k", "(float)(p->c * x[i] - sum) / (1 / k)",
           ("layer_norm_scalar",)),
    Mutant("gain before the deviation", "scalar/layer_norm.c", """* k;
            const float scaled = normal * p->gain[i];""", """* p->gain[i];
            const float scaled = normal * k;""", ("layer_norm_scalar",)),
    Mutant("variance in 32 bits", "layer_norm.h", "(int64_t)c * squares", "(int64_t)(int32_t)((uint32_t)c * (uint32_t)squares)",
           ("layer_norm_scalar",)),
    Mutant("variance of the sample", "layer_norm.h", "- (int64_t)sum * sum;", "- (int64_t)sum * sum + squares;", ("layer_norm_scalar",)),
    Mutant("transposed as it lies", "scalar/matmul.c", "if (p->b_transposed)", "if (0)", ("matmul_scalar",)),
    Mutant("reciprocal instead of division", "scalar/quantize.c", "x[i * x_step] / p->scale", "x[i * x_step] * (1.0f / p->scale)",
           ("quantize_scalar",)),
    Mutant("zero point scaled on its own", "scalar/dequantize.c", "(float)(x[i * x_step] - p->clamp.zero) * p->scale",
           "(float)x[i * x_step] * p->scale - (float)p->clamp.zero * p->scale", ("dequantize_scalar",)),
    Mutant("sign of the table's index", "scalar/raw.c", "(x[i * x_step] ^ p->flip)", "x[i * x_step]", ("raw_scalar",)),
    Mutant("innermost run short by one", "scalar/pad.c", "(size_t)walk.dims[walk.rank - 1])",
           "(size_t)walk.dims[walk.rank - 1] - (walk.dims[walk.rank - 1] > 8))", ("pad_scalar",)),
    Mutant("negative strides", "scalar/copy.c", "p->in_stride, p->in_offset);", "p->in_stride, 0);", ("copy_scalar",)),
]  # fmt: skip


SLIDING = [
    Mutant("the column that windows do not share", "x86/max_pool.h", "shared = last;", "shared = middle;", ("max_pool_avx512vnni",)),
    Mutant("a window that slides out of the input", "x86/max_pool.h", "(p->in.w - 3 + p->pad_left) / 2 + 1",
           "(p->in.w - 2 + p->pad_left) / 2 + 1", ("max_pool_avx512vnni",)),
]  # fmt: skip


def vector_mutants(isa: str, prefix: str, register: str, width: int) -> list[Mutant]:
    """The mutants of one x86 set; `prefix` of its intrinsics, `register` type, `width` in bytes."""
    header, lanes = f"x86/requant_{isa}.h", width // 4
    rounding = f"return {prefix}_cvtps_epi32({prefix}_min_ps({prefix}_max_ps(v, r->lo), r->hi));"
    scaled = f"return ek_round_{isa}({prefix}_mul_ps({prefix}_cvtepi32_ps(acc), multiplier), r);"
    zero = f"{prefix}_srai_epi32({prefix}_slli_epi32(r->zero, 16), 16)"
    body = f"const {register} c = {prefix}_min_ps({prefix}_max_ps(v, r->lo), r->hi);"

    def on(*stems: str) -> tuple[str, ...]:
        return tuple(f"{s}_{isa}" for s in stems)

    rounded = on("conv2d", "dense", "depthwise", "matmul", "add", "mul", "prelu", "layer_norm", "average_pool", "quantize")
    magic = f"{prefix}_set1_ps(12582912.0f)"
    return [
        Mutant("fused multiply-add in requantization", header, scaled,
               f"""const {register} x = {prefix}_cvtepi32_ps(acc), v = {prefix}_mul_ps(x, multiplier);
               const {register} once = {prefix}_sub_ps({prefix}_fmadd_ps(x, multiplier, {magic}), {magic});
               const {register} near = {prefix}_sub_ps({prefix}_mul_ps(v, v), {prefix}_set1_ps(1e6f));
               return ek_round_{isa}({prefix}_blendv_ps(v, once, near), r);""", on("conv2d", "depthwise")),
        Mutant("half away from zero", header, rounding,
               f"""{body} const {register} sign = {prefix}_and_ps(c, {prefix}_set1_ps(-0.0f));
               return {prefix}_cvttps_epi32({prefix}_add_ps(c, {prefix}_or_ps(sign, {prefix}_set1_ps(0.5f))));""", rounded),
        Mutant("zero point before rounding", header, rounding,
               f"""{body} const {register}i zero = {zero};
               return {prefix}_sub_epi32({prefix}_cvtps_epi32({prefix}_add_ps(c, {prefix}_cvtepi32_ps(zero))), zero);""", rounded),
        Mutant("NaN becomes the highest value", header, f"{prefix}_max_ps(v, r->lo)", f"{prefix}_max_ps(r->lo, v)",
               on("quantize")),
        Mutant("fused multiply-add", "x86/add.h",
               "v_addf(v_mulf(v->a_multiplier, v_to_float(a)), v_mulf(v->b_multiplier, v_to_float(b)))",
               f"{prefix}_fmadd_ps(v->a_multiplier, v_to_float(a), v_mulf(v->b_multiplier, v_to_float(b)))", on("add")),
        Mutant("reciprocal instead of division", "x86/quantize.h", "v_divf(load_strided(x + i * x_step, x_step, count), scale)",
               "v_mulf(load_strided(x + i * x_step, x_step, count), v_divf(v_setf(1.0f), scale))", on("quantize")),
        Mutant("dropped tail", "x86/vector.h", "        memcpy(y, buffer, (size_t)count);",
               "        memcpy(y, buffer, (size_t)count - 1);", on("add", "quantize")),
        Mutant("store of a whole vector", "x86/vector.h",
               "        v_store_i8(buffer, rounded, r);\n        memcpy(y, buffer, (size_t)count);",
               "        (void)buffer; v_store_i8(y, rounded, r);", on("mul", "average_pool")),
        Mutant("load of a whole vector", "x86/vector.h", "    if (count >= LANES)\n        return v_load_bytes(x);",
               "    if (count > 0)\n        return v_load_bytes(x);", on("prelu", "dequantize")),
        Mutant("last step of an odd depth twice", "x86/matmul.h", "        to[p->k] = 0;", "        to[p->k] = to[p->k - 1];",
               on("matmul")),
        Mutant("nine steps in 16 bits", "x86/dense_halves.h", "#define STEPS 8 ", "#define STEPS 9 ", on("dense")),
        Mutant("low halves of seven bits", "x86/dense_halves.h", "_mm_and_si128(u, low_half)", "_mm_and_si128(u, _mm_set1_epi8(127))", on("dense")),
        Mutant("high halves fifteen times", "x86/dense_halves.h", "v_set16(16)", "v_set16(15)", on("dense")),
        Mutant("signed activations", "x86/dense_halves.h", "_mm_xor_si128(x, _mm_set1_epi8(-128))", "x", on("dense")),
        Mutant("last steps left out", "x86/dense_halves.h", "for (; at < block->steps; at++)", "for (; at < block->steps / 2 * 2; at++)", on("dense")),
        Mutant("last activations left out", "x86/dense_halves.h", "    if (count > 0) {", "    if (0) {", on("dense")),
        Mutant("read behind the input", "x86/dense_halves.h", "memcpy(rest, x, (size_t)count);", "memcpy(rest, x, 16);", on("dense")),
        Mutant("channels in front of the range", "x86/dense_halves.h", "n >= range->ch && n + BLOCK", "n + BLOCK", on("dense")),
        Mutant("first channel of the tile always", "x86/dense_halves.h", "memcpy(out + first, buffer + first, (size_t)(end - first));",
               "memcpy(out, buffer, (size_t)end);", on("dense")),
        Mutant("starts behind the last", "x86/dense_halves.h", "memcpy(start, block.start, (size_t)lanes * sizeof start[0]);",
               "memcpy(start, block.start, sizeof start);", on("dense")),
        Mutant("saturating 16-bit product pairs", "x86/pairs.h", f"= {prefix}_madd_epi16(w, x);",
               f"""= {prefix}_min_epi32({prefix}_madd_epi16(w, x), {prefix}_set1_epi32(32767));""", on("conv2d")),
        Mutant("padding of zero", "x86/conv2d_panel.h", "fill16(zero, to + i);", "fill16(zero & 0, to + i);", on("conv2d")),
        Mutant("dropped tail of taps", "x86/conv2d_panel.h", "    for (; i < count; i++)\n        to[i] = from[i];",
               "    for (; i < count - 1; i++)\n        to[i] = from[i];", on("conv2d")),
        Mutant("read behind the input", "x86/conv2d_panel.h", "end - from - i >= CHUNK", "end - from - i >= 1", on("conv2d")),
        Mutant("short runs read behind the input", "x86/conv2d_panel.h", "(p->kernel_h - 1) * step >= CHUNK",
               "(p->kernel_h - 1) * step >= 1", on("conv2d")),
        Mutant("windows with gaps as one run", "x86/conv2d_panel.h", "p->in.w_stride == s.row &&", "p->in.w_stride >= s.row &&",
               on("conv2d")),
        Mutant("first channel of the tile always", "x86/conv2d_panel.h", ".first = ek_max(o - base - n, 0)", ".first = 0",
               on("conv2d")),
        Mutant("last lane of a part tile", f"x86/conv2d_{isa}.c", f"i < ek_min(lane + {lanes}, tile->end)",
               f"i < ek_min(lane + {lanes} - 1, tile->end)", on("conv2d")),
        Mutant("large multipliers as small ones", "x86/conv2d_wide.h", "if (weights->large)", "if (0)", on("conv2d")),
        Mutant("multipliers of the first channels only", "x86/conv2d_panel.h", "range->ch; o < range->ch_end;", "range->ch; o < range->ch;",
               on("conv2d")),
        Mutant("clamp of the type only", "x86/conv2d_wide.h", "if (r->clamps)", "if (0)", on("conv2d")),
        Mutant("zero point without saturation", header, "_adds_epi16(ab16, r->zero)", "_add_epi16(ab16, r->zero)", on("conv2d")),
        Mutant("truncation of wide sums", header, f"ab16 = {prefix}_packs_epi32({prefix}_cvtps_epi32(a)",
               f"ab16 = {prefix}_packs_epi32({prefix}_cvttps_epi32(a)", on("conv2d")),
        Mutant("the other half of widened weights", "x86/conv2d_wide.h", "v_half(from + 4 * LANES, 1)", "v_half(from + 4 * LANES, 0)",
               on("conv2d")),
        Mutant("widened weights of the first tile", "x86/conv2d_panel.h", "s->kept ? i * s->tile_bytes : 0", "0", on("conv2d")),
        Mutant("widened weights of the first group", "x86/conv2d_panel.h", "        walk.panel.ready = 0;\n", "", on("conv2d")),
        Mutant("weights that were not kept", "x86/conv2d_panel.h", "walk->panel.ready = walk->s->kept;", "walk->panel.ready = 1;",
               on("conv2d")),
        Mutant("windows behind the last", "x86/conv2d_panel.h", "if (whole && windows == BLOCK)", "if (whole)", on("conv2d")),
        Mutant("channels beyond the range", "x86/conv2d_panel.h", "lane + WIDE_N <= tile->end;", "lane <= tile->end;", on("conv2d")),
        Mutant("first channels of a block", "x86/conv2d_panel.h", "buffer[i] + first, (size_t)", "buffer[i], (size_t)", on("conv2d")),
        Mutant("dense rows read behind the input", "x86/conv2d_panel.h", "(end - from) / CHUNK * CHUNK;", "(end - from) + CHUNK;", on("conv2d")),
        Mutant("dropped tail of dense rows", "x86/conv2d_panel.h", "    if (i < count) {", "    if (0) {", on("conv2d")),
        Mutant("dropped tail of channels", "x86/depthwise.h", "    if (rest.ch < rest.ch_end)",
               "    if (rest.ch < 0)", on("depthwise")),
        Mutant("lowest value", f"x86/max_pool_{isa}.c", "_set1_epi8(-128)", "_set1_epi8(-127)", on("max_pool")),
        Mutant("block behind the range", "x86/max_pool.h", "ek_min(c, range->ch_end - BYTES)", "c", on("max_pool")),
        *(replace(m, kernels=on("max_pool")) for m in SLIDING),
    ]  # fmt: skip


VECTOR = [
    *vector_mutants("avx2", "_mm256", "__m256", 32),
    *vector_mutants("sse41", "_mm", "__m128", 16),
    Mutant("padding of zero", "x86/depthwise.h", "v_set16(p->x_zero)", "v_set16(0)",
           ("depthwise_avx2", "depthwise_sse41")),
    Mutant("rows outside that move on", "x86/depthwise.h", "inside ? p->in.w_stride : 0}", "p->in.w_stride}",
           ("depthwise_avx2", "depthwise_sse41")),
    Mutant("last row of weights twice", "x86/depthwise.h", "kh + 1 < p->kernel_h ? w + row : zeros", "kh + 1 < p->kernel_h ? w + row : w",
           ("depthwise_avx2", "depthwise_sse41")),
    Mutant("dilated columns as neighbours", "x86/depthwise.h", "t / row_pairs * b->tap_step * row_pairs", "t / row_pairs * row_pairs",
           ("depthwise_avx2", "depthwise_sse41")),
    Mutant("dropped tail of windows", "x86/depthwise.h", "    for (; i < windows; i++) {", "    for (; i < windows - 1; i++) {",
           ("depthwise_avx2", "depthwise_sse41")),
    Mutant("first columns in every band", "x86/depthwise.h", "h, col * p->stride_w - p->pad_left, windows",
           "h, range->col * p->stride_w - p->pad_left, windows", ("depthwise_avx2", "depthwise_sse41")),
    Mutant("columns of the first tap for all", "x86/depthwise.h", "h, w + kw * p->dilation_w, p->stride_w", "h, w, p->stride_w",
           ("depthwise_avx2", "depthwise_sse41")),
    Mutant("columns between strides", "x86/depthwise.h", "dilation_w, p->stride_w, windows, band", "dilation_w, 1, windows, band",
           ("depthwise_avx2", "depthwise_sse41")),
    Mutant("index not shifted", "x86/lut_avx2.c", "_mm256_set1_epi8(-128)", "_mm256_set1_epi8(0)", ("lut_avx2",)),
    Mutant("dropped tail", "x86/lut_avx2.c", "    if (rest.ch < rest.ch_end)", "    if (rest.ch < 0)", ("lut_avx2",)),
]  # fmt: skip

COPIED_PAIRS = [
    Mutant("pairs that are not copied", "x86/conv2d_panel.h", "if (walk->s->copied)\n", "if (0)\n", ("conv2d_sse41",)),
    Mutant("copies for a few channels", "x86/conv2d_panel.h", "COPIES > 1 || tile.end", "COPIES > 2 || tile.end", ("conv2d_sse41",)),
    Mutant("padding without copies", "x86/conv2d_panel.h", "&& all_inside(p);", ";", ("conv2d_sse41",)),
]  # fmt: skip

WINOGRAD = ("winograd_avx512vnni", "winograd_avx2", "winograd_sse41")
TRANSFORMS = [
    Mutant("padding of zero", "x86/winograd.h", "memset(outside, p->x_zero,", "memset(outside, 0,", WINOGRAD),
    Mutant("rows below the input", "x86/winograd.h", "ih + i >= 0 && ih + i < p->in.h", "ih + i >= 0", WINOGRAD),
    Mutant("bias in every part of the depth", "x86/winograd.h", "part == 0 ? (uint32_t)p->start[o + i] : 0",
           "(uint32_t)p->start[o + i]", WINOGRAD),
    Mutant("the last part of the depth alone", "x86/winograd.h", "        if (!l->first) ", "        if (0) ", WINOGRAD),
    Mutant("the last part alone at the border", "x86/winograd.h", "l->first ? acc : add_sums(acc, to)", "acc", WINOGRAD),
    Mutant("the last part alone, few outputs", "x86/winograd.h", "l->first ? sum : v_add(sum, v_load(to))", "sum", WINOGRAD),
    Mutant("weights that were not kept", "x86/winograd.h", "k->transformed = s->keeps_weights;", "k->transformed = 1;", WINOGRAD),
    Mutant("rows beyond the range", "x86/winograd.h", ".rows = ek_min(image_end - tile->oh, 4)", ".rows = 4", WINOGRAD),
    Mutant("columns beyond the range", "x86/winograd.h", ".cols = ek_min(range->col_end - tile->ow, 4)", ".cols = 4", WINOGRAD),
    Mutant("channels beyond the range", "x86/winograd.h", "ek_min(k->range->ch_end - o, LANES)", "LANES", WINOGRAD),
    Mutant("channels beyond the input", "x86/winograd.h", "const int32_t from = ek_min(c, end - STEP);", "const int32_t from = c;",
           WINOGRAD),
    Mutant("three outputs without the point -2", "x86/winograd.h", "{0x3F, 0x07, 0x27, 0x1F}", "{0x3F, 0x07, 0x27, 0x0F}", WINOGRAD),
    Mutant("two outputs without infinity", "x86/winograd.h", "{0x3F, 0x07, 0x27, 0x1F}", "{0x3F, 0x07, 0x07, 0x1F}", WINOGRAD),
    Mutant("whole tiles taken for low ones", "x86/winograd.h", "if (rows <= s->last_h)", "if (s->last_h > 0)", WINOGRAD),
    Mutant("the second of two outputs", "x86/winograd.h", "{2, 4, {0, 1, 2, 5}, {0, 3}}", "{2, 4, {0, 1, 2, 5}, {0, 1}}", WINOGRAD),
    Mutant("B' of two outputs", "x86/winograd.h", "const vint three = v_set16(3);", "const vint three = v_set16(2);", WINOGRAD),
    Mutant("large multipliers not limited", "x86/winograd.h", "l.plain = l.all && l.last && small;", "l.plain = l.all && l.last;",
           ("winograd_avx512vnni",)),
    Mutant("result not divided by nine", "x86/winograd.h", "(int32_t)(0x38E38E39u *", "(int32_t)(1u *", WINOGRAD),
    Mutant("sums in 24 bits", "x86/winograd.h", "return transform_back(v_load(m), v_load(m + row),",
           "return transform_back(v_sra(v_shl(v_load(m), 8), 8), v_load(m + row),", WINOGRAD),
    Mutant("activations that are not unsigned", "x86/winograd_avx512vnni.c", "#define X_OFFSET 128", "#define X_OFFSET 0",
           ("winograd_avx512vnni",)),
]  # fmt: skip

TOP = "return _mm512_cvtps_epi32(_mm512_castsi512_ps(limited));"
MATMUL512 = ("matmul_avx512vnni",)
SOFTMAX512 = ("softmax_avx512vbmi",)
NORM512 = ("layer_norm_avx512vnni",)
TOP_REQUANTIZE = "return ek_round_top(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier), r);"
CONV512 = ("conv2d_avx512vnni",)
FIRST512 = ("conv2d_first_avx512vnni",)
DENSE512 = ("dense_avx512vnni",)
DEPTHWISE512 = ("depthwise_avx512vnni",)
VNNI512 = (*CONV512, *DEPTHWISE512)
TOP512 = (*VNNI512, "mul_avx512vnni", "layer_norm_avx512vnni")
PACKED512 = (*TOP512, *FIRST512, "add_avx512vnni")
ROUND512 = "return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, r->lo), r->hi));"
ROUNDED512 = tuple(f"{stem}_avx512vnni" for stem in ("prelu", "average_pool", "quantize"))
AVX512VNNI = [
    Mutant("half away from zero", "x86/requant_avx512vnni.h", ROUND512,
           """const __m512 c = _mm512_min_ps(_mm512_max_ps(v, r->lo), r->hi), sign = _mm512_and_ps(c, _mm512_set1_ps(-0.0f));
           return _mm512_cvttps_epi32(_mm512_add_ps(c, _mm512_or_ps(sign, _mm512_set1_ps(0.5f))));""", ROUNDED512),
    Mutant("zero point before rounding", "x86/requant_avx512vnni.h", ROUND512,
           """const __m512 c = _mm512_min_ps(_mm512_max_ps(v, r->lo), r->hi);
           const __m512i zero = _mm512_srai_epi32(_mm512_slli_epi32(r->zero, 16), 16);
           return _mm512_sub_epi32(_mm512_cvtps_epi32(_mm512_add_ps(c, _mm512_cvtepi32_ps(zero))), zero);""", ROUNDED512),
    Mutant("NaN becomes the highest value", "x86/requant_avx512vnni.h", "_mm512_max_ps(v, r->lo)", "_mm512_max_ps(r->lo, v)",
           ("quantize_avx512vnni",)),
    Mutant("fused multiply-add", "x86/add_avx512vnni.c", "_mm512_add_ps(_mm512_mul_ps(v->a_multiplier, a.q[q]),",
           "_mm512_fmadd_ps(v->a_multiplier, a.q[q],", ("add_avx512vnni",)),
    Mutant("multipliers in another order", "x86/mul_avx512vnni.c", "_mm512_mul_ps(_mm512_mul_ps(a.q[q], b.q[q]), v->multiplier)",
           "_mm512_mul_ps(a.q[q], _mm512_mul_ps(b.q[q], v->multiplier))", ("mul_avx512vnni",)),
    Mutant("factors of the first row for all", "x86/mul_avx512vnni.c", " && shape->b_stride[0] == 0", "", ("mul_avx512vnni",)),
    Mutant("another zero point", "x86/elementwise_avx512vnni.h", "+ (float)zero", "+ (float)(zero | 1)", ("add_avx512vnni", "mul_avx512vnni")),
    Mutant("one value for all as many", "x86/elementwise_avx512vnni.h", "    if (stride == 0)", "    if (0)", ("add_avx512vnni", "mul_avx512vnni")),
    Mutant("whole vectors", "x86/elementwise_avx512vnni.h", "count >= BYTES ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1",
           "~(__mmask64)0 - (count == 0)", ("add_avx512vnni", "mul_avx512vnni")),
    Mutant("dropped tail", "x86/vector.h", "(1 << count) - 1);", "((1 << count) - 1) >> 1);",
           ("quantize_avx512vnni", "dequantize_avx512vnni", "average_pool_avx512vnni")),
    Mutant("whole vectors", "x86/vector.h", "count >= LANES ? 0xFFFF : (1 << count) - 1", "count | 0xFFFF",
           ("prelu_avx512vnni", "dequantize_avx512vnni")),
    Mutant("row term left out", "x86/matmul_avx512vnni.c", "factor = -(p->b_zero + 128);", "factor = 0 * p->b_zero;", MATMUL512),
    Mutant("column sums left out", "x86/matmul_avx512vnni.c", "_mm512_set1_epi32(-p->a_zero)", "_mm512_setzero_si512()", MATMUL512),
    Mutant("product of zero points left out", "x86/matmul_avx512vnni.c", "(uint32_t)(p->a_zero * (p->b_zero + 128))", "0u", MATMUL512),
    Mutant("tail of the depth left out", "x86/matmul_avx512vnni.c", "if (block->full_steps < columns->steps)", "if (0)", MATMUL512),
    Mutant("columns behind the range", "x86/matmul_avx512vnni.c", "low_bits(columns->columns - n)", "low_bits(64)", MATMUL512),
    Mutant("bytes behind a row", "x86/matmul_avx512vnni.c", "const __mmask64 mask = low_bits(p->k - k);", "const __mmask64 mask = low_bits(64);",
           MATMUL512),
    Mutant("another offset", "x86/matmul_avx512vnni.c", "_mm512_set1_epi8(-128)", "_mm512_set1_epi8(-127)", MATMUL512),
    Mutant("distances above 127 as near ones", "x86/softmax_avx512vbmi.c", "if (state.spread[i] < 2 * BYTES)", "if (1)", SOFTMAX512),
    Mutant("one output too few", "x86/softmax_avx512vbmi.c", "part <= spread / BYTES", "part < spread / BYTES", SOFTMAX512),
    Mutant("elements behind a row", "x86/softmax_avx512vbmi.c", "_mm512_maskz_mov_epi8(rest, one)", "one", SOFTMAX512),
    Mutant("two bytes of an entry", "x86/softmax_avx512vbmi.c", "_mm512_slli_epi32(sums[2], 8)", "_mm512_setzero_si512()", SOFTMAX512),
    Mutant("least of nothing", "x86/softmax_avx512vbmi.c", "least = _mm512_mask_min_epi8(least, rest, least,", "least = _mm512_mask_min_epi8(least, 0, least,",
           SOFTMAX512),
    Mutant("planes in another order", "x86/quantize_avx512vnni.c", "i % planes * 4 + i / planes", "i", ("quantize_avx512vnni",)),
    Mutant("whole blocks of pixels", "x86/quantize_avx512vnni.c", "(count < PIXELS ? count : PIXELS)", "PIXELS", ("quantize_avx512vnni",)),
    Mutant("planes that do not lie side by side", "x86/quantize_avx512vnni.c", " && walk->stride[EK_WALK_IN][last - 1] == 1", "",
           ("quantize_avx512vnni",)),
    Mutant("squares of one half", "x86/layer_norm_avx512vnni.c", "_mm512_dpwssd_epi32(*squares, high, high)", "*squares", NORM512),
    Mutant("gains behind the row", "x86/layer_norm_avx512vnni.c", "_mm512_maskz_loadu_ps(mask, p->gain + i)", "_mm512_loadu_ps(p->gain + i)", NORM512),
    Mutant("gain before the deviation", "x86/layer_norm_avx512vnni.c", "_mm512_mul_ps(normal, _mm512_maskz_loadu_ps(mask, p->gain + i))",
           "_mm512_mul_ps(_mm512_mul_ps(_mm512_sub_ps(scaled, f->sum), _mm512_maskz_loadu_ps(mask, p->gain + i)), f->k)", NORM512),
    Mutant("fused multiply-add", "x86/layer_norm_avx512vnni.c",
           "return ek_round_top(_mm512_add_ps(product, _mm512_maskz_loadu_ps(mask, p->offset + i)), r);",
           """(void)product; return ek_round_top(_mm512_fmadd_ps(normal, _mm512_maskz_loadu_ps(mask, p->gain + i),
           _mm512_maskz_loadu_ps(mask, p->offset + i)), r);""", NORM512),
    Mutant("halves of the table changed over", "x86/lut_avx512vbmi.c", "(part ^ 2)", "part", ("lut_avx512vbmi",)),
    Mutant("dropped tail", "x86/lut_avx512vbmi.c", "    if (i < range->ch_end)", "    if (0)", ("lut_avx512vbmi",)),
    Mutant("lowest value", "x86/max_pool_avx512vnni.c", "_set1_epi8(-128)", "_set1_epi8(-127)", ("max_pool_avx512vnni",)),
    Mutant("block behind the range", "x86/max_pool.h", "ek_min(c, range->ch_end - BYTES)", "c", ("max_pool_avx512vnni",)),
    *SLIDING,
    Mutant("fused multiply-add in requantization", "x86/requant_avx512vnni.h", TOP_REQUANTIZE,
           """const __m512 magic = _mm512_set1_ps(12582912.0f), v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
           const __m512 once = _mm512_sub_ps(_mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), multiplier, magic), magic);
           const __mmask16 near = _mm512_cmp_ps_mask(_mm512_mul_ps(v, v), _mm512_set1_ps(1e6f), _CMP_LT_OQ);
           return ek_round_top(_mm512_mask_mov_ps(v, near, once), r);""", VNNI512),
    Mutant("half away from zero", "x86/requant_avx512vnni.h", TOP,
           """const __m512 c = _mm512_min_ps(_mm512_max_ps(v, r->lo), r->hi), sign = _mm512_and_ps(c, _mm512_set1_ps(-0.0f));
           return _mm512_cvttps_epi32(_mm512_add_ps(c, _mm512_or_ps(sign, _mm512_set1_ps(0.5f))));""", TOP512),
    Mutant("half away from zero", "x86/requant_avx512vnni.h", "return _mm512_cvtps_epi32(v);",
           """const __m512 sign = _mm512_and_ps(v, _mm512_set1_ps(-0.0f));
           return _mm512_cvttps_epi32(_mm512_add_ps(v, _mm512_or_ps(sign, _mm512_set1_ps(0.5f))));""",
           (*CONV512, *FIRST512, *DEPTHWISE512, "add_avx512vnni")),
    Mutant("large multipliers as small ones", "x86/conv2d_avx512vnni.c", "    if (has_large_multipliers(tile))", "    if (0)", CONV512),
    Mutant("output pixels with gaps as one run", "x86/conv2d_avx512vnni.c", "step == tiles * TILE_N && ", "", CONV512),
    Mutant("activations as they are", "x86/dense_avx512vnni.c", "_mm512_xor_si512(broadcast4((const uint8_t *)x), _mm512_set1_epi8(-128))",
           "broadcast4((const uint8_t *)x)", DENSE512),
    Mutant("last activations left out", "x86/dense_avx512vnni.c", "    if (k > 0) {", "    if (0) {", DENSE512),
    Mutant("read behind the input", "x86/dense_avx512vnni.c", "last_activations(x, ek_min(k, TILE_K))", "activations(x)", DENSE512),
    Mutant("a chain left out", "x86/dense_avx512vnni.c", "_mm512_add_epi32(acc[2], acc[3])", "acc[2]", DENSE512),
    Mutant("channels in front of the range", "x86/dense_avx512vnni.c", "n >= range->ch && ", "", DENSE512),
    Mutant("channels behind the range", "x86/dense_avx512vnni.c", "low_bits(ek_max(end - i * 64, 0))", "low_bits(64)", DENSE512),
    Mutant("beyond int32", "x86/requant_avx512vnni.h", "_mm512_min_epi32(_mm512_castps_si512(v), r->top)", "_mm512_castps_si512(v)",
           (*VNNI512, *FIRST512)),
    Mutant("no upper clamp", "x86/requant_avx512vnni.h", "_mm512_min_epi8(_mm512_max_epi8(all, r->lowest), r->highest)",
           "_mm512_max_epi8(all, r->lowest)", PACKED512),
    Mutant("no lower clamp", "x86/requant_avx512vnni.h", "_mm512_max_epi8(all, r->lowest)", "all", PACKED512),
    Mutant("lower clamp alone does not count", "x86/requant_avx512vnni.h", "clamp->lo > -128 || ", "", PACKED512),
    Mutant("upper clamp alone does not count", "x86/requant_avx512vnni.h", " || clamp->hi < 127", "", PACKED512),
    Mutant("large sums as small ones", "x86/add_avx512vnni.c", "v->small ?", "1 ?", ("add_avx512vnni",)),
    Mutant("zero point wraps", "x86/requant_avx512vnni.h", "_mm512_adds_epi16(_mm512_packs_epi32(a, b), r->zero)",
           "_mm512_add_epi16(_mm512_packs_epi32(a, b), r->zero)", (*VNNI512, *FIRST512, "mul_avx512vnni")),
    Mutant("saturating sums", "x86/vnni_avx512.h", "vpdpbusd %2", "vpdpbusds %2", (*VNNI512, *FIRST512)),
    Mutant("another offset", "x86/vnni_avx512.h", "flip = _mm512_set1_epi8(-128)", "flip = _mm512_set1_epi8(-127)", CONV512),
    Mutant("padding of zero", "x86/vnni_avx512.h", "value + 128, (size_t)count", "128 + (value & 0), (size_t)count", CONV512),
    Mutant("dropped tail of a copy", "x86/vnni_avx512.h", "    if (i < count) {", "    if (i + 1 < count) {", CONV512),
    Mutant("read behind the input", "x86/vnni_avx512.h", "_mm512_maskz_loadu_epi8(rest, from + i)", "load64(from + i)", CONV512),
    Mutant("steps across runs", "x86/conv2d_avx512vnni.c", "0xFFFFFFFFu >> (32 - 8 * count)", "0xFFFFFFFFu", CONV512),
    Mutant("steps begin at whole vectors", "x86/conv2d_avx512vnni.c", "if (first % TILE_K + count > TILE_K)", "if (0)", CONV512),
    Mutant("dropped steps of one window", "x86/conv2d_avx512vnni.c", "for (; chains > 1 && k > 0; k--)", "for (; chains > 1 && k > 1; k--)",
           CONV512),
    Mutant("store of whole vectors", "x86/conv2d_vnni.h", "low_bits(end - i * 64) &", "~(uint64_t)0 &", CONV512),
    Mutant("first channel of the tile always", "x86/conv2d_vnni.h", "ek_max(first - i * 64, 0)", "0", CONV512),
    Mutant("starts that do not exist", "x86/conv2d_vnni.h", "if (lanes % TILE_N != 0)", "if (0)", CONV512),
    Mutant("columns with gaps as one run", "x86/conv2d_vnni.h", "    if (step == c)", "    if (step >= c)", CONV512),
    Mutant("band of whole rows beyond the input", "x86/conv2d_vnni.h", "h >= 0 && h + count <= p->in.h;", "h >= 0;", CONV512),
    Mutant("rows with gaps as one", "x86/conv2d_vnni.h", "p->in.h_stride == columns * s->in_channels)", "1)", CONV512),
    Mutant("output rows with gaps as one", "x86/conv2d_vnni.h", "\n        && windows.out_next == band->cols * tile->out_step)", ")", CONV512),
    Mutant("another offset", "x86/conv2d_first_avx512vnni.c", "_mm512_set1_epi8(-128), outside", "_mm512_set1_epi8(-127), outside", FIRST512),
    Mutant("padding of zero", "x86/conv2d_first_avx512vnni.c", "_mm512_set1_epi8((char)p->x_zero)", "_mm512_setzero_si512()", FIRST512),
    Mutant("read behind a row", "x86/conv2d_first_avx512vnni.c", "_mm512_mask_loadu_epi8(outside, inside, from)", "load64(from)", FIRST512),
    Mutant("read in front of a row", "x86/conv2d_first_avx512vnni.c", "before = at < 0 ? (int32_t)-at : 0", "before = 0", FIRST512),
    Mutant("rows above the input", "x86/conv2d_first_avx512vnni.c", "i < rows->first; i++", "i < 0; i++", FIRST512),
    Mutant("second step as the first one", "x86/conv2d_first_avx512vnni.c", "_mm512_set1_epi32(1))", "_mm512_set1_epi32(0))", FIRST512),
    Mutant("second step of words as the first one", "x86/conv2d_first_avx512vnni.c", "i / 16 * 2 + i % 2", "i % 2", FIRST512),
    Mutant("first windows first", "x86/conv2d_first_avx512vnni.c", "int32_t i = (s->pitch - 1) / windows * windows; i >= 0; i -= windows",
           "int32_t i = 0; i < s->pitch; i += windows", FIRST512),
    Mutant("loose bytes where they are", "x86/conv2d_first_avx512vnni.c", "(loose->place - here) * 8 & 31", "0", FIRST512),
    Mutant("loose bytes of another window", "x86/conv2d_first_avx512vnni.c", "s->plane_bytes + s->further * TILE_K;", "s->plane_bytes;", FIRST512),
    Mutant("loose bytes another way", "x86/conv2d_first_avx512vnni.c", "at - s->further * s->step;", "at - s->further * TILE_K;", FIRST512),
    Mutant("bytes behind a run", "x86/conv2d_first_avx512vnni.c", "at < s->run ? kh * s->run + at : -1", "kh * s->run + at", FIRST512),
    Mutant("rows of one phase", "x86/conv2d_first_avx512vnni.c", "if (++phase == p->stride_h)", "if (++phase == 1)", FIRST512),
    Mutant("weights turned the other way", "x86/conv2d_first_avx512vnni.c", "(i - depth[i]) % TILE_K", "(depth[i] - i) % TILE_K", FIRST512),
    Mutant("one window's weights", "x86/conv2d_first_avx512vnni.c", "tile->form == EIGHT ? twice(w) : w", "w", FIRST512),
    Mutant("one window's starts", "x86/conv2d_first_avx512vnni.c", "_mm512_storeu_si512(tile->start, twice(load64(tile->start)));", "", FIRST512),
    Mutant("first tile twice", "x86/conv2d_first_avx512vnni.c", "load64(weights + (tiles - 1) * tile_bytes)", "load64(weights)", FIRST512),
    Mutant("windows side by side", "x86/conv2d_first_avx512vnni.c", "_mm512_shuffle_epi8(v, apart)", "v", FIRST512),
    Mutant("output pixels with gaps as one run", "x86/conv2d_first_avx512vnni.c", "step == width && ", "", FIRST512),
    Mutant("store of whole vectors", "x86/conv2d_first_avx512vnni.c", " && tile->stored == low_bits(width)", "", FIRST512),
    Mutant("channels in front of the range", "x86/conv2d_first_avx512vnni.c", "~low_bits(ek_max(range->ch - channel, 0))", "~low_bits(0)", FIRST512),
    Mutant("large multipliers as small ones", "x86/conv2d_first_avx512vnni.c", ">= 1.0f", "> 1e30f", FIRST512),
    Mutant("last block behind the row", "x86/conv2d_first_avx512vnni.c", "ek_min(col, w->cols - b->windows)", "col", FIRST512),
    Mutant("output rows with gaps as one", "x86/conv2d_first_avx512vnni.c", " && w.out_next == w.cols * w.out_step", "", FIRST512),
    Mutant("rows of planes with gaps as one", "x86/conv2d_first_avx512vnni.c", "w.x_next == (ptrdiff_t)w.cols * TILE_K && ", "", FIRST512),
    Mutant("offset not made up for", "x86/depthwise_avx512vnni.c", "_mm512_slli_epi32(sum[q], 7)", "_mm512_slli_epi32(sum[q], 6)",
           DEPTHWISE512),
    Mutant("padding of zero", "x86/depthwise_avx512vnni.c", "outside = _mm512_set1_epi8((char)(p->x_zero + 128))",
           "outside = _mm512_set1_epi8((char)128)", DEPTHWISE512),
    Mutant("pairs of rows of zero above and below", "x86/depthwise_avx512vnni.c",
           "fill(cache->outside_pair, _mm512_set1_epi8((char)(p->x_zero + 128))", "fill(cache->outside_pair, _mm512_set1_epi8((char)128)",
           DEPTHWISE512),
    Mutant("row of zero above or below", "x86/depthwise_avx512vnni.c", "memset(outside, p->x_zero, sizeof outside);",
           "memset(outside, 0, sizeof outside);", DEPTHWISE512),
    Mutant("rows of the call before", "x86/depthwise_avx512vnni.c", "c->sums, c->pairing, 0, 0, 0}", "c->sums, c->pairing, 0, 1, 0}",
           DEPTHWISE512),
    Mutant("dilated rows taken for neighbours", "x86/depthwise_avx512vnni.c", "s.shares = p->dilation_h == 1 && ", "s.shares = ",
           DEPTHWISE512),
    Mutant("rows three apart taken for neighbours", "x86/depthwise_avx512vnni.c", "p->stride_h <= 2;", "p->stride_h <= 3;", DEPTHWISE512),
    Mutant("one order of channels for all units", "x86/depthwise_avx512vnni.c", "set * UNIT % s->pitch", "0", DEPTHWISE512),
    Mutant("weights of the first output row for both", "x86/depthwise_avx512vnni.c", "tap = 2 * i + 1 - row;", "tap = 2 * i + 1;",
           DEPTHWISE512),
    Mutant("weights for a pair that does not exist", "x86/depthwise_avx512vnni.c", "if (s->pairs * p->kernel_w % 2 != 0) /* the",
           "if (0) /* the", DEPTHWISE512),
    Mutant("large multipliers as small ones", "x86/depthwise_avx512vnni.c", "if (c->large)", "if (0)", DEPTHWISE512),
    Mutant("columns apart taken for neighbours", "x86/depthwise_avx512vnni.c", "== windows * s->sets * (2 * UNIT)", "!= windows - windows",
           DEPTHWISE512),
    Mutant("store of whole units", "x86/depthwise_avx512vnni.c", "walk->last : 0", "~(__mmask32)0 : 0", DEPTHWISE512),
    Mutant("store of units that do not exist", "x86/depthwise_avx512vnni.c", "else if (to.mask != 0)", "else if ((to.mask |= 1))", DEPTHWISE512),
    Mutant("store of whole pixels", "x86/depthwise_avx512vnni.c", "        _mm512_mask_storeu_epi8(y, pixel, load64(",
           "        _mm512_mask_storeu_epi8(y, pixel * 2 + 1, load64(", DEPTHWISE512),
    Mutant("load of whole pixels", "x86/depthwise_avx512vnni.c", "_mm512_maskz_loadu_epi8(pixel, from.x)", "load64(from.x)", DEPTHWISE512),
    Mutant("load of whole vectors", "x86/depthwise_avx512vnni.c", ": load_some(inner, from->x, left);", ": load64(from->x);",
           DEPTHWISE512),
    Mutant("pixels behind the image", "x86/depthwise_avx512vnni.c", "left > 32 ? mask : 0", "mask", DEPTHWISE512),
    Mutant("odd columns behind the image", "x86/depthwise_avx512vnni.c", "load_some(inner, from->x + CHUNK,", "load_some(1, from->x + CHUNK,",
           DEPTHWISE512),
    Mutant("whole vectors but the last", "x86/depthwise_avx512vnni.c", "for (; left > CHUNK; left", "for (; left >= CHUNK; left", DEPTHWISE512),
    Mutant("gaps between pixels as channels", "x86/depthwise_avx512vnni.c", "full = channels == pitch && p->in.w_stride == pitch;",
           "full = channels == pitch;", DEPTHWISE512),
    Mutant("output pixels with gaps as one run", "x86/depthwise_avx512vnni.c", " && s->pitch == p->out.w_stride;", ";", DEPTHWISE512),
    Mutant("two pixels as one run", "x86/depthwise_avx512vnni.c", "(to.y + apart)", "(to.y + UNIT / 2)", DEPTHWISE512),
    Mutant("second pixel where there is none", "x86/depthwise_avx512vnni.c", "if (to.mask == ~(__mmask32)0)\n            _mm_",
           "if (1)\n            _mm_", DEPTHWISE512),
    Mutant("chunk in front of the range", "x86/depthwise_avx512vnni.c", "if (wider > range->ch_end - range->ch)",
           "if (wider > range->ch_end)", DEPTHWISE512),
    Mutant("planes of the stride's remainder as one", "x86/depthwise_avx512vnni.c", "(w - column * p->stride_w) * (int32_t)s->plane_bytes",
           "0", DEPTHWISE512),
]  # fmt: skip

LISTED = {stem for stem, _, _ in listed_kernels()}
PAIRS = [(m, k) for m in SCALAR + VECTOR + COPIED_PAIRS + TRANSFORMS + AVX512VNNI for k in m.kernels if k in LISTED]


def sources_of(root: Path, kernel: str) -> list[Path]:
    """The kernel's file and those of the kernels that it may hand the rest to."""
    stem, kset = kernel.rsplit("_", 1)
    scalar = root / "scalar" / f"{stem}.c"
    if kset == "scalar":
        return [scalar]
    files = [root / "x86" / f"{kernel}.c"]
    for narrower in (root / "x86" / f"{stem}_avx2.c", root / "x86" / f"{stem}_sse41.c"):
        if narrower not in files and f"ek_{narrower.stem}(" in files[-1].read_text():
            files.append(narrower)
    return [*([scalar] if scalar.exists() else []), *files]  # some kinds have several kernels in a set


def build(mutant: Mutant, kernel: Kernel, folder: Path) -> Kernel:
    """`kernel` with the mutant's code behind it."""
    root = mutant.copied(folder)
    extra = ["-O1", "-Wno-unused", "-Wno-type-limits"] + (["-mfma", "-include", "immintrin.h"] if "_fmadd_" in mutant.new else [])
    compile_sources(sources_of(root, kernel.name), folder / "mutant.so", extra)
    symbol = f"ek_{kernel.name}"
    ffi.cdef(f"void {symbol}(const void *, const void *const *, void *, void *, const ek_range *);", override=True)
    return replace(kernel, run=getattr(ffi.dlopen(str(folder / "mutant.so")), symbol))


def compare_with_scalar(kernel: Kernel, kernels: list[Kernel]) -> None:
    """Holds a kernel to the scalar one among `kernels` on at least VALUES outputs.

    Raises:
        AssertionError: they differ, or the kernel dies at a guard page.
    """
    scalar = scalar_of(kernel.kind, kernels)

    def work(note: Callable[[str], None]) -> None:
        machine, values, seed = Machine(), 0, 0
        while values < VALUES:
            note(f"case {seed}")
            c = case(kernel.kind, seed, kernel.name)
            if (got := machine.run(kernel, c)) is not None:
                compare(kernel, c, got, machine.run(scalar, c))
                values += c.values
            seed += 1

    isolated(work)


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "name"), PAIRS, ids=[f"{k}-{m.name.replace(' ', '_')}" for m, k in PAIRS])
def test_mutant_is_caught(mutant: Mutant, name: str, kernels: list[Kernel], tmp_path: Path) -> None:
    """Some case tells the mutant from the scalar kernel, or the mutant dies at a guard page."""
    kernel = next((k for k in kernels if k.name == name), None)
    if kernel is None:
        pytest.skip("not part of this build")
    if reason := why_not_here(kernel.set):
        pytest.skip(reason)
    if "_fmadd_" in mutant.new and "fma" not in processor_flags():
        pytest.skip("the processor lacks fma")
    mutated = build(mutant, kernel, tmp_path)

    with pytest.raises(AssertionError):
        compare_with_scalar(mutated, kernels)


@pytest.mark.slow
def test_avxvnni_in_the_encoding_of_avx512(kernels: list[Kernel], tmp_path: Path) -> None:
    """conv2d_avxvnni gives the scalar kernel's bits where vpdpbusd exists in AVX-512's encoding alone, the prefix left out."""
    kernel = next((k for k in kernels if k.name == "conv2d_avxvnni"), None)
    if kernel is None:
        pytest.skip("not part of this build")
    if reason := why_not_here("avx512vnni"):
        pytest.skip(reason)
    encoded = build(Mutant("", "x86/vnni_avx2.h", "%{vex%} vpdpbusd", "vpdpbusd", ()), kernel, tmp_path)
    compare_with_scalar(encoded, kernels)
