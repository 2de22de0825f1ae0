/* SPDX-License-Identifier: Apache-2.0
 *
 * MATMUL and MATMUL_TRANSPOSED: two activations.
 */
#include "check.h"
#include "operator.h"

static int is_one_matrix(const uint32_t *dims, uint32_t batch_rank)
{
    for (uint32_t i = 0; i < batch_rank; i++)
        if (dims[i] != 1)
            return 0;
    return 1;
}

/* The batch dimensions of y are a's; those of b are the same, or b is one matrix for all. */
static int batches_match(const ek_model *model, const ek_tensor_record *a,
                         const ek_tensor_record *b, const ek_tensor_record *y)
{
    const uint32_t *ad = ek_dims(model, a), *bd = ek_dims(model, b), *yd = ek_dims(model, y);
    const uint32_t batch_rank = a->rank - 2u;
    int same = 1;
    for (uint32_t i = 0; i < batch_rank; i++) {
        if (ad[i] != yd[i])
            return 0;
        same = same && bd[i] == ad[i];
    }
    return same || is_one_matrix(bd, batch_rank);
}

/* The records of both operators are the same. */
_Static_assert(sizeof(ek_matmul_record) == sizeof(ek_matmul_transposed_record),
               "one check for both");

static ek_status check(const ek_op *op, int transposed)
{
    const ek_model *model = op->model;
    const ek_matmul_record *p = ek_op_params(op);
    const ek_tensor_record *a = ek_op_input(op, 0), *b = ek_op_input(op, 1);
    const ek_tensor_record *y = ek_op_output(op);
    if (!ek_is_activation(model, a) || !ek_is_activation(model, b) ||
        !ek_is_activation(model, y) || a->rank < 2 || b->rank != a->rank || y->rank != a->rank ||
        !ek_is_clamp(p->lo, p->hi))
        return EK_ERROR_OPERATOR;
    const uint32_t *ad = ek_dims(model, a) + a->rank - 2, *bd = ek_dims(model, b) + b->rank - 2;
    const uint32_t *yd = ek_dims(model, y) + y->rank - 2;
    if (ad[0] != yd[0] || ad[1] != bd[transposed] || bd[!transposed] != yd[1] ||
        !batches_match(model, a, b, y))
        return EK_ERROR_OPERATOR;
    return ek_check_multiplier(p->multiplier,
                               ek_scale(model, a) * ek_scale(model, b) / ek_scale(model, y));
}

ek_status ek_check_matmul(const ek_op *op)
{
    return check(op, 0);
}

ek_status ek_check_matmul_transposed(const ek_op *op)
{
    return check(op, 1);
}

static void prepare(ek_builder *builder, const ek_op *op, int transposed)
{
    const ek_model *model = op->model;
    const ek_matmul_record *r = ek_op_params(op);
    const ek_shape a = ek_shape_of(model, ek_op_input(op, 0));
    const ek_shape b = ek_shape_of(model, ek_op_input(op, 1));
    const int32_t m = a.dims[a.rank - 2], k = a.dims[a.rank - 1];
    const int32_t n = b.dims[b.rank - 1 - transposed];
    ek_matmul_params p = {
        .batch = ek_shape_size(&a) / (m * k),
        .m = m,
        .n = n,
        .k = k,
        .a_batch_stride = m * k,
        .b_batch_stride = ek_shape_size(&b) == k * n ? 0 : k * n,
        .b_transposed = transposed,
        .a_zero = ek_zero_point(model, ek_op_input(op, 0)),
        .b_zero = ek_zero_point(model, ek_op_input(op, 1)),
        .multiplier = r->multiplier,
        .clamp = ek_clamp_of(model, ek_op_output(op), r->lo, r->hi),
    };
    if (p.b_batch_stride == 0) { /* one b: the batches of a are more rows of one matrix */
        p.m *= p.batch;
        p.batch = 1;
        p.a_batch_stride = p.m * k;
    }
    const ek_call call = {
        .kind = EK_KIND_MATMUL,
        .params = &p,
        .params_bytes = sizeof p,
        .in = {ek_op_input(op, 0), ek_op_input(op, 1)},
        .rows = p.batch * p.m,
        .cols = 1,
        .chs = n,
        .ch_step = 64,
        .work = (uint64_t)p.batch * (uint64_t)p.m * (uint64_t)n * (uint64_t)k,
    };
    ek_emit(builder, op, &call);
}

void ek_prepare_matmul(ek_builder *builder, const ek_op *op)
{
    prepare(builder, op, 0);
}

void ek_prepare_matmul_transposed(ek_builder *builder, const ek_op *op)
{
    prepare(builder, op, 1);
}
