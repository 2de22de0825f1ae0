/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EK_SHA256_H
#define EK_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* FIPS 180-4. */
void sha256(const void *data, size_t bytes, uint8_t digest[32]);

#endif /* EK_SHA256_H */
