/* SPDX-License-Identifier: Apache-2.0
 *
 * How the output of a step is cut into parts that threads compute side by side.
 */
#ifndef EK_SPLIT_H
#define EK_SPLIT_H

#include "instance.h"

/* The parts of a step whose kernel and `whole` are set. `work` is about as many multiply-accumulates;
 * channels are cut at multiples of `ch_step`, or not at all if it is 0. */
ek_cut ek_split(const ek_step *step, uint32_t threads, uint64_t work, int32_t ch_step);

#endif /* EK_SPLIT_H */
