/* SPDX-License-Identifier: Apache-2.0
 *
 * What a build of the runtime can do. `edgekit firmware` writes this file anew, without what its one model
 * does not need; the compiler then drops the code. A model that does need it is refused.
 */
#ifndef EK_BUILD_H
#define EK_BUILD_H

/* More than one thread; ek_create refuses more than it has. */
#define EK_BUILD_THREADS 1

/* Weights in another form than a kernel takes are decoded for it; else ek_create has no kernel for them. */
#define EK_BUILD_DECODING 1

/* Kernels that add an offset to their input, for whom sums begin elsewhere. */
#define EK_BUILD_OFFSETS 1

/* Encodings of weights beside DENSE; ek_open refuses a file with others. */
#define EK_BUILD_INTERLEAVED 1
#define EK_BUILD_SPARSE 1
#define EK_BUILD_PAIRED 1

/* Kernels that the file wants in place of those that ek_create would take; else it takes its own. */
#define EK_BUILD_CHOICES 1

/* Raw bytes as input, by tables; ek_open refuses a file that has them. */
#define EK_BUILD_RAW 1

#endif /* EK_BUILD_H */
